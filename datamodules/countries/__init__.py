"""A real world from packages alone: countries with facts, flags and maps."""
