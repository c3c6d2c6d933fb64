"""A page in the browser: edit facts of a model and ask it, in text and about pictures."""
