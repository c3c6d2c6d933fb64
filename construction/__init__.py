"""Makes records of the benchmark from facts: a language model says what the facts do not."""
