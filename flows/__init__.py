"""Stories: the flows, each readable aloud."""
