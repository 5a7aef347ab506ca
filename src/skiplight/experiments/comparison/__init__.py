"""Comparisons: the same model on the same text under several objectives, and how each converges.

In come the options of a comparison; out go its runs, trials.csv, findings and a plot per view.
"""
