"""From a model to a version: `train_challenger` publishes it, `gate` decides about it, `apply_verdict` moves the champion alias;
`retrain_request` is how a retraining is requested and answered."""
