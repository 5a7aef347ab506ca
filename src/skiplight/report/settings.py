"""The options of a run with help, default and changes, for the table of its page."""

from __future__ import annotations

from typing import Any

from skiplight.config.schema import EXPERIMENT_GROUPS, Config
from skiplight.config.validate import describe_options, run_options

OWN = ("run_dir", "data.store")
"""Options that are locations, never marked as changed."""


def list_settings(config: Config) -> list[dict[str, Any]]:
    """Return name, value, default, help and `changed` of every option of a run."""
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
    """Return the options of a run by their dotted names."""
    values: dict[str, Any] = {}
    for name, value in run_options(config).items():
        values |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return values


def format_value(value: Any) -> str:
    """Return a value in the syntax of the command line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(format_value, value))}]" if isinstance(value, list) else str(value)
