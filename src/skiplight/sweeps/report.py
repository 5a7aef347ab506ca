def report(folder, metric=None):
    pass
