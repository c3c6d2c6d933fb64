"""LightningModules and callbacks: training of editors, evaluation, scoring, generation."""
