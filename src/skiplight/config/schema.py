"""All options: type, default, range and one line of help each; unknown options are refused.

The dataclasses below are the schema for Hydra (conf/ overrides their defaults by group) and for the config.yaml of a
run. Amounts of text are counted in in-vocabulary tokens before subsampling.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from skiplight.registry import config_class, load_built_in, option


@dataclasses.dataclass
class DataConfig:
    """The source of the text, and its conversion to blocks of tokens; each source adds its own options."""

    source: str = option("vital", "source of the text")
    streaming: bool = option(False, "encode the text while training instead of storing its tokens")
    document: str = option("document", "unit of text that is one document", choices=["document", "paragraph", "line"])
    normalise: str = option("text8", "text8: a-z; unicode: letters, marks, digits; none: split at white space only")
    store: str | None = option(None, "folder of token stores; default: the user's cache")
    heldout: float = option(0.01, "share of the text that is used for evaluation only", low=0, high=0.5)
    tokens: int | None = option(None, "tokens per epoch, for a stream of unknown size", low=1)
    block_tokens: Any = option("auto", "tokens per step; auto: the engine's default, at most 1/200 of the run")
    workers: int = option(0, "processes that load blocks in advance; 0: none", low=0, high=1024)


@dataclasses.dataclass
class VocabularyConfig:
    """Which words get vectors."""

    min_count: int = option(5, "drop words that occur less often", low=1)
    max_size: int | None = option(None, "largest number of words; the most frequent are kept", low=2)
    path: str | None = option(
        None, "words and counts to use unchanged: of another run, or of a file of them, as `word count` per line"
    )
    grow: bool = option(False, "add this text's words and counts to those of vocabulary.path")


@dataclasses.dataclass
class SamplingConfig:
    """Windows, subsampling, and the direction of pairs."""

    window: int = option(5, "largest half-width of a window; half-widths are uniform from 1 to this", low=1, high=100)
    subsample: float = option(1e-3, "relative frequency above which words are subsampled; 0: off", low=0, high=1)
    input: str = option(
        "context",
        "input word: context words predict the centre, or the centre predicts context words",
        choices=["context", "centre"],
    )


@dataclasses.dataclass
class NoiseConfig:
    """The noise distribution and its draws; each distribution adds its own options."""

    name: str = option("power", "noise distribution; power: P_n(w) ∝ count(w)^exponent")
    negatives: int = option(5, "negatives per window or pair (K)", low=1, high=4096)
    shared: str = option("window", "whether the pairs of a window share their negatives", choices=["window", "pair"])
    exclude: str = option(
        "auto",
        "words excluded as negatives (window: not with nce, sampled_softmax); auto: none with those two, else target",
        choices=["auto", "none", "target", "window"],
    )


@dataclasses.dataclass
class ModelConfig:
    """The two embedding tables."""

    dim: int = option(100, "length of the vectors", low=1, high=65536)
    bias: str = option(
        "auto",
        "output bias: none, fixed at log p(o), or learned from there; auto: the objective's default",
        choices=["auto", "none", "unigram", "learned"],
    )
    init_from: str | None = option(
        None, "initial vectors, for the words in common: a run, or a file of word2vec, GloVe or fastText (.vec)"
    )


@dataclasses.dataclass
class ObjectiveConfig:
    """The scoring rule; each objective adds its own options."""

    name: str = option("negative_sampling", "scoring rule")


@dataclasses.dataclass
class EngineConfig:
    """How the objective moves the tables."""

    name: str = option("auto", "auto: the fastest that supports the options", choices=["auto", "fused", "autograd"])


@dataclasses.dataclass
class ScheduleConfig:
    """The learning rate over the tokens of the run, as a factor of `optim.lr`; each schedule adds its own options."""

    name: str = option("linear", "learning-rate schedule; linear: falls to 1/10,000 of optim.lr, as in word2vec")


@dataclasses.dataclass
class OptimConfig:
    """The optimiser and its learning rate."""

    name: str = option("sgd", "a class of torch.optim, upper or lower case: sgd, adagrad, sparse_adam, adam, ...")
    lr: float = option(0.025, "learning rate, which the schedule multiplies by a factor", above=0)
    args: Any = option(None, "further arguments of the optimiser by name, as in optim.args.momentum=0.9")
    schedule: ScheduleConfig = dataclasses.field(default_factory=lambda: chosen("optim.schedule", "linear"))


@dataclasses.dataclass
class TrainerConfig:
    """Duration and devices, and the arguments of Lightning's Trainer that a run can honour.

    `skiplight.config.trainer_arguments` has the reasons why a run refuses the others.
    """

    max_epochs: int = option(5, "passes over the text", low=1)
    max_tokens: int | None = option(None, "tokens to train on; overrides max_epochs", low=1)
    max_time: Any = option(None, "time after which training ends: DD:HH:MM:SS, or a mapping such as {hours: 8}")
    accelerator: str = option("auto", "auto: a GPU if available", choices=["auto", "cpu", "cuda", "gpu"])
    devices: int = option(1, "devices per machine", low=1)
    num_nodes: int = option(1, "number of machines", low=1)
    precision: str = option(
        "32-true",
        "as for Lightning's Trainer; 16-mixed on GPUs only",
        choices=["32-true", "bf16-mixed", "16-mixed", "64-true"],
    )
    threads: int | None = option(None, "CPU threads per rank; default: its share of the cores", low=1)
    accumulate_grad_batches: int = option(1, "engine=autograd: batches whose gradients make a step", low=1)
    gradient_clip_val: float | None = option(
        None, "engine=autograd with dense gradients (optim.name=adam): clip gradients at this", above=0
    )
    gradient_clip_algorithm: str | None = option(
        None, "clip by the norm (default) or every value", choices=["norm", "value"]
    )
    deterministic: Any = option(False, "the same bits every time, true, false or warn; slower on several threads")
    detect_anomaly: bool = option(False, "engine=autograd: find the operation whose gradient is not finite")
    profiler: str | None = option(
        None, "measure where time goes, to RUN/profile", choices=["simple", "advanced", "pytorch"]
    )
    fast_dev_run: Any = option(False, "a test of everything: train on one batch (true) or so many, log nothing")
    limit_train_batches: Any = option(None, "train on the first batches of every epoch: a number, or a share below 1")
    overfit_batches: Any = option(0, "train on the same first batches in every epoch: a number, or a share below 1")
    log_every_n_steps: int = option(50, "steps between the lines of callbacks such as LearningRateMonitor", low=1)
    enable_progress_bar: bool = option(True, "whether a progress bar is shown")
    enable_model_summary: bool = option(False, "whether the layers and their sizes are printed")
    enable_autolog_hparams: bool = option(True, "whether loggers get the options as hyperparameters")


@dataclasses.dataclass
class EvaluationConfig:
    """Evaluation sets and their limits."""

    every: int | None = option(None, "tokens between evaluations; default: at the end only", low=1)
    similarity: list[str] = option(
        ["auto"],
        "word similarity: wordsim353, simlex999, files of two words and judgements (FILE:COLUMN names one); auto: the"
        " first two, if they fit the text",
    )
    analogy: list[str] = option([], "analogy sets: google, or files in its format")
    hit_rate: list[str] = option(
        [], "sequences for the hit rate at 10 of their last item: synthetic_sessions, or files (FILE:COLUMN of tables)"
    )
    metrics: Any = option(None, "further evaluations, of plug-ins: [name], or {name: {option: value}}")
    words: list[str] = option([], "words whose neighbours are shown")
    heldout_pairs: int = option(200_000, "most held-out pairs for the perplexity; 0: no perplexity", low=0)
    validation: float = option(
        0.0,
        "share of the held-out text that only chooses between runs: validation/perplexity, which heldout/perplexity"
        " leaves out",
        low=0,
        high=0.9,
    )
    restrict_vocabulary: int = option(30_000, "number of most frequent words that may answer analogies", low=2)


@dataclasses.dataclass
class CheckpointConfig:
    """Interval and number of checkpoints."""

    every: float = option(60.0, "seconds between checkpoints", above=0)
    keep: int = option(2, "newest checkpoints to keep; none for a finished run of a comparison or study", low=1)


@dataclasses.dataclass
class WandbConfig:
    """Weights & Biases."""

    offline: bool = option(True, "keep the run in its folder, for `wandb sync`, instead of sending it")
    entity: str | None = option(None, "user or team that the run belongs to; default: that of the account")
    project: str = option("skiplight", "project")
    group: str | None = option(None, "group of runs; default: the folder of an experiment")
    tags: list[str] = option([], "tags of the run")
    artifact: bool = option(False, "log the vectors as an artifact of type model")


@dataclasses.dataclass
class CsvConfig:
    """A metrics.csv in RUN/csv."""


@dataclasses.dataclass
class TensorBoardConfig:
    """Event files in RUN/tensorboard."""


@dataclasses.dataclass
class MlflowConfig:
    """MLflow."""

    experiment_name: str = option("skiplight", "experiment")
    tracking_uri: str | None = option(None, "server or store; default: $MLFLOW_TRACKING_URI, else RUN/mlflow.db")


LOGGERS: dict[str, type] = {
    "wandb": WandbConfig,
    "csv": CsvConfig,
    "tensorboard": TensorBoardConfig,
    "mlflow": MlflowConfig,
}
"""The options of each logger that `logger=` knows by name; others are named by `_target_`."""


@dataclasses.dataclass
class DistributedConfig:
    """Exchanges between several ranks."""

    bytes_per_token: float = option(
        100.0,
        "engine=fused: bytes that a machine (or GPU) sends to the others per token of the run; more keep tables closer "
        "together, fewer suit a slow network",
        above=0,
    )
    timeout: float = option(1800.0, "seconds that a rank waits for the others in an exchange", above=0)


@dataclasses.dataclass
class StudyConfig:
    """The study of `skiplight sweep`, each trial of which is a run with the options of `skiplight train`."""

    storage: str | None = option(
        None, "URL of an Optuna RDB storage, as sqlite:////tmp/studies.db; default: journal.log in the study's folder"
    )
    space: Any = option(None, "options to search, each with a list of values or a range {low, high, step, log}")
    metric: Any = option(
        "evaluation/wordsim353",
        "metric to optimise: evaluation/SET, heldout/perplexity, loss, seconds/train or another of the summary; a list "
        "of two searches for their Pareto front",
    )
    direction: Any = option(None, "maximize or minimize, or a list for two metrics; default: by metric")
    sampler: str = option(
        "tpe",
        "sampler of the options of trials",
        choices=["grid", "random", "tpe", "gp", "cmaes", "nsgaii", "qmc", "auto"],
    )
    sampler_args: Any = option(None, "arguments of Optuna's sampler, as {multivariate: true} for tpe")
    pruner: str = option(
        "none",
        "rule that stops poor trials early; with asha and hyperband they pause, and the best go on from there",
        choices=["none", "median", "percentile", "wilcoxon", "halving", "asha", "hyperband"],
    )
    pruner_args: Any = option(None, "arguments of Optuna's pruner median, percentile or wilcoxon, as {percentile: 10}")
    rungs: int = option(
        2, "asha, hyperband: number of rungs; trials pause at 1/3, 1/9, 1/27, ... of a run", low=1, high=12
    )
    warmup: int = option(0, "evaluations of a trial before it may be pruned", low=0)
    warmup_trials: int = option(5, "complete trials before one may be pruned", low=0)
    confirm: int = option(
        0, "number of best points that are trained again at the end, with 3 or more fresh seeds", low=0
    )
    seeds: int = option(1, "runs per point, with seeds from `seed` upwards, the same at every point", low=1)


@dataclasses.dataclass
class CompareConfig:
    """The runs of `skiplight compare`, which have the options of `skiplight train`."""

    variants: Any = option(
        None, "variants to compare, {label: [overrides]}; default: all objectives, with their defaults"
    )
    views: Any = option(
        None,
        "ways to train all variants, {name: {title, fixed: [overrides], search: [[overrides], ...]}}; each variant "
        "keeps its candidate of best validation perplexity; {label: search, others: search} gives searches by variant",
    )
    search: float = option(1.0, "share of a run's tokens that each candidate of a search trains on", above=0, high=1)
    seeds: int = option(3, "number of runs per variant, with seeds from `seed` upwards", low=1)
    points: int = option(10, "number of evaluations per run", low=1)


CHOSEN: dict[str, type] = {
    "data": DataConfig, "noise": NoiseConfig, "objective": ObjectiveConfig, "optim.schedule": ScheduleConfig
}  # fmt: skip
"""Groups whose options depend on the registered name that is chosen, and those that all names share."""

MAPPINGS = ("optim.args",)
"""Options that are mappings, whose entries are set one by one: `optim.args.momentum=0.9`."""


def chosen(group: str, name: str) -> Any:
    """Return the default options of a registered name.

    Raises:
        ConfigError: nothing is registered by this name.
    """
    load_built_in()
    return config_class(CHOSEN[group], group, name)()


@dataclasses.dataclass
class Config:
    """All options: those of a run, and those of studies and comparisons (`EXPERIMENT_GROUPS`)."""

    data: DataConfig = dataclasses.field(default_factory=lambda: chosen("data", "vital"))
    vocabulary: VocabularyConfig = dataclasses.field(default_factory=VocabularyConfig)
    sampling: SamplingConfig = dataclasses.field(default_factory=SamplingConfig)
    noise: NoiseConfig = dataclasses.field(default_factory=lambda: chosen("noise", "power"))
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    objective: ObjectiveConfig = dataclasses.field(default_factory=lambda: chosen("objective", "negative_sampling"))
    engine: EngineConfig = dataclasses.field(default_factory=EngineConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    trainer: TrainerConfig = dataclasses.field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    logger: Any = option(
        {"wandb": dataclasses.asdict(WandbConfig())},
        "loggers besides metrics.jsonl, {name: options}; logger=[wandb,csv] chooses, own ones have a `_target_`",
    )
    distributed: DistributedConfig = dataclasses.field(default_factory=DistributedConfig)
    study: StudyConfig = dataclasses.field(default_factory=StudyConfig)
    compare: CompareConfig = dataclasses.field(default_factory=CompareConfig)
    callbacks: Any = option(
        {}, "further callbacks, {name: {_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: ..., ...}}"
    )
    plugins: list[str] = option([], "modules or Python files that register objectives, noise distributions and others")
    seed: int = option(0, "seed of every random decision", low=0, high=2**32 - 1)
    run_dir: str | None = option(None, "folder of the run; default: runs/<time>-<data>")


EXPERIMENT_GROUPS = ("study", "compare")
"""Groups of options for several runs, which the config.yaml of a run omits."""
