"""Hidden tokens: some are replaced, and the model tells what they were (Devlin et al. 2018; Liu et al. 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from ...config import Config
from ...errors import ConfigError, ModelError
from ...tokens.batch import Batch
from ...tokens.masked_text import KIND, tokenize_for_masking
from ...tokens.prepare import PreparedData
from ...tokens.tokenizer import Tokenizer
from .base import Objective, Reading

if TYPE_CHECKING:
    from ...model.config import ModelConfig
    from ...model.transformer import Transformer

# Rows of logits at once when the hidden tokens are guessed in validation.
ROWS = 512
# What a draw is for.
_CHOICE, _REPLACEMENT, _TOKEN = range(3)

Share = Field(ge=0, le=1, allow_inf_nan=False)


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

    @model_validator(mode="after")
    def _sound(self) -> MaskedConfig:
        if min(self.replace) < 0 or abs(sum(self.replace) - 1) > 1e-6:
            raise ValueError("the three shares of replace must not be negative, and must add up to 1")
        return self


class Masked(Objective[MaskedConfig]):
    """The hidden tokens of a text.

    Of a document's n tokens, special ones aside, max(1, round(mask x n)) are chosen. The loss is the mean over all that
    were chosen in a step. What is chosen depends on the seed, the step and the piece alone.
    """

    kind: ClassVar[str] = "masked"
    heads: ClassVar[tuple[str, ...]] = ("masked",)
    data_kind: ClassVar[str] = KIND
    shifted: ClassVar[bool] = False

    def __init__(self, config: MaskedConfig, seed: int) -> None:
        super().__init__(config, seed)
        self._vocabulary: _Vocabulary | None = None

    def tokenizer(self, tokenizer: Tokenizer) -> Tokenizer:
        """See Objective.tokenizer; it must have a mask token."""
        self._vocabulary = _Vocabulary.of(tokenizer, self.config.whole_words)
        return tokenizer

    def shape(self, base: ModelConfig, sources: Sequence[str]) -> ModelConfig:
        """The base with a masked-language head."""
        if base.causal:
            raise ConfigError(
                f"a {base.family} model sees only what stands before, so it cannot fill gaps",
                where="objective.kind",
                hint="use the objective 'causal', or a model such as bert or roberta",
            )
        if base.head == "masked":
            return base
        return base.model_copy(update={"head": "masked", "labels": (), "next_sentence": False})

    def read(self, path: Path, reading: Reading) -> PreparedData:
        """See Objective.read."""
        return tokenize_for_masking(
            path, reading.tokenizer, reading.length, cache_folder=reading.cache, progress=reading.progress
        )

    def batch(self, batch: Batch, step: int | None) -> Batch:
        """Hides tokens: ``tokens`` is what the model reads, ``targets`` what stood there, ``weights`` where to tell."""
        assert self._vocabulary is not None, "the tokenizer is known"
        # Validation is always the same, and so is everything where nothing is chosen anew.
        turn = 0 if step is None else step + 1 if self.config.dynamic else 1
        hidden, chosen = hide(batch, self.config, self._vocabulary, (self.seed, turn))
        return dataclasses.replace(
            batch,
            tokens=torch.from_numpy(hidden),
            targets=batch.tokens,
            weights=torch.from_numpy(chosen.astype(np.float32)),
        )

    def loss(self, model: Transformer, batch: Batch, share: float) -> Tensor:
        """See Objective.loss."""
        loss, _ = model.loss(
            batch.tokens,
            batch.positions,
            batch.document_starts,
            batch.targets,
            batch.weights * share,
            segments=batch.segments,
        )
        return loss

    def validate(self, model: Transformer, batches: Iterable[Batch]) -> dict[str, float]:
        """The loss, and the share of hidden tokens that the model guesses at its first try."""
        total, told, right = 0.0, 0, 0
        for batch in batches:
            batch = batch.to(model.device)
            stream = model.read(batch.tokens, batch.positions, batch.document_starts, batch.segments)
            loss, count = model.loss_of(stream, batch.targets, batch.weights)
            total += loss.item()
            told += int(count)
            places = batch.weights.nonzero().squeeze(1)
            for rows in places.split(ROWS):
                guesses = model.logits_of(stream[rows]).argmax(-1)
                right += int((guesses == batch.targets[rows]).sum())
        return {"loss": total / told, "accuracy": right / told} if told else {}


@dataclasses.dataclass(frozen=True)
class _Vocabulary:
    """What hiding needs to know of a tokenizer.

    Attributes:
        mask: the mask token.
        special: for each id, whether it is no part of any text: [vocabulary].
        ordinary: the ids that may stand in for a hidden token.
        continues: for each id, whether it goes on with the word before it: [vocabulary]; none where nobody asks.
    """

    mask: int
    special: NDArray[np.bool_]
    ordinary: NDArray[np.int64]
    continues: NDArray[np.bool_] | None

    @classmethod
    def of(cls, tokenizer: Tokenizer, whole_words: bool) -> _Vocabulary:
        """Raises: ModelError: the tokenizer has no mask token."""
        backend = tokenizer.backend
        mask = backend.token_to_id(tokenizer.names.get("mask_token", "[MASK]"))
        if mask is None:
            hint = "name it in its tokenizer_config.json as mask_token"
            raise ModelError("this tokenizer has no mask token", where="tokenizer", hint=hint)
        special = np.zeros(tokenizer.vocab_size, bool)
        added = {number for number, token in backend.get_added_tokens_decoder().items() if token.special}
        named = {backend.token_to_id(name) for name in tokenizer.names.values()}
        special[[number for number in {mask, *added, *named} if number is not None]] = True
        table = _continuing(backend.get_vocab(), tokenizer.vocab_size) if whole_words else None
        return cls(mask, special, np.flatnonzero(~special), table)


def _continuing(vocabulary: dict[str, int], size: int) -> NDArray[np.bool_]:
    """Which tokens go on with a word: "##" marks them (WordPiece), or the lack of a mark for a space (byte-level BPE)."""
    pieces = any(token.startswith("##") and len(token) > 2 for token in vocabulary)
    table = np.zeros(size, bool)
    for token, number in vocabulary.items():
        table[number] = token.startswith("##") if pieces else not token.startswith(("\u0120", "\u2581", "\u010a"))
    return table


def hide(
    batch: Batch, config: MaskedConfig, vocabulary: _Vocabulary, key: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The tokens that the model reads, and which are to be told: both [tokens].

    Every token draws by (key, piece, position) alone, so neither packing nor other documents change anything.
    """
    tokens, positions = batch.tokens.numpy(), batch.positions.numpy()
    starts = np.array(batch.document_starts, np.int64)
    lengths = starts[1:] - starts[:-1]
    document = np.repeat(np.arange(len(lengths)), lengths)
    pieces = np.array(batch.documents or np.zeros(len(lengths)), np.int64)[document]
    inside = ~vocabulary.special[tokens]
    if not inside.any():
        return tokens.copy(), np.zeros(len(tokens), bool)
    draws = _draws(key, pieces, positions)
    chosen = _chosen(tokens, document, inside, draws[_CHOICE], config.mask, vocabulary.continues)
    share = draws[_REPLACEMENT] / 2.0**64
    masked, other = np.cumsum(config.replace)[:2]
    hidden = tokens.copy()
    hidden[chosen & (share < masked)] = vocabulary.mask
    swapped = chosen & (share >= masked) & (share < other)
    hidden[swapped] = vocabulary.ordinary[draws[_TOKEN][swapped] % np.uint64(len(vocabulary.ordinary))]
    return hidden, chosen


