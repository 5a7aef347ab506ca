"""Comparisons: the same model on the same text under several objectives, and how each converges.

Input: the options of a comparison. Output: its runs, trials.csv, findings.md, and a plot per view.
"""
