"""`skiplight evaluate`: score vectors on word similarity and analogies."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from skiplight.cli.common import add_no_verify, load_vectors
from skiplight.errors import EvaluationError


def evaluate(arguments: list[str]) -> int:
    """Score vectors on word similarity and analogies: `skiplight evaluate RUN --similarity pairs.txt`."""
    parser = argparse.ArgumentParser("skiplight evaluate", description=evaluate.__doc__)
    parser.add_argument("run", type=Path, help="folder of a run, or of its vectors")
    parser.add_argument(
        "--similarity", nargs="*", default=["wordsim353", "simlex999"], help="sets or files of word pairs"
    )
    parser.add_argument("--analogy", nargs="*", default=["google"], help="sets or files of analogy questions")
    parser.add_argument(
        "--restrict-vocabulary", type=int, default=30_000, help="number of most frequent words that may answer (30000)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_no_verify(parser)
    options = parser.parse_args(arguments)
    from skiplight.evaluation.suite import evaluate as score

    results = score(load_vectors(options), options.similarity, options.analogy, options.restrict_vocabulary)
    failed = [result["error"] for result in results.values() if "error" in result]
    if options.json:
        print(json.dumps(results, ensure_ascii=False))
        return 2 if failed else 0
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("set", "score", "out of vocabulary", "pairs or questions")
    for name, result in results.items():
        if "error" in result:
            continue
        table.add_row(
            escape(name),
            f"{result['score']:.3f}",
            f"{result['oov']:.1%}",
            f"{result.get('pairs', result.get('questions')):,}",
        )
        for section, (correct, total) in result.get("sections", {}).items():
            table.add_row(f"  {section}", f"{correct / total:.3f}" if total else "-", "", f"{total:,}", style="dim")
    Console().print(table)
    if failed:
        raise EvaluationError("; ".join(failed))
    return 0
