"""The command line: `skiplight VERB ...`, each verb a few lines over the library."""

from __future__ import annotations

import argparse
import json
import logging
import os
import select
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from skiplight import __version__
from skiplight.errors import ConfigError, EvaluationError, SkiplightError, Stopped

if TYPE_CHECKING:
    from skiplight.vectors import WordVectors

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb; 0 if it went well, 2 where the input was at fault, 1 where nobody reads on (`| head`)."""
    try:
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        if not _unread():
            raise
        # What is left in the buffer goes nowhere, rather than into a traceback when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _unread() -> bool:
    """Whether the standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(f"skiplight {__version__}")
        return 0
    verb = VERBS.get(arguments[0])
    _configure_logging()
    try:
        if verb is None:
            raise ConfigError(f"unknown verb `{arguments[0]}`: the verbs are {', '.join(VERBS)}")
        return verb(arguments[1:]) or 0
    except Stopped as stopped:
        print(f"skiplight: {stopped}", file=sys.stderr)
        return 128 + stopped.signal
    except SkiplightError as error:
        print(f"skiplight: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # while training, a signal is handled between two steps instead
        print("skiplight: interrupted", file=sys.stderr)
        return 130


def _usage() -> str:
    lines = [
        f"skiplight {__version__}: skip-gram embeddings with negative sampling",
        "",
        "usage: skiplight VERB ...",
        "",
    ]
    lines += [f"  {name:10} {(verb.__doc__ or '').splitlines()[0]}" for name, verb in VERBS.items()]
    return "\n".join([*lines, "", "`skiplight VERB --help` says more."])


def _configure_logging() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("skiplight").setLevel(logging.INFO)


def _training() -> ModuleType:
    """The training module, whose import costs seconds; Lightning says only what it warns of."""
    from skiplight import training

    # Lightning sets its level when it is imported, and would tell what hardware it has not found.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    return training


def train(arguments: list[str]) -> int:
    """Train a new run: `skiplight train data=files data.path=text.txt model.dim=100`."""
    if {"-h", "--help"} & set(arguments):
        _print_options()
        return 0
    if {"-m", "--multirun"} & set(arguments):
        from skiplight.sweeps.multirun import multirun

        return multirun([argument for argument in arguments if argument not in ("-m", "--multirun")])
    from skiplight.composition import compose
    from skiplight.runs import default_run_dir

    config = compose([argument for argument in arguments if argument != "--verify"])
    run_dir = Path(config.run_dir) if config.run_dir else default_run_dir(config)
    _report(_training().train(config, run_dir, verify="--verify" in arguments), run_dir)
    return 0


def resume(arguments: list[str]) -> int:
    """Go on with a run that was stopped or killed: `skiplight resume RUN`."""
    parser = argparse.ArgumentParser("skiplight resume", description=resume.__doc__)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--devices", type=_positive, help="devices of each machine from now on; default: as before")
    parser.add_argument("--num-nodes", type=_positive, help="machines from now on; default: as before")
    _add_verify(parser)
    given = parser.parse_args(arguments)
    summary = _training().resume(given.run, verify=given.verify, devices=given.devices, num_nodes=given.num_nodes)
    _report(summary, given.run)
    return 0


def compare(arguments: list[str]) -> int:
    """Train several objectives side by side: `skiplight compare experiment=softmax_vs_ns run_dir=comparison`."""
    if {"-h", "--help"} & set(arguments):
        _print_options()
        return 0
    from skiplight.composition import compose
    from skiplight.runs import default_run_dir

    config = compose(arguments)
    folder = Path(config.run_dir) if config.run_dir else default_run_dir(config)
    _training()
    from skiplight.comparison import compare as run

    run(arguments, folder)
    print((folder / "findings.md").read_text(encoding="utf-8"))
    print(f"comparison: {folder}")
    return 0


def sweep(arguments: list[str]) -> int:
    """Search options by a study: `skiplight sweep noise.exponent=interval(-1,1) --trials 30 run_dir=runs/study`."""
    parser = argparse.ArgumentParser(
        "skiplight sweep",
        description=sweep.__doc__ + " The same command again goes on with the study.",  # type: ignore[operator]
    )
    parser.add_argument("override", nargs="*", help="options as for `skiplight train`; several values are searched")
    parser.add_argument("--trials", type=int, help="how many trials the study is to have (all points of a grid)")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="begin no trial after so long")
    parser.add_argument("--workers", type=int, default=1, help="trials at once, each with its share of the cores (1)")
    parser.add_argument("--devices-per-trial", type=int, default=1, help="GPUs that each worker owns (1)")
    given = parser.parse_intermixed_args(arguments)
    from skiplight.composition import compose
    from skiplight.runs import default_run_dir
    from skiplight.sweeps.report import report as summarise
    from skiplight.sweeps.space import split
    from skiplight.sweeps.sweep import sweep as search

    overrides, space = split(given.override)
    config = compose(overrides)
    config.study.space = {**(config.study.space or {}), **space}
    folder = Path(config.run_dir) if config.run_dir else default_run_dir(config)
    search(
        config,
        folder,
        trials=given.trials,
        timeout=given.timeout,
        workers=given.workers,
        devices_per_trial=given.devices_per_trial,
    )
    summarise(folder)
    return 0


