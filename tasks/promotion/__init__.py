"""From a model to a version: `train_challenger` makes a draft, `gate` decides about it, `publish_challenger` and
`apply_verdict` write what was decided;
`retrain_request` is how a retraining is requested and answered."""
