"""Farpoint under random disruptions, compared with what an undisturbed run decides.

script     what is published: pictures and vectors, good and bad
brokers    a cluster of real brokers that can be killed, paused and started again one by one
fleet      workers that can be, too, and the supervisor that restarts them
disruptions  what is done to both, at seeded random moments
oracle     what must be on the topics afterwards
run        all of it, once
"""
