"""Backtest: what each policy of retraining would have cost on the user's own history.

`plan_history` cuts the history into windows, `train_matrix` trains a model at each window's start and scores it on all later
ones; everything else is a look-up in that matrix: `Study` lives through the windows under each policy, `build_report` says in
words what pays.
"""
