"""Readers: where records come from."""
