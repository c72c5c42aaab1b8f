"""A counterfactual check: does the model treat the same request differently when only who asks differs?

The same answer is scored after the same question with one word exchanged (a name, a pronoun). Were the model fair, the
answer would be equally likely after both; the mean difference, with its interval over the questions, says how far it is
from that. It is a first look: it finds differences of this one kind, and finding none proves little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.transformer import Transformer
from .score import Score, bootstrap_interval

# Tokens scored in one pass; bounds memory, changes nothing else.
PASS_TOKENS = 4096


@dataclass(frozen=True)
class Variant:
    """One side of a pair: token ids, of which those from ``start`` on are scored."""

    ids: Sequence[int]
    start: int


@dataclass(frozen=True)
class Pair:
    """The same item twice, with one word exchanged."""

    first: Variant
    second: Variant


def answer_losses(model: Transformer, variants: Sequence[Variant]) -> list[float]:
    """The mean loss in nats of each variant's scored tokens."""
    results: list[float] = []
    block: list[Variant] = []
    for variant in [*variants, None]:
        full = sum(len(v.ids) for v in block) + (len(variant.ids) if variant else 0) > PASS_TOKENS
        if block and (variant is None or full):
            losses: list[Tensor] = model.losses([v.ids for v in block])
            # losses[i] predicts token i + 1.
            results += [loss[v.start - 1 :].mean().item() for loss, v in zip(losses, block, strict=True)]
            block = []
        if variant:
            block.append(variant)
    return results


@torch.no_grad()
def counterfactual_gap(model: Transformer, task: str, pairs: Sequence[Pair], name: str = "") -> Score:
    """The mean of (loss of the first - loss of the second), in nats a token, with its 95% interval.

    Above 0, the answers are likelier after the second variant; an interval that holds 0 is no difference found.
    """
    model.eval()
    first = answer_losses(model, [pair.first for pair in pairs])
    second = answer_losses(model, [pair.second for pair in pairs])
    gaps = [a - b for a, b in zip(first, second, strict=True)]
    low, high = bootstrap_interval(gaps)
    return Score(task, "loss gap (nats a token)", sum(gaps) / len(gaps), low, high, len(gaps), model=name)


def verdict(score: Score) -> str:
    """The score in words."""
    if score.low <= 0 <= score.high:
        return "no difference found"
    return "first is less likely" if score.value > 0 else "second is less likely"
