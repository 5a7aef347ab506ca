"""Shell completion by Hydra: `eval "$(skiplight -sc install=bash)"`, once per shell.

Hydra's function for the shell calls `skiplight -sc query=bash` with the line in $COMP_LINE. The verb is completed here;
for what follows it, Hydra gets the line without the verb.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence

from skiplight.errors import ConfigError

COMPOSING = ("train", "sweep", "compare")
"""Verbs whose arguments are options; the others take a folder, which shells complete themselves."""

SHELLS = ("bash", "fish")


def complete(words: Sequence[str], verbs: Collection[str] = ()) -> int:
    """Print the function that a shell installs, or what may follow the line in $COMP_LINE.

    Args:
        words: the arguments after -sc, install=SHELL, uninstall=SHELL or query=SHELL; zsh uses bash's.
        verbs: the verbs, to complete the first word by.

    Raises:
        ConfigError: another word than one of these.
    """
    action, _, shell = (words[0] if len(words) == 1 else "").partition("=")
    if action not in ("install", "uninstall", "query") or shell not in SHELLS:
        raise ConfigError(f"-sc {' '.join(words)}: give install=bash (for zsh too), install=fish, or uninstall=...")
    if action == "query":
        line = os.environ.get("COMP_LINE", "")
        _, _, typed = line.partition(" ")
        verb, space, rest = typed.lstrip().partition(" ")
        if not space:
            print(" ".join(name for name in verbs if name.startswith(verb)))
            return 0
        if verb not in COMPOSING:
            return 0
        os.environ["COMP_LINE"] = f"skiplight {rest}"
    from skiplight.config.compose import run_hydra
    from skiplight.config.flags import split_flags
    from skiplight.registry import load_plugins

    flags: list[str] = []
    if action == "query":
        load_plugins()
        try:
            source, others = split_flags([word for word in rest.split() if word not in ("-m", "--multirun")])
        except ConfigError:
            return 0  # a folder that is not complete yet
        flags = source.flags
        os.environ["COMP_LINE"] = " ".join(["skiplight", *others]) + (" " if rest.endswith(" ") else "")
        if not others:
            os.environ["COMP_LINE"] = "skiplight "
    sys.stdout.flush()
    return run_hydra([*flags, "-sc", words[0]], lambda _: None)
