"""Full load for a bounded time: what grows that should not.

load       publishes as fast as the worker takes it
watch      memory, threads and file handles of worker and broker
slope      whether what was watched grows, with the interval
"""