def _chosen(
    tokens: NDArray[np.int64],
    document: NDArray[np.int64],
    inside: NDArray[np.bool_],
    order: NDArray[np.uint64],
    share: float,
    continues: NDArray[np.bool_] | None,
) -> NDArray[np.bool_]:
    """Of each document the words of the lowest draws, until they have as many tokens as wanted: [tokens]."""
    begins = inside.copy()
    if continues is not None:
        follows = np.append(False, inside[:-1] & (document[1:] == document[:-1]))
        begins &= ~(continues[tokens] & follows)
    first = np.flatnonzero(begins)
    word = np.cumsum(begins) - 1
    sizes = np.bincount(word[inside], minlength=len(first))
    owner = document[first]
    wanted = np.maximum(1, np.rint(share * np.bincount(document[inside], minlength=int(document[-1]) + 1)))
    turn = np.lexsort((order[first], owner))
    before = np.cumsum(sizes[turn]) - sizes[turn]
    # Counted from the first word of each document on.
    starts = np.flatnonzero(np.append(True, np.diff(owner[turn]) > 0))
    before -= np.repeat(before[starts], np.diff(np.append(starts, len(turn))))
    taken = np.zeros(len(first), bool)
    taken[turn] = before < wanted[owner[turn]]
    result = np.zeros(len(tokens), bool)
    result[inside] = taken[word[inside]]
    return result


def _draws(key: tuple[int, int], pieces: NDArray[np.int64], positions: NDArray[np.int64]) -> list[NDArray[np.uint64]]:
    """Three draws of 64 random bits for each token."""
    state = _mixed(np.uint64(key[0]) + _mixed(np.array([key[1]], np.uint64)))
    state = _mixed(state + _mixed(pieces.astype(np.uint64)))
    state = _mixed(state + _mixed(positions.astype(np.uint64)))
    return [_mixed(state + _mixed(np.array([number + 1], np.uint64))) for number in range(3)]


def _mixed(x: NDArray[np.uint64] | Any) -> NDArray[np.uint64]:
    """SplitMix64's mixer (Steele et al. 2014), on whole arrays; arithmetic wraps around."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
