"""The composition root: the command line, the local stack, automations and the demo."""
