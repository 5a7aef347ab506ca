"""The command line, `skiplight VERB ...`: one file per verb, which calls the library.

Input: arguments. Output: printed results, an exit code, and one line per error.
"""

from skiplight.cli.verbs import main

__all__ = ["main"]
