"""Work with the model that serves: batch prediction, replay of the past over HTTP, and the run of the monitor."""
