"""A run: its folder, its components made from options, the LightningModule, and the fit from beginning to end.

In comes a checked `Config`; out goes a run folder with metrics, checkpoints, vectors and a summary.
"""
