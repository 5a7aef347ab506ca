"""Experiments of many runs: sweeps, comparisons and Hydra's multirun, and the processes that train the runs.

Input: the options of a study or a comparison. Output: run folders, a table of trials, and plots.
"""
