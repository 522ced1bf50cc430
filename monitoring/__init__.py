"""Watches: reads the prediction stream, archives it, judges windows and decides."""