def report(arguments: list[str]) -> int:
    """Make the page of a run, a comparison, or a study with its table and figures: `skiplight report RUN`."""
    parser = argparse.ArgumentParser("skiplight report", description=report.__doc__)
    parser.add_argument("folder", type=Path, help="folder of a run, a comparison, a study or a multirun")
    parser.add_argument("--metric", help="study: figure to judge by; default: its own, or the first evaluation")
    given = parser.parse_args(arguments)
    from skiplight.comparison.runs import FILE
    from skiplight.runs import RunFolder

    run, comparison = RunFolder(given.folder).config_file.exists(), (given.folder / FILE).exists()
    if given.metric and (run or comparison):
        raise ConfigError(f"--metric {given.metric} is for a study or a multirun, and {given.folder} is neither")
    if run:
        from skiplight.page.run import write_run_page

        print(f"page: {write_run_page(given.folder)}")
    elif comparison:
        from skiplight.page.comparison import write_comparison_page

        print(f"page: {write_comparison_page(given.folder)}")
    else:
        from skiplight.sweeps.report import report as summarise

        summarise(given.folder, given.metric)
    return 0


def neighbors(arguments: list[str]) -> int:
    """The words nearest to given ones: `skiplight neighbors RUN paris music`."""
    parser = _query_parser("neighbors", neighbors.__doc__)
    parser.add_argument("word", nargs="+")
    options = parser.parse_args(arguments)
    from skiplight.evaluation.neighbors import neighbors as nearest

    vectors = _load(options)
    _print_nearest({word: nearest(vectors, word, options.k) for word in options.word}, options.json)
    return 0


def analogy(arguments: list[str]) -> int:
    """A is to B as C is to what: `skiplight analogy RUN france paris italy`."""
    parser = _query_parser("analogy", analogy.__doc__)
    for name in "abc":
        parser.add_argument(name)
    options = parser.parse_args(arguments)
    from skiplight.evaluation.neighbors import solve

    found = solve(_load(options), options.a, options.b, options.c, options.k)
    _print_nearest({f"{options.a} : {options.b} = {options.c} : ?": found}, options.json)
    return 0


