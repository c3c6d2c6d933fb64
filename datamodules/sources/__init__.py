"""The data sources: one file each, found by its name (see datamodules/source.py)."""
