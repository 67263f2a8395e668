"""Hostile bytes at every door, in a process of their own: it must neither die, nor hang, nor swell.

mutation   what is done to real inputs
targets    the doors: decoders and parsers, with real inputs and the errors they may raise
victim     the process that tries inputs, one after another
run        starts victims, and notices when one dies or hangs
"""
