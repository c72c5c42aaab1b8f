"""What every objective offers the loop: how its data is read, what a batch trains, its loss, and how it is judged.

A new objective is one file with a config and a class, and one line in ``OBJECTIVES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from ...config import Config
from ...errors import DataError
from ...files import home
from ...tokens.batch import Batch
from ...tokens.prepare import PreparedData
from ...tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from ...model.config import ModelConfig
    from ...model.transformer import Transformer
    from ...tokens.shards import TokenDataset
    from ..data import TrainingData

C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Reading:
    """How a source is to be read.

    Attributes:
        tokenizer: whose tokens it becomes.
        length: the longest document, in tokens.
        too_long: what happens to a longer one that cannot be split: "refuse" or "drop".
        progress: called with the number of records read so far.
    """

    tokenizer: Tokenizer
    length: int
    too_long: str
    progress: Any = None

    @property
    def cache(self) -> Path:
        """Where tokenized files are kept, by content."""
        return home() / "cache" / "tokens"


class Objective(Generic[C]):
    """One thing that a model learns; the base of all.

    Attributes:
        kind: its name in the config.
        heads: the heads that a model for it may have, the first being the one it is given (ModelConfig.head).
        unit: what its loss is a mean over: a token, a document, a pair or a question.
        data_kind: what a dataset made for it says of itself (TokenDataset.info["kind"]).
        shifted: whether a target is the token after the one that it belongs to, and not that one itself.
        seed: the run's.
        notes: what the user should know of how the data was understood; said before the first step.
    """

    kind: ClassVar[str]
    heads: ClassVar[tuple[str, ...]] = ("lm",)
    unit: ClassVar[str] = "token"
    data_kind: ClassVar[str] = "text"
    shifted: ClassVar[bool] = True

    def __init__(self, config: C, seed: int) -> None:
        self.config, self.seed = config, seed
        self.notes: list[str] = []

    def tokenizer(self, tokenizer: Tokenizer) -> Tokenizer:
        """The tokenizer that the run uses and its result carries."""
        return tokenizer

    def shape(self, base: ModelConfig, sources: Sequence[str]) -> ModelConfig:
        """The shape of the model that is trained: the base's or the config's with the head this needs.

        Args:
            base: the shape that the run's config names.
            sources: data.train's names, where the head depends on them (the labels of a classification).

        Raises:
            ConfigError: a model that cannot learn this.
        """
        raise NotImplementedError

    def read(self, path: Path, reading: Reading) -> PreparedData:
        """Tokenizes a file or folder, once.

        Raises:
            DataError: what it says of the file and the line.
        """
        raise NotImplementedError

    def check(self, dataset: TokenDataset, where: str) -> None:
        """Checks that a tokenized dataset was made for this.

        Raises:
            DataError: it was made for another objective.
        """
        held = dataset.info.get("kind", self.data_kind)
        if held != self.data_kind:
            hint = OBJECTIVE_OF.get(held, "name another dataset")
            raise DataError(
                f"this dataset was made for {held}s, and the objective learns {self.data_kind}s", where=where, hint=hint
            )

    def take(self, dataset: TokenDataset, where: str, reading: Reading) -> PreparedData:
        """A tokenized dataset that the config names, as this learns from it: usually as it stands.

        Raises:
            DataError: it was made for another objective.
        """
        self.check(dataset, where)
        dropped = dataset.info.get("dropped", {})
        return PreparedData(dataset.folder, len(dataset), dataset.total_tokens, trained=0, dropped=dropped)

    def begin(self, model: Transformer, data: TrainingData, run: Path) -> None:
        """What must be known before the first step, such as what the base thinks of each answer."""

    def begin_step(
        self, model: Transformer, batches: Sequence[Batch], total: Callable[[Sequence[float]], list[float]]
    ) -> None:
        """What must be known of a whole step before any of its gradients is made.

        Args:
            model: as it is before the step.
            batches: this worker's, as ``batch`` gave them; every worker has as many.
            total: the sums of some numbers over all workers.
        """

    def batch(self, batch: Batch, step: int | None) -> Batch:
        """What the model gets of a loader's batch: the same for the same (seed, step, piece), however it is packed.

        Args:
            batch: the loader's, on the CPU.
            step: the step, from 0; None in validation, which is always the same.
        """
        return batch

    def units(self, batch: Batch) -> float:
        """How many units of the loss a batch has; the step's loss is the sum over its units divided by all of them."""
        return batch.trained_tokens

    @property
    def measures(self) -> Mapping[str, bool]:
        """What ``validate`` gives besides the loss by which the best may be chosen, and whether more of it is better."""
        return {}

    @property
    def parts(self) -> int:
        """How many parts the loss has, each a mean over units of its own."""
        return 1

    def all_units(self, batch: Batch) -> tuple[float, ...]:
        """The units of each part; of the first those of ``units``. A further part's share is ``loss``'s next argument."""
        return (self.units(batch),)

    def trained_tokens(self, batch: Batch) -> Tensor:
        """How many tokens of each document have a share in the loss, for the ledger: [documents] int64."""
        starts = torch.tensor(batch.document_starts)
        counted = torch.cat((torch.zeros(1, dtype=torch.int64), (batch.weights != 0).cumsum(0)))
        return counted[starts[1:]] - counted[starts[:-1]]

    def loss(self, model: Transformer, batch: Batch, share: float) -> Tensor:
        """The sum of the batch's losses times ``share``, on the model's device."""
        raise NotImplementedError

    def validate(self, model: Transformer, batches: Iterable[Batch]) -> dict[str, float]:
        """The held-out loss as "loss", and what else is worth knowing; batches as ``batch`` gives them."""
        total, units = 0.0, 0.0
        for batch in batches:
            units += self.units(batch)
            total += self.loss(model, batch.to(model.device), 1.0).item()
        return {"loss": total / units} if units else {}

    def assess(self, model: Transformer, batches: Iterable[Batch]) -> dict[str, Any]:
        """What the result does on the held-out data beyond its loss, kept in held_out.json and with the model."""
        return {}


# What to train a dataset with, by what it says of itself.
OBJECTIVE_OF = {
    "text": "set objective.kind to causal or masked, or name another dataset",
    "chat": "set objective.kind to chat, or name another dataset",
    "preference": "set objective.kind to preference, or name another dataset",
    "label": "set objective.kind to classify, or name another dataset",
    "text pair": "set objective.kind to seq2seq, or name another dataset",
    "question": "set objective.kind to span, or name another dataset",
    "masked text": "set objective.kind to masked without next_sentence, or name another dataset",
    "masked pair": "set objective.kind to masked with next_sentence, or name another dataset",
}
