"""Word vectors on disk: read, exported, described by a model card, and sent to the Hub.

In comes a run folder; out go `WordVectors` and files that other programs read.
"""
