"""Many texts as flat arrays: the ids that each text has on its own, whichever library gives them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.tokens import fast, flat
from ownlm.tokens.flat import FlatEncoder, concatenate_rows, offsets_of, rows_of, select_rows, with_ends
from ownlm.tokens.tokenizer import Tokenizer
from ownlm.tokens.train_bpe import train_tokenizer

KINDS = ("bpe", "chat", "llama", "wordpiece", "unigram")

pieces = st.sampled_from(
    ["the", " dog", "\n", "  ", "<|im_start|>", "</s>", "🙂", "é", "'ll", "12345", "\r\n", "你好", "\0", "a" * 40]
)
texts = st.lists(st.one_of(st.text(max_size=20), st.lists(pieces, max_size=12).map("".join)), max_size=12)
rows = st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=6)


def lists(given_rows: flat.Rows) -> list[list[int]]:
    ids, offsets = given_rows
    assert (ids.dtype, offsets.dtype) == (np.uint32, np.int64)
    assert offsets[0] == 0 and offsets[-1] == len(ids)
    return [row.tolist() for row in np.split(ids, offsets[1:-1])] if len(offsets) > 1 else []


@pytest.fixture(scope="module")
def backends(
    bpe: Tokenizer, chat_backend: str, llama_backend: str, sample: list[str]
) -> dict[str, tokenizers.Tokenizer]:
    return {
        "bpe": bpe.backend,
        "chat": tokenizers.Tokenizer.from_str(chat_backend),
        "llama": tokenizers.Tokenizer.from_str(llama_backend),
        "wordpiece": train_tokenizer(sample, 400, "wordpiece").backend,
        "unigram": train_tokenizer(sample, 300, "unigram").backend,
    }


@pytest.fixture(scope="module", params=["fast", "slow"])
def encoders(
    request: pytest.FixtureRequest,
    backends: dict[str, tokenizers.Tokenizer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, FlatEncoder]]:
    """With the fast library from the first text on, and without it."""
    if request.param == "fast":
        pytest.importorskip("gigatoken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat, "FAST_FROM", 0 if request.param == "fast" else 10**12)
        cache = tmp_path_factory.mktemp("encoders")
        made = {kind: FlatEncoder(backend, cache) for kind, backend in backends.items()}
        for kind, encoder in made.items():
            encoder.encode(["a"])
            used = encoder._fast is not None
            assert used == (request.param == "fast" and kind in ("bpe", "chat", "llama"))
        yield made


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(given_texts=texts)
def test_each_text_has_the_ids_it_has_alone(
    kind: str, given_texts: list[str], encoders: dict[str, FlatEncoder], backends: dict[str, tokenizers.Tokenizer]
) -> None:
    backend = backends[kind]
    expected = [backend.encode(text, add_special_tokens=False).ids for text in given_texts]
    assert lists(encoders[kind].encode(given_texts)) == expected
    assert not encoders[kind].mistrusted


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_an_arrow_array_is_as_good_as_a_list(
    kind: str, encoders: dict[str, FlatEncoder], backends: dict[str, tokenizers.Tokenizer], sample: list[str]
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    given_texts = [*sample, "", "<|endoftext|>", "x" * 9000, ""]
    array = pyarrow.array(given_texts, pyarrow.large_string())
    encoder = encoders[kind]
    expected = [backends[kind].encode(text, add_special_tokens=False).ids for text in given_texts]
    assert lists(encoder.encode(array)) == expected
    assert lists(encoder.encode(array[3:-2])) == expected[3:-2]
    assert lists(encoder.encode(array[:0])) == []


def test_many_texts_are_encoded_in_groups(
    bpe: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: list[str]
) -> None:
    monkeypatch.setattr(flat, "GROUP", 100)
    encoder = FlatEncoder(bpe.backend, tmp_path)
    assert lists(encoder.encode(sample)) == bpe.encode_many(sample)


def test_a_text_that_is_none_is_refused_by_both(encoders: dict[str, FlatEncoder]) -> None:
    with pytest.raises((TypeError, UnicodeEncodeError)):
        encoders["bpe"].encode(["fine", "\ud800"])
    assert not encoders["bpe"].mistrusted
    assert lists(encoders["bpe"].encode([""])) == [[]]


def test_pieces_of_texts(bpe: Tokenizer, llama_backend: str) -> None:
    llama = Tokenizer.from_parts(tokenizers.Tokenizer.from_str(llama_backend), eos="</s>")
    cut = [["The quick", " brown fox"], [], ["<s>", "a dog", "", " minds</s> it"]]
    for tokenizer in (bpe, llama):
        expected = [ids for pieces in cut for ids in tokenizer.encode_pieces(pieces)]
        assert lists(tokenizer.encode_pieces_flat(cut)) == expected


@given(rows, st.sampled_from([None, 7]), st.sampled_from([None, 8]))
def test_a_token_before_and_after_each_row(given_rows: list[list[int]], begin: int | None, end: int | None) -> None:
    before, after = ([] if token is None else [token] for token in (begin, end))
    expected = [[*before, *row, *after] for row in given_rows]
    assert lists(with_ends(rows_of(given_rows), begin, end)) == expected


@given(rows, st.data())
def test_rows_selected(given_rows: list[list[int]], data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(given_rows), max_size=len(given_rows)))
    flags = np.array([token % 2 == 0 for row in given_rows for token in row], bool)
    chosen, marks = select_rows(rows_of(given_rows), np.array(kept, bool), flags)
    expected = [row for row, keep in zip(given_rows, kept, strict=True) if keep]
    assert lists(chosen) == expected
    assert marks is not None
    assert marks.tolist() == [token % 2 == 0 for row in expected for token in row]
    assert select_rows(rows_of(given_rows), np.array(kept, bool), None)[1] is None


@given(st.lists(rows, max_size=4))
def test_rows_one_after_another(parts: list[list[list[int]]]) -> None:
    assert lists(concatenate_rows([rows_of(part) for part in parts])) == [row for part in parts for row in part]


def test_where_rows_begin() -> None:
    assert offsets_of(np.array([2, 0, 3])).tolist() == [0, 2, 2, 5]
    assert offsets_of(np.array([], np.int64)).tolist() == [0]


def test_a_library_that_errs_later_is_used_no_more(
    bpe: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: list[str]
) -> None:
    pytest.importorskip("gigatoken")
    monkeypatch.setattr(flat, "FAST_FROM", 0)
    expected = bpe.encode_many(sample)
    encoder = FlatEncoder(bpe.backend, tmp_path)
    assert lists(encoder.encode(sample)) == expected
    right = fast.FastEncoder.encode
    # A library that gives every text's tokens from the last to the first.
    monkeypatch.setattr(fast.FastEncoder, "encode", lambda self, texts: reversed_rows(right(self, texts)))
    assert lists(encoder.encode(sample)) == expected
    assert encoder.mistrusted
    # Nor is it used by those who come after.
    monkeypatch.setattr(fast.FastEncoder, "encode", right)
    assert fast.trusted_encoder(bpe.backend, tmp_path) is None
    assert lists(encoder.encode(sample)) == expected


def reversed_rows(given_rows: flat.Rows) -> flat.Rows:
    ids, offsets = given_rows
    ids = ids.copy()
    for start, end in itertools.pairwise(offsets):
        ids[start:end] = ids[start:end][::-1]
    return ids, offsets
