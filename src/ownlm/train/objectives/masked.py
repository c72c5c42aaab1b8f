"""Hidden tokens: some are replaced, and the model tells what they were (Devlin et al. 2018; Liu et al. 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ...config import Config
from ...devices import on_device
from ...errors import ConfigError, DataError, ModelError
from ...model.head import MaskedHead
from ...tokens.batch import Batch
from ...tokens.hiding import Hiding
from ...tokens.masked_text import FOLLOWS, KIND, PAIR_KIND, SECOND, frame_texts, tokenize_for_masking
from ...tokens.prepare import PreparedData
from ...tokens.tokenizer import Tokenizer
from ...tokens.vocabulary import Vocabulary
from .base import OBJECTIVE_OF, Objective, Reading
from .classify import check_whole

if TYPE_CHECKING:
    from ...model.config import ModelConfig
    from ...model.transformer import Transformer
    from ...tokens.shards import TokenDataset
    from ..data import TrainingData

# Rows of logits at once when the hidden tokens are guessed in validation.
ROWS = 512


class MaskedConfig(Config):
    """Tell which tokens were hidden."""

    kind: Literal["masked"] = "masked"
    """masked: hidden tokens of a text."""
    mask: float = Field(default=0.15, gt=0, lt=1, allow_inf_nan=False)
    """The share of a document's tokens that is to be told, at least one of them."""
    replace: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Of these, the shares that become the mask token, become any token, and stay as they are."""
    whole_words: bool = False
    """Choose words, with all of their tokens, in place of tokens."""
    dynamic: bool = True
    """Choose anew each time a document is read (RoBERTa); false is once for the whole run (BERT)."""
    next_sentence: bool = False
    """Read pairs, and tell besides whether the second half follows the first (BERT)."""

    @model_validator(mode="after")
    def _sound(self) -> MaskedConfig:
        if not all(0 <= share <= 1 for share in self.replace) or abs(sum(self.replace) - 1) > 1e-6:
            raise ValueError("the three shares of replace must not be negative, and must add up to 1")
        return self


class Masked(Objective[MaskedConfig]):
    """The hidden tokens of a text; see ``tokens.hiding`` for which these are.

    The loss is the mean over all tokens that were chosen in a step. With next sentences it is that plus the mean, over
    all pairs of the step, of what telling their second halves costs. What is chosen depends on the seed, the step and
    the piece alone.
    """

    kind: ClassVar[str] = "masked"
    heads: ClassVar[tuple[str, ...]] = ("masked",)
    data_kind: ClassVar[str] = KIND
    shifted: ClassVar[bool] = False

    def __init__(self, config: MaskedConfig, seed: int) -> None:
        super().__init__(config, seed)
        self._hiding: Hiding | None = None

    def tokenizer(self, tokenizer: Tokenizer) -> Tokenizer:
        """See Objective.tokenizer; it must have a mask token."""
        if tokenizer.mask_id is None:
            hint = "name it in its tokenizer_config.json as mask_token, or train one of the kind wordpiece"
            raise ModelError("this tokenizer has no mask token", where="tokenizer", hint=hint)
        config = self.config
        vocabulary = Vocabulary.of(tokenizer)
        self._hiding = Hiding(vocabulary, tokenizer.mask_id, config.mask, config.replace, config.whole_words)
        return tokenizer

    def shape(self, base: ModelConfig, sources: Sequence[str]) -> ModelConfig:
        """The base with a masked-language head."""
        if base.causal:
            raise ConfigError(
                f"a {base.family} model sees only what stands before, so it cannot fill gaps",
                where="objective.kind",
                hint="use the objective 'causal', or a model such as bert or roberta",
            )
        pairs = self.config.next_sentence
        if pairs and base.segments < 2:
            raise ConfigError(
                f"a {base.family} model cannot tell a pair's two halves apart",
                where="objective.next_sentence",
                hint="set it to false, or use a model of the family bert",
            )
        if base.head == "masked":
            # A base that could tell next sentences keeps that, asked for or not.
            return base if base.next_sentence >= pairs else base.model_copy(update={"next_sentence": True})
        return base.model_copy(update={"head": "masked", "labels": (), "next_sentence": pairs})

    def read(self, path: Path, reading: Reading) -> PreparedData:
        """See Objective.read."""
        return tokenize_for_masking(
            path,
            reading.tokenizer,
            reading.length,
            cache_folder=reading.cache,
            pairs=self.config.next_sentence,
            progress=reading.progress,
        )

    def take(self, dataset: TokenDataset, where: str, reading: Reading) -> PreparedData:
        """A dataset of texts gets its special tokens, and its pairs, first."""
        if dataset.info.get("kind", "text") != "text":
            return super().take(dataset, where, reading)
        pairs = self.config.next_sentence
        return frame_texts(dataset, reading.tokenizer, reading.length, cache_folder=reading.cache, pairs=pairs)

    def check(self, dataset: TokenDataset, where: str) -> None:
        """See Objective.check."""
        wanted, held = PAIR_KIND if self.config.next_sentence else KIND, dataset.info["kind"]
        if held != wanted:
            message = f"this dataset was made for {held}s, and the objective learns {wanted}s"
            raise DataError(message, where=where, hint=OBJECTIVE_OF.get(held, "name another dataset"))

    def begin(self, model: Transformer, data: TrainingData, run: Path) -> None:
        """No document may be split: it would lose a special token."""
        check_whole(data)

    def batch(self, batch: Batch, step: int | None) -> Batch:
        """Hides tokens: ``tokens`` is what the model reads, ``targets`` what stood there, ``weights`` where to tell."""
        assert self._hiding is not None, "the tokenizer is known"
        # Validation is always the same, and so is everything where nothing is chosen anew.
        turn = 0 if step is None else step + 1 if self.config.dynamic else 1
        hidden, chosen = self._hiding.hide(batch, (self.seed, turn))
        segments = None
        if self.config.next_sentence:
            lengths = torch.tensor(batch.document_starts).diff()
            segments = (batch.positions >= batch.columns[SECOND][:, 0].repeat_interleave(lengths)).long()
        return dataclasses.replace(
            batch,
            tokens=torch.from_numpy(hidden),
            targets=batch.tokens,
            weights=torch.from_numpy(chosen.astype(np.float32)),
            segments=segments,
        )

    @property
    def parts(self) -> int:
        """See Objective.parts."""
        return 1 + self.config.next_sentence

    def all_units(self, batch: Batch) -> tuple[float, ...]:
        """The tokens to be told, and with next sentences the pairs that have one."""
        pairs = (_told(batch).sum().item(),) if self.config.next_sentence else ()
        return self.units(batch), *pairs

    def loss(self, model: Transformer, batch: Batch, share: float, pair_share: float | None = None) -> Tensor:
        """The sum of the tokens' losses times ``share``, and of the pairs' times ``pair_share`` (none is ``share``)."""
        stream = model.read(batch.tokens, batch.positions, batch.document_starts, batch.segments)
        loss, _ = model.loss_of(stream, batch.targets, batch.weights * share, rows=batch.rows)
        if not self.config.next_sentence:
            return loss
        return loss + (share if pair_share is None else pair_share) * _pairs(model, stream, batch)[0]

    @property
    def measures(self) -> Mapping[str, bool]:
        """See Objective.measures."""
        pairs = {"masked_loss": False, "next_sentence_loss": False, "next_sentence_accuracy": True}
        return {"accuracy": True} | (pairs if self.config.next_sentence else {})

    def validate(self, model: Transformer, batches: Iterable[Batch]) -> dict[str, float]:
        """The loss, and the share of hidden tokens that the model guesses at its first try; of pairs the same."""
        sums = dict.fromkeys(("told", "loss", "right", "pairs", "pair_loss", "pairs_right"), 0.0)
        for batch in batches:
            batch = batch.to(model.device)
            stream = model.read(batch.tokens, batch.positions, batch.document_starts, batch.segments)
            total, count = model.loss_of(stream, batch.targets, batch.weights)
            sums["loss"] += total.item()
            sums["told"] += count
            for rows in batch.rows.split(ROWS):
                guesses = model.logits_of(stream[rows]).argmax(-1)
                sums["right"] += int((guesses == batch.targets[rows]).sum())
            if self.config.next_sentence:
                for name, value in zip(
                    ("pair_loss", "pairs_right", "pairs"), _pairs(model, stream, batch), strict=True
                ):
                    sums[name] += value.item()
        if not sums["told"]:
            return {}
        loss, accuracy = sums["loss"] / sums["told"], sums["right"] / sums["told"]
        if not self.config.next_sentence:
            return {"loss": loss, "accuracy": accuracy}
        pairs, pairs_right = sums["pair_loss"] / sums["pairs"], sums["pairs_right"] / sums["pairs"]
        measured = {"loss": loss + pairs, "accuracy": accuracy, "masked_loss": loss}
        return measured | {"next_sentence_loss": pairs, "next_sentence_accuracy": pairs_right}


def _told(batch: Batch) -> Tensor:
    """1 for each document with a token to be told, else 0: [documents] float32."""
    starts = on_device(batch.document_starts, batch.weights.device)
    counted = F.pad((batch.weights != 0).cumsum(0), (1, 0))
    return (counted[starts].diff() > 0).float()


def _pairs(model: Transformer, stream: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Of the pairs that count: the sum of their losses, how many were told right, how many there are."""
    assert isinstance(model.head, MaskedHead)
    counts = _told(batch)
    logits = model.head.pairs(stream[on_device(batch.document_starts[:-1], stream.device)])
    # The public classes' first logit is for a second half that follows.
    labels = 1 - batch.columns[FOLLOWS][:, 0]
    losses = F.cross_entropy(logits, labels, reduction="none")
    return (losses * counts).sum(), ((logits.argmax(-1) == labels) * counts).sum(), counts.sum()
