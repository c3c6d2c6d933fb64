"""Data sets in Parquet, records and pictures in one place, as the library `datasets` keeps them."""
