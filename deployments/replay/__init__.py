"""Living through the past of a table over HTTP, at the pace of the loop that follows it: `perennial replay` and the demo."""
