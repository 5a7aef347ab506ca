"""The options of a run, with what each means and whether it differs from its default, for the page's table."""

from __future__ import annotations

from typing import Any

from skiplight.config.schema import ABOVE_RUNS, Config
from skiplight.config.validate import describe_options, of_run

OWN = ("run_dir", "data.store")
"""Options that say where a run lies, and not what it is."""


def settings(config: Config) -> list[dict[str, Any]]:
    """Every option of a run: name, value, default, help, and `changed`."""
    values, defaults = flat(config), flat(Config())
    return [
        {
            "name": name,
            "value": text(values[name]),
            "default": text(defaults[name]),
            "help": help,
            "changed": name not in OWN and values[name] != defaults[name],
        }
        for name, _, _, help in describe_options()
        if name.partition(".")[0] not in ABOVE_RUNS
    ]


def flat(config: Config) -> dict[str, Any]:
    """The options of a run by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in of_run(config).items():
        found |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return found


def text(value: Any) -> str:
    """A value as the command line takes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(text, value))}]" if isinstance(value, list) else str(value)
