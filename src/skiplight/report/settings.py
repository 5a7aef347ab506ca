"""The options of a run, with what each means and whether it differs from its default, for the page's table."""

from __future__ import annotations

from typing import Any

from skiplight.config.schema import EXPERIMENT_GROUPS, Config
from skiplight.config.validate import describe_options, run_options

OWN = ("run_dir", "data.store")
"""Options that say where a run lies, and not what it is."""


def list_settings(config: Config) -> list[dict[str, Any]]:
    """Every option of a run: name, value, default, help, and `changed`."""
    values, defaults = flatten_options(config), flatten_options(Config())
    return [
        {
            "name": name,
            "value": format_value(values[name]),
            "default": format_value(defaults[name]),
            "help": help,
            "changed": name not in OWN and values[name] != defaults[name],
        }
        for name, _, _, help in describe_options()
        if name.partition(".")[0] not in EXPERIMENT_GROUPS
    ]


def flatten_options(config: Config) -> dict[str, Any]:
    """The options of a run by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in run_options(config).items():
        found |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return found


def format_value(value: Any) -> str:
    """A value as the command line takes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(format_value, value))}]" if isinstance(value, list) else str(value)
