"""What stands around texts is what the public tokenizer puts there."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import transformers
from hypothesis import given
from hypothesis import strategies as st

from ownlm.errors import ModelError
from ownlm.tokens.flat import rows_of
from ownlm.tokens.frame import Frame, frame_of, heads, side_by_side
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer

TEXTS = ["The model reads.", "by word and", "token", "what it has seen before"]
ROWS = st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=6)


@pytest.fixture(scope="module")
def tokenizer(encoder: Path) -> Tokenizer:
    return load_tokenizer(encoder)


def framed(tokenizer: Tokenizer, first: list[str], second: list[str] | None, causal: bool) -> list[list[int]]:
    """Documents as ``Frame.rows`` makes them, with the segment of each token checked along the way."""
    frame = frame_of(tokenizer, pair=second is not None, causal=causal)
    rows = [rows_of([tokenizer.encode(text) for text in texts]) for texts in (first, second) if texts is not None]
    (ids, offsets), begins = frame.rows(*rows)
    assert len(begins) == len(first) and len(frame) == len(frame.before) + len(frame.between) + len(frame.after)
    return [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)]


def test_a_bert_is_framed_as_the_public_tokenizer_does(encoder: Path, tokenizer: Tokenizer) -> None:
    public = transformers.AutoTokenizer.from_pretrained(encoder)
    other = TEXTS[::-1]
    assert framed(tokenizer, TEXTS, None, causal=False) == public(TEXTS)["input_ids"]
    assert framed(tokenizer, TEXTS, other, causal=False) == public(TEXTS, other)["input_ids"]
    frame = frame_of(tokenizer, pair=True, causal=False)
    first, second = (rows_of([tokenizer.encode(text) for text in texts]) for texts in (TEXTS, other))
    (_, offsets), begins = frame.rows(first, second)
    encoding = tokenizer.backend.encode_batch(list(zip(TEXTS, other, strict=True)))
    segments = [[int(place >= begin) for place in range(n)] for n, begin in zip(np.diff(offsets), begins, strict=True)]
    assert frame.segments and segments == [one.type_ids for one in encoding]


def with_frame(tokenizer: Tokenizer, processor: object, **names: str) -> Tokenizer:
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.post_processor = processor
    return Tokenizer(backend, names=names)


def test_a_roberta_has_two_tokens_between_and_no_segments(tokenizer: Tokenizer) -> None:
    roberta = with_frame(tokenizer, tokenizers.processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2)))
    assert frame_of(roberta, pair=True, causal=False) == Frame((2,), (3, 3), (3,), False)
    assert frame_of(roberta, pair=False, causal=False) == Frame((2,), (), (3,))


def test_an_encoder_without_a_frame_of_its_own_gets_berts(tokenizer: Tokenizer) -> None:
    bare = with_frame(tokenizer, tokenizers.processors.ByteLevel(), cls_token="[CLS]", sep_token="[SEP]")
    assert frame_of(bare, pair=True, causal=False) == frame_of(tokenizer, pair=True, causal=False)
    nameless = with_frame(tokenizer, tokenizers.processors.ByteLevel())
    with pytest.raises(ModelError, match=r"no \[CLS\] and \[SEP\]"):
        frame_of(nameless, pair=False, causal=False)


def test_a_decoder_needs_no_frame_but_something_between_two_texts(bpe: Tokenizer, tokenizer: Tokenizer) -> None:
    assert frame_of(bpe, pair=False, causal=True) == Frame((), (), ())
    assert bpe.eos_id is not None
    assert frame_of(bpe, pair=True, causal=True) == Frame((), (bpe.eos_id,), ())
    with pytest.raises(ModelError, match="between two texts"):
        frame_of(with_frame(tokenizer, tokenizers.processors.ByteLevel()), pair=True, causal=True)


@given(rows=ROWS, more=ROWS)
def test_rows_side_by_side_are_lists_added_up(rows: list[list[int]], more: list[list[int]]) -> None:
    count = min(len(rows), len(more))
    parts = [rows[:count], more[:count], rows[:count]]
    ids, offsets = side_by_side([rows_of(part) for part in parts])
    expected = [a + b + c for a, b, c in zip(*parts, strict=True)]
    assert [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)] == expected


@given(rows=ROWS, data=st.data())
def test_heads_are_slices(rows: list[list[int]], data: st.DataObject) -> None:
    limits = [data.draw(st.integers(0, 7)) for _ in rows]
    ids, offsets = heads(rows_of(rows), np.array(limits, np.int64))
    kept = [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    assert kept == [row[:limit] for row, limit in zip(rows, limits, strict=True)]
