"""A text, or two, as a model reads it: the same tokens as in training."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UserError
from ..model.transformer import Transformer
from ..tokens.frame import frame_of
from ..tokens.tokenizer import Tokenizer
from .passes import Document

Text = str | tuple[str, str]


def text_document(
    model: Transformer, tokenizer: Tokenizer, text: Text, number: int, *, cut: bool | None = None
) -> Document:
    """A text's document.

    Args:
        model: who reads it.
        tokenizer: the model's.
        text: one, or two.
        number: which of the user's it is, from 1, for errors.
        cut: keeps the beginning of one that is too long, in place of an error; None is where that is never done.

    Raises:
        UserError: it is empty or too long.
    """
    texts = [text] if isinstance(text, str) else list(text)
    if not all(part.strip() for part in texts):
        raise UserError(f"text {number} is empty", hint="leave it out, or give it some words")
    frame = frame_of(tokenizer, pair=len(texts) == 2, causal=model.config.causal)
    rows = [tokenizer.encode(part) for part in texts]
    longest = model.config.max_positions
    total = sum(map(len, rows))
    if total > longest - len(frame):
        if not cut:
            raise UserError(
                f"text {number} has {total + len(frame):,} tokens, and the model reads at most {longest:,}",
                hint="shorten it" + ("" if cut is None else ", or give --cut to read its beginning alone"),
            )
        rows = _cut(rows, longest - len(frame))
    begin = [*frame.before, *rows[0], *frame.between]
    tokens = [*begin, *(rows[1] if len(rows) == 2 else []), *frame.after]
    return Document(tokens, len(begin) if frame.segments and len(rows) == 2 else len(tokens))


def _cut(rows: Sequence[list[int]], room: int) -> list[list[int]]:
    """The beginnings that fit; of two texts the longer one gives way first, as in training."""
    if len(rows) == 1:
        return [rows[0][:room]]
    first = rows[0][: max(room - len(rows[1]), room - room // 2)]
    return [first, rows[1][: room - len(first)]]
