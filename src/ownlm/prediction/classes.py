"""Texts to classes or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.config import ModelConfig
from ..model.head import ClassifyHead
from ..model.transformer import Transformer
from ..tokens.tokenizer import Tokenizer
from .forward import label_scores
from .heads import check_head
from .passes import in_rows, passes
from .texts import Text, text_document

# The probability from which a text has a class, where it may have several.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Labels:
    """What a text is.

    Attributes:
        text: the text, or the two.
        label: the likeliest class; of a regression, the name of its first number.
        score: its probability, or the number.
        scores: every class's probability, likeliest first; or the numbers.
        labels: the classes that it has: one; or where there may be several, those at least as likely as not.
    """

    text: Text
    label: str
    score: float
    scores: dict[str, float]
    labels: list[str]


@torch.no_grad()
def classify(
    model: Transformer,
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    *,
    cut: bool = False,
    batch_tokens: int | None = None,
) -> list[Labels]:
    """What each text is, whatever else is asked at the same time.

    Args:
        model: with a classification head.
        tokenizer: its own.
        texts: none empty; where the model was trained on two texts, both.
        cut: reads the beginning of a text that is longer than the model can read, in place of an error.
        batch_tokens: tokens read at once; None is what suits the device.

    Raises:
        UserError: an empty or over-long text.
        ModelError: the model has another head.
    """
    check_head(model, "classify")
    head, config = model.head, model.config
    assert isinstance(head, ClassifyHead)
    model.eval()
    documents = [text_document(model, tokenizer, text, number, cut=cut) for number, text in enumerate(texts, 1)]
    pooled = torch.zeros(len(texts), config.width, device=model.device)
    for each in passes(model, documents, batch_tokens):
        pooled[each.documents] = each.hidden[head.rows(each.starts)].float()
    logits = torch.zeros(len(texts), len(config.labels))
    for place, rows in in_rows(pooled):
        logits[place] = head(rows)[: place.stop - place.start].cpu()
    return [_labels(text, row, config) for text, row in zip(texts, logits, strict=True)]


def _labels(text: Text, logits: Tensor, config: ModelConfig) -> Labels:
    # One text at a time: over many, where a number stands decides how it is rounded.
    named = dict(zip(config.labels, label_scores(logits, config.problem).tolist(), strict=True))
    if config.problem == "regression":
        first = config.labels[0]
        return Labels(text, first, named[first], named, [])
    ranked = dict(sorted(named.items(), key=lambda item: -item[1]))
    label, score = next(iter(ranked.items()))
    chosen = [label] if config.problem == "single" else [n for n, value in ranked.items() if value >= THRESHOLD]
    return Labels(text, label, score, ranked, chosen)
