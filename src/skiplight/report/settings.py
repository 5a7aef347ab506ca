"""The options of a run with help, default and changes, for the table of its page."""

from __future__ import annotations

from typing import Any

from skiplight.config.schema import EXPERIMENT_GROUPS, Config
from skiplight.config.validate import default_value, describe_options, get_option, iterate_options

OWN = ("run_dir", "data.store")
"""Options that are locations, never marked as changed."""


def list_settings(config: Config) -> list[dict[str, Any]]:
    """Return name, value, default, help and `changed` of every option of a run."""
    own, defaults = dict(iterate_options(config)), {name: default_value(field) for name, field in iterate_options()}
    settings = []
    for name, _, _, help in describe_options():
        if name.partition(".")[0] not in EXPERIMENT_GROUPS and name in own:
            value, default = get_option(config, name), defaults[name]
            texts = {"value": format_value(value), "default": format_value(default), "help": help}
            settings.append({"name": name, **texts, "changed": name not in OWN and value != default})
    return settings


def format_value(value: Any) -> str:
    """Return a value in the syntax of the command line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {format_value(inner)}' for key, inner in value.items())}}}"
    return f"[{', '.join(map(format_value, value))}]" if isinstance(value, list) else str(value)
