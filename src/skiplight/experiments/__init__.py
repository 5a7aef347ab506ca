"""Many runs: sweeps, comparisons and Hydra's multirun, with the processes, cores and devices that they take.

In come the options of a study or a comparison; out go run folders, a table of trials and plots.
"""
