"""Studies: search spaces, Optuna's samplers and pruners, tables and plots.

Input: the options of a study. Output: the runs of its trials, trials.csv, and the best trial as an experiment.
"""
