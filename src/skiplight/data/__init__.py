"""Blocks of tokens in the order of an epoch, and the LightningDataModule that gives them to the ranks and the device.

In come a token store or a stream; out go blocks, or the windows and negatives of blocks.
"""
