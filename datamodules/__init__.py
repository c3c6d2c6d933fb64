"""Records and their sources, scenarios, prompts to tokens, the one LightningDataModule, worlds."""
