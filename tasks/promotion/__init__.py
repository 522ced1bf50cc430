"""From labelled rows to a champion: `train_challenger` makes a draft and its judge, `judge_challenger` asks the gate about it,
`publish_challenger` and `apply_verdict` write what was decided; `retrain_request` is how a retraining or a promotion is requested
and answered."""
