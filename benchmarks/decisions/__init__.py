"""What decisions about training and promoting are worth: policies, gate and findings on several sets, by the backtest."""
