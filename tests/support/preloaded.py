"""Loads, on import, what the commands of tests need, in the process that they are forked from."""

import skiplight.cli
import skiplight.config.compose
import skiplight.experiments.comparison.compare
import skiplight.experiments.multirun
import skiplight.experiments.sweeps.sweep
import skiplight.report.comparison
import skiplight.report.run
import skiplight.report.study  # noqa: F401
from skiplight.experiments.run_server import preload

preload()
