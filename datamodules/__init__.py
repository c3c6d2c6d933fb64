"""Records, readers, scenarios, tokenisation and the shared LightningDataModule."""
