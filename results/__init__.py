"""The files of a result: what is in them, how they are written and read."""
