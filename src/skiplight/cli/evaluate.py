"""`skiplight evaluate`: score vectors on word similarity, analogies, sequences, and by evaluations of plug-ins."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skiplight.cli.common import RUN_HELP, add_no_verify, load_vectors
from skiplight.errors import ConfigError, EvaluationError

log = logging.getLogger(__name__)


def evaluate(arguments: list[str]) -> int:
    """Score vectors on word similarity, analogies and by plug-ins: `skiplight evaluate RUN --similarity pairs.txt`."""
    parser = argparse.ArgumentParser("skiplight evaluate", description=evaluate.__doc__)
    parser.add_argument("run", type=Path, help=RUN_HELP)
    parser.add_argument(
        "--similarity",
        nargs="*",
        help="sets or files of word pairs; if nothing is given: wordsim353 simlex999, where they fit the vocabulary",
    )
    parser.add_argument(
        "--analogy", nargs="*", help="sets or files of analogy questions; if nothing is given: google, likewise"
    )
    parser.add_argument(
        "--hit-rate",
        "--hits",
        nargs="*",
        help="synthetic_sessions, or files of item sequences: lines, or FILE:COLUMN of Parquet, JSON lines or CSV",
    )
    parser.add_argument(
        "--restrict-vocabulary", type=int, default=30_000, help="number of most frequent words that may answer (30000)"
    )
    parser.add_argument(
        "--metrics",
        nargs="*",
        help="evaluations of plug-ins, NAME or '{NAME: {OPTION: VALUE}}'; default: those the run was trained with",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_no_verify(parser)
    options = parser.parse_args(arguments)
    from skiplight.evaluation.default_sets import fitting_sets
    from skiplight.evaluation.sets import SIMILARITY
    from skiplight.evaluation.suite import evaluate as score
    from skiplight.registry import load_plugins
    from skiplight.vectors.results import score_interval

    load_plugins()
    vectors = load_vectors(options)
    chosen = {name: getattr(options, name) for name in ("similarity", "analogy", "hit_rate")}
    metrics = None if options.metrics is None else _read_metrics(options.metrics)
    if options.metrics is None and not any(chosen.values()):  # what is named is evaluated, and nothing else
        metrics = _metrics_of_run(options.run)
        if all(sets is None for sets in chosen.values()):
            chosen["similarity"] = fitting_sets(SIMILARITY, vectors.vocabulary, "name them after --similarity")
            chosen["analogy"] = fitting_sets(["google"], vectors.vocabulary, "name it after --analogy")
            if not any([*chosen.values(), metrics]):
                raise EvaluationError("no set fits: name sets or files after --similarity, --analogy or --hit-rate")
    results = score(
        vectors,
        chosen["similarity"] or [],
        chosen["analogy"] or [],
        options.restrict_vocabulary,
        chosen["hit_rate"] or [],
        metrics,
    )
    failed = [result["error"] for result in results.values() if "error" in result]
    if options.json:
        for result in results.values():
            if (interval := score_interval(result)) is not None:
                result["interval"] = interval
        print(json.dumps(results, ensure_ascii=False))
        return 2 if failed else 0
    _print_results(results)
    if failed:
        raise EvaluationError("; ".join(failed))
    return 0


def _read_metrics(given: list[str]) -> dict[str, Any] | None:
    """Return the options of the evaluations that `--metrics` names."""
    import yaml

    from skiplight.config.validate import check_evaluations

    named: dict[str, Any] = {}
    for text in given:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--metrics {text} cannot be read: {error}") from None
        named |= value if isinstance(value, Mapping) else {text: None}
    return check_evaluations(named)


def _metrics_of_run(run: Path) -> dict[str, Any] | None:
    """Return the evaluations that a run was trained with; none for a folder of vectors."""
    from skiplight.training.run_folder import RunFolder

    folder = RunFolder(run)
    if not folder.config_file.exists():
        return None
    try:
        found: dict[str, Any] | None = folder.config().evaluation.metrics
    except ConfigError as error:
        log.warning("the run's own evaluations are left out: %s", error)
        return None
    return found


def _print_results(results: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from skiplight.vectors.results import count_of, score_interval

    table = Table("set", "score", "95 % interval", "of", "out of vocabulary")
    for name, result in results.items():
        if "score" in result:
            interval = score_interval(result)
            ends = "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
            oov, count = (f"{result['oov']:.1%}", count_of(result)) if "oov" in result else ("", "")
            table.add_row(escape(name), f"{result['score']:.3f}", ends, count, oov)
        if "popularity" in result:
            table.add_row(escape(f"{name} popularity"), f"{result['popularity']:.3f}")
            table.add_row(escape(f"{name} repeats, left out"), f"{result['repeats']:.1%}")
        parts = result.get("scores") or {key: result[key] for key in ("ndcg", "mrr") if key in result}
        for key, value in parts.items():
            table.add_row(escape(f"{name} {key}"), f"{value:.3f}")
        for section, (correct, total) in result.get("sections", {}).items():
            table.add_row(f"  {section}", f"{correct / total:.3f}" if total else "-", "", f"{total:,}", style="dim")
    if table.row_count:
        Console().print(table)
