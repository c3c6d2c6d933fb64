"""What surrounds a run: its parts from a checked configuration, its start, its processes."""
