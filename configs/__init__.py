"""Hydra configuration groups and their typed schema."""
