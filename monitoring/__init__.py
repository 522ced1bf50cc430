"""Watches a model that serves: reads its streams into the prediction log, judges closed windows and asks for retraining.

A reader starts at `watch.watch`, one run of the monitor. Others use `archive.Archive` (the prediction log),
`calibration.calibrate` (the bounds of a model's signals) and `events.send` (events that Prefect has confirmed).
"""
