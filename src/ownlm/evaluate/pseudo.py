"""How likely a masked model finds tokens: each hidden in a copy of its text, many copies read in one packed pass.

A masked model gives no text a probability. What stands in for it is the sum over its tokens of the logarithm of each
one's probability where it alone is hidden: the pseudo-log-likelihood (Salazar et al. 2020, "Masked Language Model
Scoring"). Copies are read as ``prediction/passes.py`` reads documents, and logits are made only of the rows asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError, ModelError
from ..model.transformer import Transformer
from ..prediction.heads import check_head
from ..prediction.passes import Document, in_rows, passes
from ..tokens.frame import frame_of
from ..tokens.tokenizer import Tokenizer

# Gaps whose rows are held at a time.
BLOCK = 4096


@dataclass(frozen=True)
class Gap:
    """A hidden token to score.

    Attributes:
        tokens: the text as the model reads it, its first and last special tokens and its masks in place.
        place: of the mask.
        target: the token whose probability is asked for.
    """

    tokens: tuple[int, ...]
    place: int
    target: int


@dataclass(frozen=True)
class Framed:
    """A text as the model reads it.

    Attributes:
        tokens: all of them.
        own: the places of the text's own: without those that begin and end every text, such as [CLS] and [SEP].
    """

    tokens: tuple[int, ...]
    own: range

    def hide(self, place: int, mask: int) -> Gap:
        """The copy in which one token is hidden, and is asked for."""
        return Gap((*self.tokens[:place], mask, *self.tokens[place + 1 :]), place, self.tokens[place])


def framed(model: Transformer, tokenizer: Tokenizer, text: str) -> Framed | None:
    """A text with its first and last special tokens; None where it is longer than the model reads."""
    frame = frame_of(tokenizer, pair=False, causal=model.config.causal)
    ids = tokenizer.encode(text)
    if len(ids) + len(frame) > model.config.max_positions:
        return None
    first = len(frame.before)
    return Framed((*frame.before, *ids, *frame.after), range(first, first + len(ids)))


def mask_of(tokenizer: Tokenizer) -> int:
    """The id that stands for a hidden token.

    Raises:
        ModelError: there is none.
    """
    if tokenizer.mask_id is None:
        raise ModelError("this model's tokenizer has no mask token", hint="name it in its tokenizer_config.json")
    return tokenizer.mask_id


@torch.inference_mode()
def gap_log_probs(
    model: Transformer,
    gaps: Sequence[Gap],
    *,
    batch_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float64]:
    """The logarithm of each hidden token's probability, in nats: [gaps].

    Args:
        model: with a masked-language head; runs in its ``compute_dtype``.
        gaps: what is asked; copies that are equal and near each other in this list are read once.
        batch_tokens: how many tokens the model reads at once; None is what suits the device.
        progress: called with the number of gaps done so far.

    Raises:
        ModelError: the model has another head, or gave a logit that is no number.
        DataError: a gap lies outside its text, or the text is longer than the model reads.
    """
    check_head(model, "masked")
    model.eval()
    most = model.config.max_positions
    for number, gap in enumerate(gaps):
        if not 0 <= gap.place < len(gap.tokens) <= most:
            what = f"place {gap.place} of {len(gap.tokens)} tokens, and the model reads at most {most:,}"
            raise DataError(f"a gap lies inside a text that the model can read: {what}", where=f"gap {number}")
    found = np.empty(len(gaps))
    for start in range(0, len(gaps), BLOCK):
        part = gaps[start : start + BLOCK]
        found[start : start + len(part)] = _block(model, part, batch_tokens)
        if progress is not None:
            progress(start + len(part))
    return found


def pseudo_log_likelihoods(
    model: Transformer, tokenizer: Tokenizer, texts: Sequence[str], *, batch_tokens: int | None = None
) -> list[NDArray[np.float64]]:
    """Of each text's own tokens the logarithm of its probability where it alone is hidden, in nats: [tokens] a text.

    Their sum is the text's pseudo-log-likelihood.

    Raises:
        DataError: a text is longer than the model reads.
        ModelError: as ``gap_log_probs``; or the tokenizer has no mask token.
    """
    mask = mask_of(tokenizer)
    read = []
    for number, text in enumerate(texts):
        found = framed(model, tokenizer, text)
        if found is None:
            raise DataError(
                f"the text is longer than the {model.config.max_positions} tokens that the model reads",
                where=f"text {number}",
            )
        read.append(found)
    gaps = [one.hide(place, mask) for one in read for place in one.own]
    values = gap_log_probs(model, gaps, batch_tokens=batch_tokens)
    ends = list(itertools.accumulate((len(one.own) for one in read), initial=0))
    return [values[a:b] for a, b in itertools.pairwise(ends)]


def _block(model: Transformer, gaps: Sequence[Gap], batch_tokens: int | None) -> NDArray[np.float64]:
    copies: dict[tuple[int, ...], int] = {}
    rows: dict[tuple[int, int], int] = {}
    which = [rows.setdefault((copies.setdefault(g.tokens, len(copies)), g.place), len(rows)) for g in gaps]
    asked: dict[int, list[tuple[int, int]]] = {}
    for (copy, place), row in rows.items():
        asked.setdefault(copy, []).append((place, row))
    hidden = torch.zeros(len(rows), model.config.width, dtype=model.compute_dtype, device=model.device)
    for each in passes(model, [Document(tokens, len(tokens)) for tokens in copies], batch_tokens):
        wanted = [
            (start + place, row)
            for copy, start in zip(each.documents, each.starts, strict=False)
            for place, row in asked[copy]
        ]
        places, into = zip(*wanted, strict=True)
        hidden[list(into)] = each.hidden[list(places)].to(hidden.dtype)
    of_row: dict[int, list[int]] = {}
    for number, row in enumerate(which):
        of_row.setdefault(row, []).append(number)
    found = np.empty(len(gaps))
    for part, states in in_rows(hidden):
        logits = model.logits_of(states)
        sums = logits.logsumexp(-1)
        here = [(row - part.start, number) for row in range(part.start, part.stop) for number in of_row[row]]
        targets = torch.tensor([[row, gaps[number].target] for row, number in here], device=hidden.device)
        logprobs = logits[targets[:, 0], targets[:, 1]].double() - sums[targets[:, 0]].double()
        if not logprobs.isfinite().all():
            raise ModelError("the model gave logits that are no numbers", where=str(model.source or "model"))
        found[[number for _, number in here]] = logprobs.cpu().numpy()
    return found
