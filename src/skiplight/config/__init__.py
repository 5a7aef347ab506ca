"""Options: their schema, their composition by Hydra from conf/ and a command line, and their validation.

Input: overrides and the config.yaml of runs. Output: checked `Config` objects, or errors that name the option.
"""

from __future__ import annotations

from pathlib import Path


def conf_dir() -> Path:
    """Return the folder of Hydra configs: the checkout's conf/ when imported from its src/, else the packaged one."""
    package = Path(__file__).parents[1]
    checkout = package.parents[1] / "conf"
    if package.parent.name == "src" and checkout.is_dir():
        return checkout
    return package / "conf"
