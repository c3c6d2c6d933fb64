"""Knowledge editors: an edit is a value that is applied per row, never a changed base model."""
