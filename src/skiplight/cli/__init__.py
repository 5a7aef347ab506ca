"""The command line, `skiplight VERB ...`: a file for each verb, thin over the library.

In come arguments; out go exit codes, what is printed, and one line for each error.
"""

from skiplight.cli.verbs import main

__all__ = ["main"]
