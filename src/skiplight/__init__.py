"""skiplight: skip-gram embeddings with negative sampling, as PyTorch Lightning experiments."""

__version__ = "0.1.0"
