"""`python -m skiplight.cli` is `skiplight`."""

from typing import NoReturn

from skiplight.cli.verbs import main
from skiplight.process import run_program


def run() -> NoReturn:
    """Run the command line as a program."""
    run_program(main)


if __name__ == "__main__":
    run()
