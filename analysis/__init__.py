"""Causal trace, second moment, knowledge neurons: one command, each with its table and figure."""
