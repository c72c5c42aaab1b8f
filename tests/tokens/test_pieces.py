"""Pieces side by side give what the whole text gives, where no token would straddle a border."""

from __future__ import annotations

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from ownlm.tokens.pieces import PieceEncoder

CUTS = [
    ["The quick", " brown fox"],
    ["<s>", "The quick"],
    ["<s>The quick</s>", " brown</s>", "fox", " jumps</s>\n"],
    ["The", " quick</s> brown", " fox"],
]


def flat(pieces: list[list[int]]) -> list[int]:
    return [token for piece in pieces for token in piece]


@pytest.mark.parametrize("pieces", CUTS)
def test_sentencepiece_prefix(llama_backend: str, pieces: list[str]) -> None:
    backend = tokenizers.Tokenizer.from_str(llama_backend)
    whole = backend.encode("".join(pieces), add_special_tokens=False).ids
    assert flat(PieceEncoder(backend).encode(pieces)) == whole


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
@pytest.mark.parametrize("pieces", CUTS)
def test_metaspace_prefix(scheme: str, pieces: list[str]) -> None:
    words = ["<unk>", "▁The", "The", "▁quick", "▁brown", "fox", "▁fox", "▁jumps", "▁", "\n"]
    backend = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend.add_special_tokens(["<s>", "</s>"])
    whole = backend.encode("".join(pieces), add_special_tokens=False).ids
    encoder = PieceEncoder(backend)
    assert encoder.joins == (scheme != "never")
    assert flat(encoder.encode(pieces)) == whole
    first, *rest = encoder.encode(pieces)
    assert encoder.encode(pieces[1:], before=first[-1]) == rest


def test_an_unknown_character_at_a_pieces_start_is_no_added_token() -> None:
    # The token for what is unknown is an added one as well, and what follows an added one would get a space.
    rows = [("<unk>", 0.0), ("▁", -1.0), ("a", -1.0), ("b", -1.0)]
    backend = tokenizers.Tokenizer(models.Unigram(rows, 0, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.add_special_tokens(["<unk>"])
    pieces = ["a", "语b", "<unk>a"]
    assert PieceEncoder(backend).encode(pieces) == [[1, 2], [0, 3], [0, 2]]
    assert flat(PieceEncoder(backend).encode(pieces)) == backend.encode("".join(pieces), add_special_tokens=False).ids
