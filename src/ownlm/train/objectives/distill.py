"""Distillation: a model learns what a larger one would say next, besides what the text says.

The larger model, the teacher, reads the same tokens, so both must have one vocabulary. It stays as it is, in the dtype
that the run computes in, and its logits are never all held (see ``model.divergence``). With several workers, each has
the whole teacher.

Across vocabularies a teacher's own answers can be learned from (Kim and Rush 2016): ``ownlm generate`` writes them, and
the objective ``chat`` trains on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ...config import Config
from ...errors import ConfigError
from ...model.checkpoint import load_model_folder, read_config
from ...model.divergence import Divergence, Head, Mix, linear_divergence
from ...model.head import MaskedHead
from ...model.packed import rounded_rows
from ...model.registry import find_named_model
from ...tokens.batch import Batch
from ...tokens.prepare import PreparedData
from ...tokens.tokenizer import Tokenizer, load_tokenizer
from .base import Objective, Reading
from .language import Causal, CausalConfig, Chat, ChatConfig
from .masked import Masked, MaskedConfig

if TYPE_CHECKING:
    from ...model.config import ModelConfig
    from ...model.transformer import Transformer
    from ...tokens.shards import TokenDataset
    from ..data import TrainingData

WHERE = "objective.teacher"


class DistillConfig(Config):
    """Learn from a larger model."""

    kind: Literal["distill"] = "distill"
    """distill: what a larger model would say, at every token that is trained."""
    teacher: str
    """The larger model: a folder, hf:ORG/NAME, a .gguf file or a name from 'ownlm models'; its vocabulary is the same."""
    data_kind: Literal["causal", "chat", "masked"] = "causal"
    """The objective whose data and trained tokens these are: every token of a text, the answers of a conversation, or
    hidden tokens."""
    divergence: Divergence = "forward_kl"
    """forward_kl: cover all that the teacher may say. reverse_kl: keep to what it finds likely. jsd: between the two."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """What both models' logits are divided by, in the divergence alone; more shows more of unlikely tokens."""
    alpha: float = Field(default=0.5, ge=0, lt=1, allow_inf_nan=False)
    """The share of the ordinary loss; the rest is the divergence's, times the square of the temperature."""


