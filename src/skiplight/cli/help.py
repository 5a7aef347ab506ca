"""Help on options: `--help` lists their groups, `--help GROUP` the options of one, `--help all` every option."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import itertools
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skiplight.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

USAGE = """\
usage: skiplight train [--verify] [GROUP=CHOICE ...] [OPTION=VALUE ...]
       skiplight train -m [--workers N] [OPTION=VALUE,VALUE ...]   every combination
       skiplight train --cfg job | --info defaults | --hydra-help
configs of your own: --config-dir DIR, --config-name NAME; completion: skiplight -sc install=bash
"""


def print_help(arguments: Sequence[str]) -> None:
    """Print the groups of options, or the options that the arguments beside `--help` name by group or by name.

    Raises:
        ConfigError: there is no such group or option, or a plug-in cannot be loaded.
    """
    from rich.console import Console

    from skiplight.config.compose import named_plugins
    from skiplight.config.validate import describe_options
    from skiplight.registry import load_plugins

    load_plugins(named_plugins(arguments))
    options = list(describe_options())
    wanted = [name for name in arguments if "=" not in name and not name.startswith("-")]
    console = Console(highlight=False)
    if not wanted:
        _print_groups(console, options)
    for name in wanted:
        dotted = name.replace("/", ".")
        inside = [option for option in options if name == "all" or f"{option[0]}.".startswith(f"{dotted}.")]
        groups = [group for group in choices_of_groups() if name == "all" or group.replace("/", ".") == dotted]
        if not inside and not groups:
            near = difflib.get_close_matches(name, [*_summaries(), *choices_of_groups(), *(o[0] for o in options)], n=1)
            hint = f" (did you mean `{near[0]}`?)" if near else ""
            raise ConfigError(f"`--help {name}`: there is no such group or option{hint}; `--help` lists the groups")
        for group in groups:
            for choice, comment in choices_of_groups()[group].items():
                _print_entry(console, f"{group}=", choice, "", comment)
        for option, default, allowed, text in inside:
            _print_entry(console, option, f"={default}" if default else "", allowed, text)


def choices_of_groups() -> dict[str, dict[str, str]]:
    """Return what each group can be set to, `{"trainer": {"cpu": "One process on the CPU, ..."}}`.

    These are the files of conf/, with the first sentences of their comments, and registered names.
    """
    from skiplight.config import conf_dir
    from skiplight.registry import REGISTRIES, TARGETS

    found: dict[str, dict[str, str]] = {}
    for folder in sorted({path.parent for path in conf_dir().rglob("*/*.yaml")}):
        group = folder.relative_to(conf_dir()).as_posix()
        choices = dict.fromkeys((REGISTRIES | TARGETS).get(group.replace("/", "."), ()), "")
        choices |= {path.stem: _comment(path) for path in folder.glob("*.yaml")}
        found[group] = dict(sorted(choices.items()))
    return found


def _comment(path: Path) -> str:
    """Return the comment at the head of a file of conf/."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines if not line.startswith("# @package"))


def _summaries() -> dict[str, str]:
    """Return what each group or ungrouped option is for."""
    from skiplight.config.schema import Config

    kinds = typing.get_type_hints(Config)
    return {
        field.name: (inspect.getdoc(kinds[field.name]) or "").partition("\n")[0]
        if dataclasses.is_dataclass(kinds[field.name])
        else field.metadata["help"]
        for field in dataclasses.fields(Config)
    }


def _print_groups(console: Console, options: list[tuple[str, str, str, str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print(USAGE, markup=False, soft_wrap=True)
    table = Table("group", "", "options", box=None, pad_edge=False)
    table.columns[2].justify = "right"
    choices = choices_of_groups()
    summaries = _summaries()
    for name in [*summaries, *(group for group in choices if group not in summaries)]:
        count = sum(f"{option[0]}.".startswith(f"{name}.") for option in options)
        lines = [escape(summaries.get(name, ""))]
        lines += [f"[cyan]{name}=[/][dim]{', '.join(choices[name])}[/]"] if name in choices else []
        table.add_row(f"[bold]{name}[/]", "\n".join(filter(None, lines)), str(count) if count else "")
    console.print(table)
    console.print("\n`--help GROUP` shows the options of a group, `--help OPTION` one, `--help all` every one.")


def _print_entry(console: Console, name: str, value: str, allowed: str, text: str) -> None:
    from rich.markup import escape
    from rich.padding import Padding

    limits = f"   [dim]{escape(allowed)}[/]" if allowed else ""
    console.print(f"[bold]{escape(name)}[/][green]{escape(value)}[/]{limits}")
    if text:
        console.print(Padding(escape(text), (0, 0, 0, 6), expand=False))
