"""The model card vectors/README.md, in the format of the Hugging Face Hub."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import yaml

from skiplight.config.schema import Config
from skiplight.corpus.tokens import TokenText
from skiplight.registry import OBJECTIVES, own_options
from skiplight.vectors.results import describe_result

WIKIPEDIA = "Text by the contributors of Wikipedia (https://en.wikipedia.org), CC BY-SA."
CREDITS = {
    "vital": WIKIPEDIA,
    "afmck/text8": WIKIPEDIA,
    "Salesforce/wikitext": WIKIPEDIA,
    "wikimedia/wikipedia": WIKIPEDIA,
}
"""Credits of the presets' texts."""


def model_card(config: Config, text: TokenText, summary: dict[str, Any]) -> str:
    """Return the card of a trained run, Markdown after a YAML header; `summary` is the content of summary.json."""
    source = getattr(config.data, "name", None) or config.data.source
    credit = CREDITS.get(source)
    header: dict[str, Any] = {
        "library_name": "skiplight",
        "tags": ["word-embeddings", "skip-gram", "negative-sampling"],
    }
    if source != config.data.source:
        header["datasets"] = [source]
    if credit:
        header["license"] = "cc-by-sa-4.0"
    sampling = config.sampling
    rows = [
        ("words", f"{summary['vocabulary_size']:,}"),
        ("dimension", config.model.dim),
        ("trained on", f"{summary['tokens']:,} tokens, {summary['epochs']:.3g} epochs of {source}"),
        ("objective", _objective(config)),
        ("windows", f"up to {sampling.window} words either side, subsampling at {sampling.subsample:g}"),
        ("optimiser", f"{_optimizer(config)}, {summary['engine']} engine"),
        ("seed", config.seed),
    ]
    scores = [
        (name, describe_result(result)) for name, result in summary["evaluation"].items() if "error" not in result
    ]
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# Skip-gram vectors of {source}",
        "`vectors.safetensors` holds `input` (the word vectors) and `output`, float32 [words, dimension]; "
        "`vocabulary.tsv` the words in the order of their rows, with counts.",
        _table(("", ""), rows),
        _table(("evaluation", ""), scores) if scores else "",
        "## Licence and credit",
        (credit or f"The vectors are derived from {source}: its licence and its authors' terms apply.")
        + f" Made with skiplight {importlib.metadata.version('skiplight')}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _optimizer(config: Config) -> str:
    optim = config.optim
    args = "".join(f", {key} {value}" for key, value in (optim.args or {}).items())
    own = ", ".join(f"{key} {value}" for key, value in own_options("optim.schedule", optim.schedule).items())
    return f"{optim.name}{args}, learning rate {optim.lr:g}, {optim.schedule.name}{f' ({own})' if own else ''} schedule"


def _objective(config: Config) -> str:
    name, noise = config.objective.name, config.noise
    if not OBJECTIVES[name].target.needs_noise:
        return name
    options = ", ".join(f"{key} {value}" for key, value in own_options("noise", noise).items())
    return f"{name}, {noise.negatives} negatives, {noise.name} noise{f' ({options})' if options else ''}"


def _table(head: tuple[str, str], rows: list[tuple[str, Any]]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows)])
