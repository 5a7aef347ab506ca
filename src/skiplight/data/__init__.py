"""The blocks of a text in the order of an epoch, and the LightningDataModule that loads them or their windows."""
