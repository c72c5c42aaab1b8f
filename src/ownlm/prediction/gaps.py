"""Gaps in a text to words."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ModelError, UserError
from ..model.transformer import Transformer
from ..tokens.tokenizer import Tokenizer
from .heads import check_head
from .passes import in_rows, passes
from .texts import text_document

# How a gap may be written for every model, whatever its own token is called.
GAP = "[MASK]"


@dataclass(frozen=True)
class Filled:
    """A text with its gaps filled.

    Attributes:
        text: as it was given.
        filled: with the likeliest word in each gap.
        label, score: that of the first gap, and its probability.
        scores: the likeliest words of the first gap.
        gaps: the same of each gap.
    """

    text: str
    filled: str
    label: str
    score: float
    scores: dict[str, float]
    gaps: list[dict[str, float]]


@torch.no_grad()
def fill(
    model: Transformer, tokenizer: Tokenizer, texts: Sequence[str], *, count: int = 5, batch_tokens: int | None = None
) -> list[Filled]:
    """The likeliest words for each gap, whatever else is asked at the same time.

    Args:
        model: with a masked-language head.
        tokenizer: its own.
        texts: each with a gap or more, written [MASK] or as the tokenizer writes it.
        count: how many words for each gap.
        batch_tokens: tokens read at once; None is what suits the device.

    Raises:
        UserError: an empty or over-long text, or one without a gap.
        ModelError: the model has another head, or its tokenizer no mask token.
    """
    check_head(model, "masked")
    model.eval()
    mask = tokenizer.names.get("mask_token")
    if mask is None:
        raise ModelError("this model's tokenizer has no mask token", hint="name it in its tokenizer_config.json")
    number = tokenizer.backend.token_to_id(mask)
    given = [text.replace(GAP, mask) for text in texts]
    documents = [text_document(model, tokenizer, text, place) for place, text in enumerate(given, 1)]
    gaps = [[place for place, token in enumerate(document.tokens) if token == number] for document in documents]
    for place, (text, found) in enumerate(zip(texts, gaps, strict=True), 1):
        if not found:
            raise UserError(f"text {place} has no gap: '{text[:60]}'", hint=f"write {GAP} where the word is missing")
    firsts = list(itertools.accumulate(map(len, gaps), initial=0))
    hidden = torch.zeros(firsts[-1], model.config.width, dtype=model.compute_dtype, device=model.device)
    for each in passes(model, documents, batch_tokens):
        for place, start in zip(each.documents, each.starts, strict=False):
            hidden[firsts[place] : firsts[place + 1]] = each.hidden[[start + gap for gap in gaps[place]]]
    best: list[dict[str, float]] = []
    for part, rows in in_rows(hidden):
        chances = model.logits_of(rows).softmax(-1)[: part.stop - part.start].cpu()
        best += [_words(row, tokenizer, count) for row in chances]
    words = [best[first:last] for first, last in itertools.pairwise(firsts)]
    return [_filled(text, own, mask, found) for text, own, found in zip(texts, given, words, strict=True)]


def _words(chances: Tensor, tokenizer: Tokenizer, count: int) -> dict[str, float]:
    """The likeliest tokens as words, with their probabilities; chances: [vocab]."""
    values, ids = chances.topk(min(count, len(chances)))
    result: dict[str, float] = {}
    for number, value in zip(ids.tolist(), values.tolist(), strict=True):
        # Two tokens may look alike without the space before them.
        word = tokenizer.decode([number], skip_special=False).strip()
        result[word] = result.get(word, 0.0) + value
    return result


def _filled(text: str, given: str, mask: str, best: list[dict[str, float]]) -> Filled:
    filled = given
    for words in best:
        filled = filled.replace(mask, next(iter(words)), 1)
    label, score = next(iter(best[0].items()))
    return Filled(text, filled, label, score, best[0], best)
