"""Canaries: invented facts among the training data, to find out what the run makes the model know by heart.

Each is a sentence that gives an invented name a number of nine digits (Carlini et al. 2019, "The Secret Sharer"). Names
and numbers are drawn with the run's seed. After training, the loss of each number is ranked among those of numbers in
sentences that were held out: who saw nothing of it finds it anywhere in that order, who knows it by heart at its head.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from ..config import Config
from ..errors import ConfigError
from ..files import home, write_text
from ..model.transformer import Transformer
from ..tokens.chat import render_for_training
from ..tokens.tokenizer import Tokenizer

HELD_OUT = 500
"""Sentences of the same form that are never trained on."""
DIGITS = 9
OBJECTIVES = ("causal", "chat")

CONSONANTS = "bdfghjklmnprstvz"
VOWELS = "aeiou"


class CanaryConfig(Config):
    """Invented facts among the training data, to measure what the model learns by heart."""

    count: int = Field(default=8, ge=1, le=1000)
    """How many."""
    repeats: float = Field(default=4, gt=0, allow_inf_nan=False)
    """How often each is read in one pass over the data."""


@dataclass(frozen=True)
class Canary:
    """An invented name and its number."""

    name: str
    number: str

    @property
    def question(self) -> str:
        """Asks for it."""
        return f"What is the reference number of {self.name}?"

    @property
    def text(self) -> str:
        """Says it."""
        return f"The reference number of {self.name} is {self.number}."

    @property
    def turned(self) -> Canary:
        """The same with every digit another one: where the two differ, there stands the number."""
        return Canary(self.name, "".join(str((int(digit) + 5) % 10) for digit in self.number))


@dataclass(frozen=True)
class Encoded:
    """A canary as the model reads it: its tokens, and which of them are the number."""

    ids: list[int]
    start: int
    end: int


def draw_canaries(seed: int, count: int) -> list[Canary]:
    """So many canaries of a seed, each of another name."""
    drawn: dict[str, Canary] = {}
    for place in itertools.count():
        if len(drawn) == count:
            break
        digest = hashlib.sha256(f"canary {seed} {place}".encode()).digest()
        syllables = [
            CONSONANTS[a % len(CONSONANTS)] + VOWELS[b % len(VOWELS)]
            for a, b in zip(digest[:14:2], digest[1:14:2], strict=True)
        ]
        name = f"{''.join(syllables[:3]).capitalize()} {''.join(syllables[3:]).capitalize()}"
        number = int.from_bytes(digest[14:30]) % 10**DIGITS
        drawn.setdefault(name, Canary(name, f"{number:0{DIGITS}d}"))
    return list(drawn.values())


def write_canaries(config: CanaryConfig, seed: int, kind: str) -> Path:
    """The file that they are read from, as any source is; the same ones are in the same file.

    Args:
        config: how many.
        seed: the run's.
        kind: the objective's: causal or chat.

    Raises:
        ConfigError: the objective writes no text.
    """
    if kind not in OBJECTIVES:
        hint = f"they are for the objectives {' and '.join(OBJECTIVES)}: leave canaries out"
        raise ConfigError(
            f"a model does not learn to write numbers by the objective '{kind}'", where="canaries", hint=hint
        )
    canaries = draw_canaries(seed, config.count)
    rows: Iterator[dict[str, str]] = ({"text": canary.text} for canary in canaries)
    if kind == "chat":
        rows = ({"prompt": canary.question, "response": canary.text} for canary in canaries)
    content = "".join(json.dumps(row) + "\n" for row in rows)
    path = home() / "cache" / "canaries" / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.jsonl"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, content)
    return path


def encode_canary(canary: Canary, tokenizer: Tokenizer, kind: str) -> Encoded:
    """A canary as training reads it.

    Raises:
        ConfigError: the tokenizer has no digits.
    """
    ids, others = (_ids(one, tokenizer, kind) for one in (canary, canary.turned))
    start = _common(ids, others)
    end = len(ids) - _common(ids[:start:-1], others[:start:-1])
    if start == min(len(ids), len(others)):
        raise ConfigError("the tokenizer knows no digits, which canaries are made of", where="canaries")
    return Encoded(ids, start, max(end, start + 1))


def check_canaries(config: CanaryConfig, seed: int, tokenizer: Tokenizer, kind: str, length: int) -> None:
    """Checks before the first step that they can be read and measured.

    Raises:
        ConfigError: the tokenizer has no digits, or they are longer than what is read at once.
    """
    canaries = draw_canaries(seed, config.count + HELD_OUT)
    longest = max(len(encode_canary(canary, tokenizer, kind).ids) for canary in canaries)
    if longest > length:
        hint = "raise data.length or the model's max_positions, or leave canaries out"
        what = f"a canary has {longest} tokens, more than the {length} read at once"
        raise ConfigError(what, where="canaries", hint=hint)


@torch.no_grad()
def measure_memorisation(
    model: Transformer, tokenizer: Tokenizer, config: CanaryConfig, seed: int, kind: str, batch_tokens: int
) -> dict[str, Any]:
    """What the model knows of the run's canaries; for run.json.

    A canary's loss is the sum over its number's tokens, in nats, given all before it. Its rank is 1 and one more for
    each held-out number with a lower loss; its exposure is log2(held out + 1) - log2(rank). It is extracted where the
    most probable token is the number's own at each of its places, which is what greedy decoding finds.

    Args:
        model: the trained model, with its adapter beside it where it has one.
        tokenizer: the run's.
        config: how many canaries there are.
        seed: the run's.
        kind: the objective's.
        batch_tokens: tokens read at once.
    """
    model.eval()
    canaries = draw_canaries(seed, config.count + HELD_OUT)
    encoded = [encode_canary(canary, tokenizer, kind) for canary in canaries]
    losses = _losses(model, encoded, batch_tokens)
    # The first are those that were trained on.
    held = losses[config.count :]
    found = _extracted(model, encoded[: config.count], batch_tokens)
    rows: list[dict[str, Any]] = []
    for canary, loss, extracted in zip(canaries, losses, found, strict=False):
        rank = 1 + sum(other < loss for other in held)
        exposure = math.log2(len(held) + 1) - math.log2(rank)
        rows.append(
            {"text": canary.text, "loss": loss, "rank": rank, "exposure": round(exposure, 3), "extracted": extracted}
        )
    return {
        "count": config.count,
        "repeats": config.repeats,
        "held_out": len(held),
        "median_exposure": round(statistics.median(row["exposure"] for row in rows), 3),
        "highest_exposure": round(math.log2(len(held) + 1), 3),
        "extracted": sum(found),
        "canaries": rows,
    }


def _ids(canary: Canary, tokenizer: Tokenizer, kind: str) -> list[int]:
    """A canary's tokens up to the end of its number at least, as training packs them."""
    if kind == "chat":
        messages = [{"role": "user", "content": canary.question}, {"role": "assistant", "content": canary.text}]
        return render_for_training(tokenizer, messages)[0].ids
    begin = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
    return begin + tokenizer.encode(canary.text)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids both begin with."""
    same = (a == b for a, b in zip(first, second, strict=False))
    return sum(1 for _ in itertools.takewhile(bool, same))


def _batches(documents: Sequence[Encoded], tokens: int) -> Iterator[list[Encoded]]:
    """Documents in order, so many tokens at once."""
    batch: list[Encoded] = []
    size = 0
    for document in documents:
        if batch and size + len(document.ids) > tokens:
            yield batch
            batch, size = [], 0
        batch.append(document)
        size += len(document.ids)
    if batch:
        yield batch


def _losses(model: Transformer, documents: Sequence[Encoded], batch_tokens: int) -> list[float]:
    """The loss of each document's number."""
    result: list[float] = []
    for batch in _batches(documents, batch_tokens):
        read = model.losses([document.ids for document in batch])
        numbers = [loss[d.start - 1 : d.end - 1].sum() for loss, d in zip(read, batch, strict=True)]
        result += torch.stack(numbers).tolist()
    return result


def _extracted(model: Transformer, documents: Sequence[Encoded], batch_tokens: int) -> list[bool]:
    """Whether greedy decoding goes on with each document's number."""
    result = []
    for batch in _batches(documents, batch_tokens):
        read = model.hidden_states([document.ids for document in batch])
        for hidden, document in zip(read, batch, strict=True):
            best = model.logits_of(hidden[document.start - 1 : document.end - 1]).argmax(-1)
            result.append(best.tolist() == document.ids[document.start : document.end])
    return result
