"""The class of a text, several classes, or numbers: one loss a document, from one of its tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from ...config import Config
from ...devices import on_device
from ...errors import ConfigError, DataError, nearest
from ...prediction import metrics
from ...prediction.forward import label_logits
from ...tokens.batch import Batch
from ...tokens.dataset import is_dataset
from ...tokens.labelled import KIND, Preparing, tokenize_labelled
from ...tokens.labels import LabelledFormat, find_labels, taken_columns
from ...tokens.prepare import PreparedData
from ...tokens.shards import INDEX, TokenDataset
from .base import Objective, Reading

if TYPE_CHECKING:
    from ...model.config import ModelConfig
    from ...model.transformer import Transformer
    from ..data import TrainingData


class ClassifyConfig(Config):
    """Tell the class of a text."""

    kind: Literal["classify"] = "classify"
    """classify: the class of a text."""
    problem: Literal["single", "multi", "regression"] = "single"
    """single: one class a text. multi: any number of them. regression: numbers."""
    labels: list[str] = Field(default_factory=list)
    """The classes in the model's order; none is those of the training data, numbers by value, names by alphabet."""
    text: str | None = None
    """The column, or JSON key, of the text; none is a usual name such as text or sentence."""
    pair: str | None = None
    """The column of a second text beside it, such as a hypothesis; none is none, but sentence1 goes with sentence2."""
    label: list[str] = Field(default_factory=list)
    """The label's column; none is a usual name such as label or class. Several are a 0 or 1 for each class (multi) or a
    number each (regression)."""
    separator: str | None = None
    """multi: what stands between the labels where one text field holds them all."""
    columns: list[str] = Field(default_factory=list)
    """The columns' names, for CSV and TSV files whose first line is a row and no header."""
    weights: Literal["balanced"] | dict[str, float] | None = None
    """How much each class counts in the loss: balanced (by how rare it is), or by name, 1 where not named. In multi it is
    how much having the class counts against not having it."""
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """The share of a label's probability that is spread over all classes (Szegedy et al. 2016)."""

    @field_validator("label", "labels", "columns", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        values = value if isinstance(value, list | tuple) else [value]
        return [_name(one) for one in values]

    @field_validator("weights", mode="before")
    @classmethod
    def _named_weights(cls, value: Any) -> Any:
        return {_name(key): weight for key, weight in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _sound(self) -> ClassifyConfig:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("a label is named twice")
        if self.problem == "single" and len(self.labels) == 1:
            raise ValueError("one class leaves nothing to tell apart: name at least two labels")
        if self.problem == "regression" and (self.labels or self.weights is not None or self.smoothing):
            raise ValueError(
                "labels, weights and smoothing are for classes; a regression's numbers are its label columns"
            )
        if isinstance(self.weights, dict) and not all(0 <= w < float("inf") for w in self.weights.values()):
            raise ValueError("a class's weight must be a finite number of at least 0")
        if self.problem == "single" and len(self.label) > 1:
            raise ValueError("one class a text needs one label column; for a 0 or 1 in each set problem to multi")
        return self

    @property
    def format(self) -> LabelledFormat:
        """How the files are read."""
        label, columns = tuple(self.label), tuple(self.columns)
        return LabelledFormat(self.problem, self.text, self.pair, label, self.separator, columns)


class Classify(Objective[ClassifyConfig]):
    """The class of a text.

    The loss is the mean over the documents of a step: the cross-entropy of the class, weighted by its class and divided
    by the sum of the weights; of several classes the mean over the classes of each one's; of numbers the mean squared
    error. A document counts in the ledger whole: its label is learned from all of it.
    """

    kind: ClassVar[str] = "classify"
    heads: ClassVar[tuple[str, ...]] = ("classify",)
    unit: ClassVar[str] = "document"
    data_kind: ClassVar[str] = KIND

    def __init__(self, config: ClassifyConfig, seed: int) -> None:
        super().__init__(config, seed)
        # How the data was understood, for the user.
        self.notes: list[str] = []
        self._shape: ModelConfig | None = None
        # [labels], or None where all count the same.
        self._weights: Tensor | None = None

    def shape(self, base: ModelConfig, sources: Sequence[str]) -> ModelConfig:
        """The base with a classification head; a head that knows these labels is kept as it is."""
        problem, labels = self.config.problem, tuple(self.config.labels)
        if not labels:
            labels = self._found(base, sources)
        if isinstance(self.config.weights, dict):
            for name in self.config.weights:
                if name not in labels:
                    hint = nearest(name, labels)
                    raise ConfigError(f"there is no class '{name}'", where="objective.weights", hint=hint)
            if not any(self.config.weights.get(name, 1.0) for name in labels):
                what = "every class weighs 0, so there is nothing to learn"
                raise ConfigError(what, where="objective.weights", hint="give one of them a weight above 0")
        changes: dict[str, Any] = {"head": "classify", "labels": labels, "problem": problem, "next_sentence": False}
        if base.head != "classify":
            changes["pool"] = "last" if base.causal else "first"
        self._shape = base.model_copy(update=changes)
        return self._shape

    def _found(self, base: ModelConfig, sources: Sequence[str]) -> tuple[str, ...]:
        """The labels of the training data, in the order of the base's head where it has them all."""
        files = [source for source in sources if not is_tokenized(source)]
        if any(map(is_dataset, files)):
            hint = "name the labelled files themselves: JSON Lines, CSV or TSV"
            raise DataError(
                "a built data set holds texts without labels", where=next(filter(is_dataset, files)), hint=hint
            )
        stored = [TokenDataset(Path(source)).info.get("labels", []) for source in sources if is_tokenized(source)]
        found = {label for labels in stored for label in labels}
        if files:
            self.notes.append(f"{files[0]}: {taken_columns(files, self.config.format)}")
            labels = find_labels(files, self.config.format)
        else:
            labels = tuple(stored[0])
        if not found <= set(labels):
            hint = "give objective.labels"
            raise ConfigError("the sources of data.train have different classes", where="objective.labels", hint=hint)
        if base.head == "classify" and base.problem == self.config.problem and set(labels) <= set(base.labels):
            labels = base.labels
        what = "numbers" if self.config.problem == "regression" else "classes"
        shown = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
        self.notes.append(f"{len(labels)} {what}: {shown}")
        return labels

    def read(self, path: Path, reading: Reading) -> PreparedData:
        """See Objective.read."""
        shape = self._known_shape
        preparing = Preparing(
            tokenizer=reading.tokenizer,
            format=self.config.format,
            labels=shape.labels,
            causal=shape.causal,
            length=reading.length,
            too_long=reading.too_long,
            split=shape.segments > 1,
        )
        return tokenize_labelled(path, preparing, cache_folder=reading.cache, progress=reading.progress)

    def check(self, dataset: TokenDataset, where: str) -> None:
        """Checks that a tokenized dataset has this objective's classes, in its order."""
        super().check(dataset, where)
        shape = self._known_shape
        if (dataset.info["labels"], dataset.info["problem"]) != (list(shape.labels), shape.problem):
            held = ", ".join(dataset.info["labels"][:8])
            raise DataError(
                f"this dataset was made for other classes: {held}", where=where, hint="name its files again"
            )

    def begin(self, model: Transformer, data: TrainingData, run: Path) -> None:
        """Counts the classes where they are to be balanced, as often as the run passes them."""
        check_whole(data)
        weights, shape = self.config.weights, self._known_shape
        if isinstance(weights, dict):
            self._weights = torch.tensor([weights.get(label, 1.0) for label in shape.labels])
            _check_weighed(data, self._weights.numpy(), shape.problem)
        elif weights == "balanced":
            count = sum(repeat * len(d) for repeat, d in zip(data.loader.repeats, data.loader.datasets, strict=True))
            have = np.zeros(len(shape.labels))
            for repeat, dataset in zip(data.loader.repeats, data.loader.datasets, strict=True):
                have += repeat * class_counts(dataset, len(shape.labels))
            self._weights = torch.tensor(balanced_weights(have, count, shape.problem), dtype=torch.float32)

    def batch(self, batch: Batch, step: int | None) -> Batch:
        """Every token of a labelled document is learned from; which text each is of comes from where the second begins."""
        segments = None
        if "second" in batch.columns:
            starts = torch.tensor(batch.document_starts)
            second = batch.columns["second"][:, 0].repeat_interleave(starts[1:] - starts[:-1])
            segments = (batch.positions >= second).long()
        return replace(batch, weights=torch.ones_like(batch.weights), segments=segments)

    def units(self, batch: Batch) -> float:
        """The sum of the documents' weights."""
        return self._document_weights(batch).double().sum().item()

    def loss(self, model: Transformer, batch: Batch, share: float) -> Tensor:
        """See Objective.loss."""
        return self._loss_of(label_logits(model, batch), batch, share)

    @property
    def measures(self) -> Mapping[str, bool]:
        """See Objective.measures."""
        return {
            "single": {"accuracy": True, "macro_f1": True, "matthews": True},
            "multi": {"micro_f1": True, "macro_f1": True},
            "regression": {"mean_squared_error": False, "pearson": True, "spearman": True},
        }[self.config.problem]

    def validate(self, model: Transformer, batches: Iterable[Batch]) -> dict[str, float]:
        """The loss, and what is usual for the problem."""
        loss, logits, labels = self._read_all(model, batches)
        return {"loss": loss, **measures(logits, labels, self._known_shape.problem)} if len(logits) else {}

    def assess(self, model: Transformer, batches: Iterable[Batch]) -> dict[str, Any]:
        """What is known of the result: of one class a text, how many of each (rows) were taken for each (columns)."""
        loss, logits, labels = self._read_all(model, batches)
        if not len(logits):
            return {}
        shape = self._known_shape
        result: dict[str, Any] = {"loss": loss, **measures(logits, labels, shape.problem)}
        if shape.problem == "single":
            table = metrics.confusion_table(labels[:, 0].numpy(), logits.argmax(-1).numpy(), len(shape.labels))
            result["confusion"] = {"labels": list(shape.labels), "table": table.tolist()}
        return result

    @torch.no_grad()
    def _read_all(self, model: Transformer, batches: Iterable[Batch]) -> tuple[float, Tensor, Tensor]:
        """The mean loss, every document's logits and its label: [documents, labels] and [documents, width]."""
        total, units = 0.0, 0.0
        logits, labels = [torch.zeros(0)], [torch.zeros(0)]
        for batch in batches:
            moved = batch.to(model.device)
            found = label_logits(model, moved)
            total += self._loss_of(found, moved, 1.0).item()
            units += self.units(batch)
            logits.append(found.cpu())
            labels.append(batch.columns["label"])
        if not units:
            return 0.0, logits[0], labels[0]
        return total / units, torch.cat(logits[1:]), torch.cat(labels[1:])

    @property
    def _known_shape(self) -> ModelConfig:
        assert self._shape is not None, "the shape is asked for first"
        return self._shape

    def _document_weights(self, batch: Batch) -> Tensor:
        """How much each document counts: [documents]; one that is not trained counts nothing."""
        weights = batch.weights[on_device(batch.document_starts[:-1], batch.weights.device)]
        if self._weights is None or self._known_shape.problem != "single":
            return weights
        return weights * self._weights.to(weights.device)[batch.columns["label"][:, 0]]

    def _loss_of(self, logits: Tensor, batch: Batch, share: float) -> Tensor:
        """The sum of the documents' losses times ``share``; logits: [documents, labels]."""
        labels, smoothing = batch.columns["label"], self.config.smoothing
        trained = batch.weights[on_device(batch.document_starts[:-1], batch.weights.device)]
        own = None if self._weights is None else on_device(self._weights, logits.device)
        match self._known_shape.problem:
            case "single":
                options: dict[str, Any] = {"weight": own, "label_smoothing": smoothing, "reduction": "none"}
                losses = F.cross_entropy(logits, labels[:, 0], **options)
            case "multi":
                targets = labels * (1 - smoothing) + smoothing / 2
                losses = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=own, reduction="none").mean(-1)
            case _:
                losses = F.mse_loss(logits, labels, reduction="none").mean(-1)
        return (losses * (trained * share)).sum()


def measures(logits: Tensor, labels: Tensor, problem: str) -> dict[str, float]:
    """How good predictions are; logits: [documents, labels], labels: the column of that name."""
    if problem == "single":
        return metrics.class_measures(labels[:, 0].numpy(), logits.argmax(-1).numpy(), logits.shape[-1])
    if problem == "multi":
        return metrics.multi_measures(labels.numpy() > 0.5, logits.numpy() > 0)
    return metrics.number_measures(labels.double().numpy(), logits.double().numpy())


def balanced_weights(have: np.ndarray, count: float, problem: str) -> np.ndarray:
    """Each class's weight by how rare it is: [classes]; one that nobody has gets 1.

    Of one class a text, all texts over the text's share of classes (King and Zeng 2001): every class then counts the
    same. Of several, the texts without the class over those with it.

    Args:
        have: how many texts have each class.
        count: how many texts there are.
    """
    there = np.maximum(have, 1e-12)
    weights = count / (len(have) * there) if problem == "single" else (count - have) / there
    return np.where((have > 0) & (weights > 0), weights, 1.0)


def class_counts(dataset: TokenDataset, classes: int) -> np.ndarray:
    """How many documents of a dataset have each class: [classes]."""
    column = dataset.columns["label"]
    return np.bincount(column[:, 0], minlength=classes) if column.dtype.kind == "i" else column.sum(0)


def is_tokenized(source: str) -> bool:
    """Whether a source is the folder of a tokenized dataset."""
    return (Path(source) / INDEX).is_file()


def check_whole(data: TrainingData) -> None:
    """Checks that no document is longer than the loader's pieces: one with a label cannot be split.

    Raises:
        ConfigError: a tokenized dataset was made with a greater length.
    """
    for loader in (data.loader, data.validation):
        for dataset in loader.datasets if loader is not None else ():
            assert loader is not None
            if dataset.lengths.max() > loader.length:
                raise ConfigError(
                    f"{dataset.folder} has a document of {dataset.lengths.max():,} tokens, and none may be split here",
                    where="data.length",
                    hint="raise it, or name the files that the dataset was made of",
                )


def _check_weighed(data: TrainingData, weights: np.ndarray, problem: str) -> None:
    """Checks that some text counts; of several classes a text, each text without a class counts in any case.

    Raises:
        ConfigError: every text has a class that weighs 0.
    """
    for key, loader in (("data.train", data.loader), ("data.validation", data.validation)):
        if loader is None or problem != "single":
            continue
        if not any(class_counts(dataset, len(weights)) @ weights for dataset in loader.datasets):
            what = f"every text of {key} has a class that weighs 0, so that none of them counts"
            raise ConfigError(what, where="objective.weights", hint="give one of these classes a weight above 0")


def _name(value: Any) -> Any:
    """A label or column as its file has it; YAML reads 0 and true as a number and a truth value."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value