def evaluate(arguments: list[str]) -> int:
    """Score vectors on word similarity and analogies: `skiplight evaluate RUN --similarity pairs.txt`."""
    parser = argparse.ArgumentParser("skiplight evaluate", description=evaluate.__doc__)
    parser.add_argument("run", type=Path, help="folder of a run, or of its vectors")
    parser.add_argument(
        "--similarity", nargs="*", default=["wordsim353", "simlex999"], help="sets or files of word pairs"
    )
    parser.add_argument("--analogy", nargs="*", default=["google"], help="sets or files of analogy questions")
    parser.add_argument(
        "--restrict-vocabulary", type=int, default=30_000, help="most frequent words to answer with (30000)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    _add_verify(parser)
    options = parser.parse_args(arguments)
    from skiplight.evaluation.suite import evaluate as score

    results = score(_load(options), options.similarity, options.analogy, options.restrict_vocabulary)
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


def _query_parser(verb: str, description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"skiplight {verb}", description=description)
    parser.add_argument("run", type=Path, help="folder of a run, or of its vectors")
    parser.add_argument("-k", type=int, default=10, help="how many words (10)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    _add_verify(parser)
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verify", action="store_true", help="compare all files with their checksums first")


def _load(options: argparse.Namespace) -> WordVectors:
    from skiplight.vectors import WordVectors

    return WordVectors.load(options.run, verify=options.verify)


def _print_nearest(found: dict[str, list[tuple[str, float]]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*map(escape, found))
    for row in zip(*found.values(), strict=True):
        table.add_row(*(escape(f"{word} {cosine:.3f}") for word, cosine in row))
    Console().print(table)


def export(arguments: list[str]) -> int:
    """Write vectors for other programs: `skiplight export RUN --format word2vec-binary --output vectors.bin`."""
    from skiplight.export import FORMATS
    from skiplight.export import export as write

    parser = argparse.ArgumentParser("skiplight export", description=export.__doc__)
    parser.add_argument("run", type=Path, help="folder of a run, or of its vectors")
    parser.add_argument("--format", choices=list(FORMATS))
    parser.add_argument("--output", type=Path, help="file or folder to write")
    parser.add_argument("--escape", action="store_true", help="escape white space in words, where the format has none")
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME", help="upload the vectors and their card to the Hub")
    _add_verify(parser)
    options = parser.parse_args(arguments)
    if (options.format is None) != (options.output is None) or not (options.format or options.push_to_hub):
        parser.error("give --format and --output together, or --push-to-hub")
    vectors = _load(options)
    if options.format:
        write(vectors, options.output, options.format, escape=options.escape)
        print(options.output)
    if options.push_to_hub:
        from skiplight.hub import push_to_hub
        from skiplight.vectors import vectors_folder

        print(push_to_hub(vectors_folder(options.run), options.push_to_hub))
    return 0


VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "resume": resume,
    "compare": compare,
    "sweep": sweep,
    "report": report,
    "neighbors": neighbors,
    "analogy": analogy,
    "evaluate": evaluate,
    "export": export,
}


def _print_options() -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from skiplight.config import conf_dir
    from skiplight.options import describe_options

    console = Console()
    console.print("usage: skiplight train [--verify] [GROUP=CHOICE ...] [OPTION=VALUE ...]\n")
    for group in sorted(path for path in conf_dir().iterdir() if path.is_dir()):
        console.print(f"  {group.name}= {', '.join(sorted(path.stem for path in group.glob('*.yaml')))}")
    table = Table("option", "default", "range", "", box=None, pad_edge=False)
    for row in describe_options():
        table.add_row(*map(escape, row))
    console.print()
    console.print(table)


def _report(summary: dict, run_dir: Path) -> None:
    """What came of a run, in a few lines on the screen; nothing on other ranks than the first, which know nothing."""
    if not summary:
        return
    from skiplight.runs import RunFolder

    print(
        f"{summary['tokens']:,} tokens in {summary['seconds']['train']:.1f} s of training "
        f"({summary['words_per_second']:,} words/s), loss {summary['loss']:.4f}"
    )
    for name, result in summary["evaluation"].items():
        if "error" in result:
            print(result["error"])
        elif "perplexity" in result:
            print(f"{name}: perplexity {result['perplexity']:,.1f} over {result['pairs']:,} pairs")
        else:
            print(f"{name}: {result['score']:.3f} ({result['oov']:.1%} out of vocabulary)")
    for word, found in summary["neighbors"].items():
        print(f"{word}: {', '.join(near for near, _ in found)}")
    print(f"run: {run_dir}")
    if (page := RunFolder(run_dir).report).exists():
        print(f"page: {page}")


if __name__ == "__main__":
    sys.exit(main())
