"""The benchmark of serving: ours and its peers with the same model and the same rows. `make bench-serve` runs it."""
