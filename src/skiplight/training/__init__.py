"""A run: its folder, its components built from options, the LightningModule, and the fit from start to end.

Input: a checked `Config`. Output: a run folder with metrics, checkpoints, vectors and a summary.
"""
