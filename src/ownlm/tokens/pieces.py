"""Encoding a text that was cut into pieces, as if the pieces still stood side by side.

A byte-level tokenizer encodes every piece as it would in place. One made by SentencePiece puts a space before every
text it is given, and a piece in the middle of a conversation must not get one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import tokenizers


class PieceEncoder:
    """Encodes the pieces of a cut text.

    Attributes:
        joins: whether the tokenizer adds something at a text's start, so that pieces need their neighbours.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend
        description = json.loads(backend.to_str())
        changed = False
        for part in ("normalizer", "pre_tokenizer"):
            description[part], differs = _without_prefix(description[part])
            changed = changed or differs
        self.joins = changed
        self._continuing = tokenizers.Tokenizer.from_str(json.dumps(description)) if changed else backend
        self._added = {number: token.content for number, token in backend.get_added_tokens_decoder().items()}

    def encode(self, pieces: Sequence[str], before: int | None = None) -> list[list[int]]:
        """The ids of each piece; ``before`` is the token that the first one follows, if any."""
        if not self.joins:
            return [self._ids(piece) for piece in pieces]
        encoded: list[list[int]] = []
        for piece in pieces:
            encoded.append(self._ids(piece) if before is None else self._ids_after(before, piece))
            before = encoded[-1][-1] if encoded[-1] else before
        return encoded

    def _ids(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids

    def _ids_after(self, before: int, piece: str) -> list[int]:
        """The ids of a piece that stands after the token ``before``."""
        if before in self._added:
            # An added token always stands alone, so it can be put in front and taken away again.
            return self._ids(self._added[before] + piece)[1:]
        encoding = self._continuing.encode(piece, add_special_tokens=False)
        for place, token in enumerate(encoding.ids):
            begin, end = encoding.offsets[place]
            # The token for what is unknown may be an added one too, and stands for other text than its own.
            if token in self._added and self._added[token] in piece[begin:end]:
                # From the first added token on, the text is as it would be anywhere.
                return encoding.ids[:place] + self._ids(piece[begin:])
        return encoding.ids


def _without_prefix(part: Any) -> tuple[Any, bool]:
    """A normalizer's or pre-tokenizer's description without what it adds at the start, and whether it differs."""
    if part is None:
        return None, False
    kind = part["type"]
    if kind == "Prepend":
        return None, True
    if kind == "Metaspace" and part.get("prepend_scheme", "always") != "never":
        return part | {"prepend_scheme": "never"}, True
    if kind == "ByteLevel" and part.get("add_prefix_space"):
        return part | {"add_prefix_space": False}, True
    for list_name in ("normalizers", "pretokenizers"):
        if list_name in part:
            inner = [_without_prefix(member) for member in part[list_name]]
            members = [member for member, _ in inner if member is not None]
            return part | {list_name: members}, any(differs for _, differs in inner)
    return part, False
