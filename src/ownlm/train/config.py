"""TrainConfig: every setting of a training run, each with a description and a default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ..config import Config, editor_schema, merge, read_yaml, validate
from ..model.adapters import LoraConfig
from ..model.config import ModelConfig
from .canaries import CanaryConfig
from .objectives import ObjectiveConfig
from .objectives.language import CausalConfig

Paths = list[str]
Share = Annotated[float, Field(ge=0, lt=1)]
Tracked = Literal["jsonl", "tensorboard", "mlflow", "wandb"]


class MixEntry(Config):
    """One source of a mixture."""

    dataset: str
    """A dataset folder or a plain file, as data.train takes; a built data set's parts share this entry's weight."""
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Its share of the trained tokens, relative to the other entries'."""
    epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """At most this many passes over it."""


class DataConfig(Config):
    """What is read, and how it is cut."""

    train: Paths = Field(default_factory=list)
    """Dataset folders or files to train on: text, Markdown, JSON Lines or CSV. A data set made by 'ownlm data build' is
    its train split, each part by the weight and epochs it was built with."""
    validation: Paths = Field(default_factory=list)
    """The same for validation; none is the validation split of what data.train names, where that is a built data set,
    and otherwise no validation."""
    mix: list[MixEntry] = Field(default_factory=list)
    """Weighted sources in place of data.train."""
    length: int | None = None
    """The longest document in tokens; none is what the model and batch_tokens allow."""
    too_long: Literal["refuse", "drop", "cut"] = "refuse"
    """What to do with a document longer than that: refuse it, drop it, or, where it is to be classified, cut it, which
    keeps its beginning. A text that is learned from for itself is always split, with no token lost."""

    @field_validator("train", "validation", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @property
    def sources(self) -> list[str]:
        """What data.train or data.mix names, in order."""
        return [entry.dataset for entry in self.mix] or self.train

    @model_validator(mode="after")
    def _sound(self) -> DataConfig:
        if self.train and self.mix:
            raise ValueError("give data.train or data.mix, not both")
        if self.length is not None and self.length < 2:
            raise ValueError("length must be at least 2: one token to read and one to predict")
        return self


class OptimizerConfig(Config):
    """How gradients become updates."""

    kind: Literal["adamw", "muon"] = "adamw"
    """adamw: AdamW (Loshchilov and Hutter 2019), fused. muon: Muon (Jordan 2024) for the hidden matrices at the same lr
    and weight_decay (Liu et al. 2025), AdamW for all else."""
    lr: float = Field(default=3e-4, gt=0, allow_inf_nan=False)
    """The highest learning rate."""
    weight_decay: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    """Decoupled decay of matrices and embeddings; biases, norms and adapters have none."""
    decay_embeddings: bool = True
    """Whether embeddings decay as matrices do."""
    betas: tuple[Share, Share] = (0.9, 0.95)
    """AdamW's decay of the first and second moments."""
    eps: float = Field(default=1e-8, gt=0, allow_inf_nan=False)
    """Added to the root of the second moment."""
    momentum: Share = 0.95
    """Muon's decay of the momentum."""
    newton_schulz: Literal["bf16", "fp32"] = "bf16"
    """What Muon makes a matrix orthogonal in."""
    states: Literal["float32", "eight_bit"] = "float32"
    """What the moments of matrices are kept in: float32 takes 8 bytes a parameter (Muon 4), eight_bit 2 (Muon 1)."""
    eight_bit_embeddings: bool = False
    """With eight_bit, the embeddings' moments too: they are kept in float32 otherwise (Dettmers et al. 2022)."""
    clip: float | None = Field(default=1.0, gt=0)
    """The largest norm of the whole gradient; none is no limit."""

    @model_validator(mode="after")
    def _sound(self) -> OptimizerConfig:
        if self.kind != "muon" and (self.momentum, self.newton_schulz) != (0.95, "bf16"):
            raise ValueError("momentum and newton_schulz are Muon's: give kind: muon, or betas for AdamW")
        if self.eight_bit_embeddings and self.states != "eight_bit":
            raise ValueError("eight_bit_embeddings needs states: eight_bit")
        return self


class ScheduleConfig(Config):
    """How the learning rate moves."""

    kind: Literal["cosine", "linear", "wsd", "inverse_sqrt", "constant"] = "cosine"
    """cosine: down along half a wave. linear: down along a line. wsd: warm up, stay, then decay (Hu et al. 2024).
    inverse_sqrt: down with the root of the step (Vaswani et al. 2017). constant: stay."""
    warmup: float = Field(default=0.03, ge=0, allow_inf_nan=False)
    """Steps of linear rise from 0; below 1, a share of all steps."""
    decay: float = Field(default=0.2, ge=0, le=1)
    """wsd: the share of all steps spent in the last decay."""
    shape: Literal["linear", "cosine", "sqrt"] = "linear"
    """wsd: how the last decay falls; sqrt is 1 - sqrt(progress) (Hägele et al. 2024)."""
    floor: float = Field(default=0.1, ge=0, le=1)
    """Where the decay ends, as a share of the highest rate; inverse_sqrt stays there once it is reached."""
    rewarm: float = Field(default=0.03, ge=0, allow_inf_nan=False)
    """Steps of linear change from the old rate to the new when a run that had begun to decay goes on to more steps (or
    fewer); below 1, a share of the steps to come."""

    @model_validator(mode="after")
    def _sound(self) -> ScheduleConfig:
        if self.shape != "linear" and self.kind != "wsd":
            raise ValueError(f"shape is wsd's, and {self.kind} has its own")
        return self


class EmaConfig(Config):
    """A running average of the trained weights, used for validation and for the result."""

    decay: float = Field(default=0.999, gt=0, lt=1)
    """The share of the average that an update keeps."""
    warmup: bool = True
    """Keep less at first, (1 + step) / (10 + step), so that the initial weights are soon forgotten."""


class ValidateConfig(Config):
    """When the held-out loss is measured."""

    every: int | None = Field(default=None, ge=1)
    """Steps between validations; none is ten times in the run."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many validations without a better one; none is never."""
    best: str = "loss"
    """What decides which validation is the best, whose weights are the result: loss, or another measure that the
    objective takes: accuracy of masked, classify, preference and seq2seq, macro_f1 of classify, f1 or exact of span."""
    tokens: int | None = Field(default=None, ge=1)
    """At most about this many tokens a validation, always the same ones; none is all of them."""


class EvaluateConfig(Config):
    """Tasks that are measured while the run goes on: before the first step, on the way, and after the last."""

    every: int | None = Field(default=None, ge=1)
    """Steps between evaluations; none is four times in the run."""
    tasks: list[str] = Field(default_factory=list)
    """Names of tasks, or task files ending in .yaml, as 'ownlm eval --task' takes them."""
    suites: list[str] = Field(default_factory=list)
    """Names of suites, whose tasks are measured as well."""
    shots: list[int] = Field(default_factory=lambda: [0])
    """Worked examples before each item; each number is measured."""
    limit: int | None = Field(default=None, ge=1)
    """The most items of a task: the first ones; none is all of them."""
    data: str | None = None
    """The folder that holds the tasks' data."""

    @field_validator("tasks", "suites", "shots", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | int) else value

    @model_validator(mode="after")
    def _sound(self) -> EvaluateConfig:
        if not self.tasks and not self.suites:
            raise ValueError("name a task or a suite, such as suites: [core]")
        if not self.shots or min(self.shots) < 0:
            raise ValueError("shots: worked examples are counted from 0")
        return self


class CheckpointConfig(Config):
    """When the run is saved."""

    every: int | None = Field(default=None, ge=1)
    """Steps between checkpoints; none is ten times in the run."""
    keep: int = Field(default=2, ge=1)
    """How many to keep; the best by validation is kept besides."""
    background: bool | Literal["auto"] = "auto"
    """Copy the run's state and write it while training goes on; auto does so on CUDA. Several workers write at once."""


class DistributedConfig(Config):
    """How several workers share a run."""

    shard: int | Literal["auto"] = "auto"
    """Over how many workers the weights are spread, each group of that many holding all of them once (FSDP2); 1 is
    every worker holding them all, auto is one group of all workers."""

    @field_validator("shard", mode="before")
    @classmethod
    def _some_workers(cls, value: Any) -> Any:
        if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError("a whole number of at least 1, or auto, is needed")
        return value


class TrainConfig(Config):
    """One training run."""

    out: str = "runs/model"
    """The run's folder; the same command on the same folder resumes."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Decides the initial weights, the order of the data and dropout."""
    base: str | None = None
    """The model to start from: a folder, hf:ORG/NAME, a .gguf file or a name from 'ownlm models'."""
    model: dict[str, Any] | None = None
    """The shape of a new model: family, layers, width, heads, kv_heads, vocab_size, max_positions, ..."""
    tokenizer: str | None = None
    """A tokenizer's folder or a model's name; none is the base's own, or that of the built data set."""
    adapter: LoraConfig | None = None
    """Train a small adapter beside the frozen base, merged into the result."""
    data: DataConfig = DataConfig()
    """What is read."""
    objective: ObjectiveConfig = CausalConfig()
    """What the model learns to do."""
    batch_tokens: int = Field(default=8192, ge=2)
    """Tokens of one update, over all workers, at most."""
    micro_batch_tokens: int | Literal["auto"] = "auto"
    """Tokens in memory at once; it changes memory and speed, never the result beyond rounding."""
    steps: int | None = Field(default=None, ge=1)
    """Updates to make; give steps or epochs."""
    epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Passes over the data; give steps or epochs, none is one pass."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How gradients become updates."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How the learning rate moves."""
    ema: EmaConfig | None = None
    """Average the weights as they are trained; none is not to."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What happens at a step whose loss or gradient is no finite number: the run stops, or goes on without the update.
    Either way its batch is saved to be looked at, in the run's folder non-finite."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on what each block adds to the stream."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What matrix products compute in; trained weights and their updates are always float32."""
    recompute: int | Literal["auto"] = "auto"
    """How many blocks keep only their input and are computed again in the backward pass (activation checkpointing, Chen
    et al. 2016), which saves memory and changes no bit; auto is none, or what memory_budget asks for."""
    memory_budget: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Gigabytes that a worker may hold at once, on its GPU where it has one; none is no limit. The plan is made before
    the first step, and blocks are recomputed until it fits."""
    compile: bool | Literal["auto"] = "auto"
    """Compile the feedforward networks and norms (needs a C++ compiler); auto does so on CUDA."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    validate_: ValidateConfig = Field(default=ValidateConfig(), alias="validate")
    """When the held-out loss is measured."""
    evaluate: EvaluateConfig | None = None
    """Measure tasks while the run goes on, on the averaged weights where there are any; none is not to."""
    canaries: CanaryConfig | None = None
    """Put invented facts among the training data and measure at the end how many the model knows by heart; none is not
    to."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When the run is saved."""
    distributed: DistributedConfig = DistributedConfig()
    """How several workers share the run."""
    track: list[Tracked] = Field(default_factory=lambda: ["jsonl"])  # type: ignore[arg-type]
    """Where metrics go besides metrics.jsonl, which is always written: tensorboard, mlflow, wandb (the extra 'track').
    They stay in the run's folder unless MLFLOW_TRACKING_URI or WANDB_MODE=online says otherwise."""

    @field_validator("track", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("recompute", mode="before")
    @classmethod
    def _some_blocks(cls, value: Any) -> Any:
        if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise ValueError("a whole number of at least 0, or auto, is needed")
        return value

    @field_validator("objective", mode="before")
    @classmethod
    def _usual_objective(cls, value: Any) -> Any:
        return {"kind": "causal", **value} if isinstance(value, dict) else value

    @field_validator("micro_batch_tokens", mode="before")
    @classmethod
    def _some_tokens(cls, value: Any) -> Any:
        if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError("a whole number of at least 1, or auto, is needed")
        return value

    @model_validator(mode="after")
    def _sound(self) -> TrainConfig:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        if self.base is not None and self.model is not None:
            raise ValueError("give base (a model to start from) or model (the shape of a new one), not both")
        if self.base is None and self.model is None:
            raise ValueError("base (a model to start from) or model (the shape of a new one) is missing")
        if self.model is not None and self.adapter is not None:
            raise ValueError("an adapter needs a base: random weights are trained whole")
        if not self.data.train and not self.data.mix:
            raise ValueError("data.train is missing: name the files or the dataset folder to train on")
        if self.data.too_long == "cut" and self.objective.kind != "classify":
            raise ValueError("data.too_long: cut is for classification alone; nothing else can be learned from a part")
        return self


# What may differ between the command that began a run and the one that resumes it: none of it changes the past.
MAY_CHANGE = (
    "steps",
    "epochs",
    "checkpoint",
    "validate.every",
    "validate.patience",
    "validate.tokens",
    "evaluate",
    "track",
    "device",
    "micro_batch_tokens",
    "compile",
    "distributed",
    "non_finite",
    "recompute",
    "memory_budget",
    "schedule.rewarm",
)


def read_train_config(source: str | Path | dict[str, Any], overrides: dict[str, Any] | None = None) -> TrainConfig:
    """A config from a YAML file or a mapping, with dotted overrides on top.

    Relative paths stand as they are: they are relative to where the command runs.

    Raises:
        ConfigError: names the wrong key and the nearest known one.
    """
    values = source if isinstance(source, dict) else read_yaml(Path(source))
    name = None if isinstance(source, dict) else str(source)
    return validate(TrainConfig, merge(values, overrides or {}), source=name)


def plain(config: TrainConfig) -> dict[str, Any]:
    """Every value of a config, as YAML takes it."""
    return config.model_dump(mode="json", by_alias=True)


def training_schema() -> dict[str, Any]:
    """The JSON Schema of a training config, the keys of a model's shape included."""
    return editor_schema(TrainConfig, {"model": ShapeConfig})


class ShapeConfig(ModelConfig):
    """A new model's shape; the family and the size fill what is not given."""

    size: str
    """A published size of the family, such as small of gpt2."""
