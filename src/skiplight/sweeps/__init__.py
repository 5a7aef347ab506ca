"""Studies: many runs over a search space, shared out among workers, pruned, gone on with, and summed up."""
