"""What is in a data set and what is wrong with it, without a model (docs/check.md)."""
