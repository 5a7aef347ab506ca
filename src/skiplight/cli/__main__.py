"""`python -m skiplight.cli` is `skiplight`."""

import sys

from skiplight.cli.verbs import main

if __name__ == "__main__":
    sys.exit(main())
