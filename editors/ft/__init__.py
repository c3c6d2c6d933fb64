"""FT: fine-tuning of the last layer on the edit alone."""
