"""The special tokens around a text, or around and between two: [CLS] A [SEP] B [SEP] for a BERT, <s> A for a Llama.

The tokenizer's own program says what they are, so that a document has the ids that any other tool gives the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .flat import Rows, offsets_of
from .tokenizer import Tokenizer

# Any text that every tokenizer has a token for.
_PROBE = "a"


@dataclass(frozen=True)
class Frame:
    """What stands around and between texts.

    Attributes:
        before, between, after: ids; nothing stands between where there is one text.
        segments: whether the second text, and what stands after it, are of a segment of their own.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    segments: bool = False

    def __len__(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def rows(self, first: Rows, second: Rows | None = None) -> tuple[Rows, NDArray[np.int64]]:
        """Framed documents of one text each, or two.

        Returns:
            The rows, and where in each the second text begins, or where the document ends: [documents].
        """
        count = len(first[1]) - 1
        parts = [_repeated(self.before, count), first, _repeated(self.between, count)]
        parts += [*([second] if second is not None else []), _repeated(self.after, count)]
        joined = side_by_side(parts)
        begins = len(self.before) + np.diff(first[1]) + len(self.between)
        return joined, begins if second is not None else np.diff(joined[1])


def frame_of(tokenizer: Tokenizer, *, pair: bool, causal: bool) -> Frame:
    """A tokenizer's frame.

    Args:
        tokenizer: whose; where its program puts nothing around a text, an encoder's is made of its special tokens.
        pair: of two texts.
        causal: whether the model is a decoder, which needs none.

    Raises:
        ModelError: an encoder's tokenizer has neither a frame nor [CLS] and [SEP]; or a decoder's has nothing that could
            stand between two texts.
    """
    backend = tokenizer.backend
    encoding = backend.encode(_PROBE, _PROBE) if pair else backend.encode(_PROBE)
    # The text of each token, None being the frame's.
    first, second = ([i for i, text in enumerate(encoding.sequence_ids) if text == number] for number in (0, 1))
    last = (second or first)[-1]
    before, after = encoding.ids[: first[0]], encoding.ids[last + 1 :]
    between = encoding.ids[first[-1] + 1 : second[0]] if pair else []
    if not causal and not before:
        return _usual_frame(tokenizer, pair)
    if pair and not between:
        if tokenizer.eos_id is None:
            hint = "give one text, or a tokenizer with an end-of-text token"
            raise ModelError("this tokenizer has no token that could stand between two texts", hint=hint)
        between = [tokenizer.eos_id]
    return Frame(tuple(before), tuple(between), tuple(after), not causal and bool(encoding.type_ids[last]))


def _usual_frame(tokenizer: Tokenizer, pair: bool) -> Frame:
    """BERT's own (Devlin et al. 2018, section 3)."""
    begin, end = (tokenizer.backend.token_to_id(tokenizer.names.get(kind, "")) for kind in ("cls_token", "sep_token"))
    if begin is None or end is None:
        raise ModelError(
            "this tokenizer has no [CLS] and [SEP] tokens, which an encoder reads a text between",
            hint="name them in its tokenizer_config.json as cls_token and sep_token, or use a decoder",
        )
    return Frame((begin,), (end,) if pair else (), (end,), pair)


def side_by_side(parts: Sequence[Rows]) -> Rows:
    """Each row of the first part followed by the same row of the next ones."""
    lengths = [np.diff(offsets) for _, offsets in parts]
    offsets = offsets_of(np.sum(lengths, axis=0))
    result = np.empty(offsets[-1], np.uint32)
    begins = offsets[:-1].copy()
    for (ids, own), count in zip(parts, lengths, strict=True):
        result[np.repeat(begins - own[:-1], count) + np.arange(len(ids))] = ids
        begins += count
    return result, offsets


def heads(rows: Rows, lengths: NDArray[np.int64]) -> Rows:
    """The first ids of each row, at most as many as ``lengths`` says: [rows]."""
    ids, offsets = rows
    counts = np.diff(offsets)
    kept = np.minimum(counts, lengths)
    places = np.arange(len(ids)) - np.repeat(offsets[:-1], counts)
    return ids[places < np.repeat(kept, counts)], offsets_of(kept)


def _repeated(ids: Sequence[int], count: int) -> Rows:
    return np.tile(np.array(ids, np.uint32), count), np.arange(count + 1, dtype=np.int64) * len(ids)
