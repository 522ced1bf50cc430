"""Randomized faults on a living stack, counted from its parts: `make faults`."""
