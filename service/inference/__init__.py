"""Answers requests: `PredictionAPI` is LitServe's API, `RequestBatcher` gathers what waits, `Predictor` does the work."""
