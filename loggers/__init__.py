"""Where curves and results go while a run goes on: metrics.csv, Weights & Biases."""