class Distill(Objective[DistillConfig]):
    """What a teacher says next, at the tokens that another objective trains.

    Measured besides the loss: the ordinary cross-entropy, which any other run can be compared by, and the divergence,
    both in nats a token.
    """

    kind: ClassVar[str] = "distill"
    heads: ClassVar[tuple[str, ...]] = ("lm", "masked")

    def __init__(self, config: DistillConfig, seed: int) -> None:
        super().__init__(config, seed)
        self.mix = Mix(config.divergence, config.temperature, config.alpha)
        self.inner = _inner(config, seed)
        self.shifted = self.inner.shifted  # type: ignore[misc]
        self.data_kind = self.inner.data_kind  # type: ignore[misc]
        self._teacher: Transformer | None = None

    def tokenizer(self, tokenizer: Tokenizer) -> Tokenizer:
        """See Objective.tokenizer.

        Raises:
            ConfigError: the teacher has another vocabulary.
            UserError: there is no such model.
        """
        # A folder that is no model says so before anything is made of its tokenizer.
        read_config(self._folder)
        theirs = load_tokenizer(self._folder).backend.get_vocab(with_added_tokens=True)
        if theirs != tokenizer.backend.get_vocab(with_added_tokens=True):
            raise ConfigError(
                f"'{self.config.teacher}' has another vocabulary than the model that is trained",
                where=WHERE,
                hint="let it write answers with 'ownlm generate', and train on them with the objective chat",
            )
        return self.inner.tokenizer(tokenizer)

    def shape(self, base: ModelConfig, sources: Sequence[str]) -> ModelConfig:
        """See Objective.shape."""
        shape, teacher = self.inner.shape(base, sources), read_config(self._folder)
        if teacher.head != shape.head:
            what = {"lm": "the next token", "masked": "a hidden token"}[shape.head]
            raise ConfigError(
                f"'{self.config.teacher}' cannot tell {what}", where=WHERE, hint="name another teacher or data_kind"
            )
        return shape

    def read(self, path: Path, reading: Reading) -> PreparedData:
        """See Objective.read."""
        return self.inner.read(path, reading)

    def check(self, dataset: TokenDataset, where: str) -> None:
        """See Objective.check."""
        self.inner.check(dataset, where)

    def take(self, dataset: TokenDataset, where: str, reading: Reading) -> PreparedData:
        """See Objective.take."""
        return self.inner.take(dataset, where, reading)

    def begin(self, model: Transformer, data: TrainingData, run: Path) -> None:
        """Loads the teacher.

        Raises:
            ConfigError: it does not read documents as long as these.
        """
        self.inner.begin(model, data, run)
        limit = self._loaded(model).config.max_positions
        if data.loader.length > limit:
            raise ConfigError(
                f"the teacher reads at most {limit:,} tokens, and documents may have {data.loader.length:,}",
                where="data.length",
                hint=f"set it to {limit} or less",
            )

    def batch(self, batch: Batch, step: int | None) -> Batch:
        """See Objective.batch."""
        return self.inner.batch(batch, step)

    def units(self, batch: Batch) -> float:
        """See Objective.units."""
        return self.inner.units(batch)

    def loss(self, model: Transformer, batch: Batch, share: float) -> Tensor:
        """See Objective.loss."""
        return self._measured(model, batch, share)[0]

    @property
    def measures(self) -> Mapping[str, bool]:
        """See Objective.measures."""
        return {"cross_entropy": False, "divergence": False}

    def validate(self, model: Transformer, batches: Iterable[Batch]) -> dict[str, float]:
        """The loss, and its two parts."""
        sums, units = torch.zeros(3, dtype=torch.float64), 0.0
        for batch in batches:
            units += self.units(batch)
            loss, parts = self._measured(model, batch.to(model.device), 1.0)
            sums += torch.cat((loss.unsqueeze(0), parts)).double().cpu()
        names = ("loss", "cross_entropy", "divergence")
        return dict(zip(names, (sums / units).tolist(), strict=True)) if units else {}

    def _measured(self, model: Transformer, batch: Batch, share: float) -> tuple[Tensor, Tensor]:
        """The sum of losses times ``share``; and of cross-entropies and divergences: [2]."""
        teacher = self._loaded(model)
        place = batch.tokens, batch.positions, batch.document_starts, batch.segments
        hidden = model.read(*place)
        with torch.no_grad():
            teacher_hidden = teacher.read(*place)
        rows, count = batch.rows, len(batch.rows)
        # Filled up with the last of them at weight 0, so that the products' shapes are few (see packed.LENGTH_STEP).
        number = torch.arange(rounded_rows(count, hidden.device), device=hidden.device)
        rows = rows[number.clamp(max=max(0, count - 1))] if count else rows
        weights = torch.where(number < count, batch.weights[rows] * share, 0.0)
        student, head = _headed(model, hidden[rows])
        with torch.no_grad():
            wanted, teacher_head = _headed(teacher, teacher_hidden[rows])
        return linear_divergence(student, head, wanted, teacher_head, batch.targets[rows], weights, self.mix)

    @property
    def _folder(self) -> Path:
        """The teacher's."""
        return find_named_model(self.config.teacher, WHERE)

    def _loaded(self, model: Transformer) -> Transformer:
        """The teacher, beside the model."""
        if self._teacher is None or self._teacher.device != model.device:
            teacher = load_model_folder(self._folder, dtype=model.compute_dtype, device=model.device)
            teacher.compute_dtype = model.compute_dtype
            self._teacher = teacher.requires_grad_(False).eval()
        return self._teacher


def _inner(config: DistillConfig, seed: int) -> Objective[Any]:
    """The objective that chooses the trained tokens."""
    if config.data_kind == "masked":
        return Masked(MaskedConfig(), seed)
    return Chat(ChatConfig(), seed) if config.data_kind == "chat" else Causal(CausalConfig(), seed)


def _headed(model: Transformer, hidden: Tensor) -> tuple[Tensor, Head]:
    """What the last product takes, and gives: an encoder's head has a layer of its own before it."""
    if isinstance(model.head, MaskedHead):
        hidden = model.head(hidden)
    return hidden, Head(model.head_weight, model.head_bias, model.config.logit_softcap)
