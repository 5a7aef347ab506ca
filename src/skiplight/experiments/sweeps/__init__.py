"""Studies: spaces of options, samplers and pruners of optuna, workers, tables and plots.

In come the options of a study; out go the runs of its trials, trials.csv and the best trial as an experiment.
"""
