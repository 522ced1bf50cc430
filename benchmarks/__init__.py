"""Benchmarks of the paths where speed counts. `make bench` runs them; no test asserts a time."""
