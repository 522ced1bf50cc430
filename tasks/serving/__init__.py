"""Work with the model that serves: `score_table` in batch, `replay_table` over HTTP, and the monitor's run."""
