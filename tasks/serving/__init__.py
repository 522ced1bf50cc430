"""Work with the model that serves: `score_table` in batch, and `replay_table` over HTTP."""
