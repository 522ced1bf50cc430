"""What can go wrong with a benchmark; the message names the thing and the fix."""


class BenchError(Exception):
    """A run that cannot start, or whose figures would not be true."""
