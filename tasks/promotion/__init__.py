"""From a model to a version: requests to retrain, publication, the gate's decision, and the move of the champion alias."""
