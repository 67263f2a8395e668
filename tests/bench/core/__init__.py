"""Benchmarks of the numerical core: quality and speed, with the peers in the same run."""
