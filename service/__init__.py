"""Answers HTTP: the LitServe service, its champion watcher and its prediction log."""
