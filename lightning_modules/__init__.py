"""LightningModules: editor training, evaluation and the pretraining of tiny models."""
