"""Causal trace, second moment, knowledge neurons: one command, each with its table and figure."""

NOISE = 3.0  # standard deviations of the token embeddings (Meng et al. 2022)
STEPS, THRESHOLD = 20, 0.2  # of the integral, and part of the largest attribution (Dai et al. 2022)
TRACE, NUMBERS = "trace.json", "neurons.json"  # files of a trace's and of neurons' numbers
