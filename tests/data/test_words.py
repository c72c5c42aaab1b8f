"""Words as flat arrays, against Python's own string methods."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data import words as module
from ownlm.data.words import find_words, flat_bytes, hash_bytes, ngrams

# Letters, signs, white space and the borders between one, two, three and four bytes.
ALPHABET = "abAB19 \t\n.,'-_\u00a0\u0085ßÉéΣσ\u2003\u2028’“—…\u3000。日本かナ한글Ａ！\u20ac→𝒜😀𠀀؟،²½ªµ々·\x1c\u200d"
texts_of = st.lists(st.text(st.one_of(st.sampled_from(ALPHABET), st.characters(codec="utf-8")), max_size=40))


def column(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def is_separator(character: str) -> bool:
    """What stands between words of the kind 'letters': anything but letters, marks on them, and numbers."""
    code = ord(character)
    if code >= 0x10000:
        return 0x1F000 <= code <= 0x1FAFF
    return not stands_alone(character) and unicodedata.category(character)[0] not in "LMN"


def stands_alone(character: str) -> bool:
    code = ord(character)
    return any(
        low <= code <= high for low, high in [(0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)]
    )


def letters_of(text: str) -> list[str]:
    words, word = [], ""
    for character in text:
        if is_separator(character) or stands_alone(character):
            words.append(word)
            word = ""
            if stands_alone(character):
                words.append(character)
        else:
            word += character
    return [found for found in [*words, word] if found]


def strings(texts: list[str], kind: str) -> list[list[str]]:
    found = find_words(column(texts), kind)  # type: ignore[arg-type]
    data = found.data.tobytes()
    spelled = [data[start:end].decode() for start, end in zip(found.starts, found.ends, strict=True)]
    return [spelled[a:b] for a, b in zip(found.documents, found.documents[1:], strict=False)]


@settings(max_examples=300, deadline=None)
@given(texts_of)
def test_words_between_white_space_are_those_of_python(texts: list[str]) -> None:
    assert strings(texts, "space") == [text.split() for text in texts]


@settings(max_examples=300, deadline=None)
@given(texts_of)
def test_words_of_letters_follow_their_definition(texts: list[str]) -> None:
    assert strings(texts, "letters") == [letters_of(text) for text in texts]


@settings(max_examples=200, deadline=None)
@given(texts_of)
def test_equal_words_have_equal_hashes_and_others_do_not(texts: list[str]) -> None:
    found = find_words(column(texts), "letters")
    spelled = [word for document in strings(texts, "letters") for word in document]
    assert len(set(zip(spelled, found.hashes.tolist(), strict=True))) == len(set(spelled))
    # Letters that have no other case at all cannot be made equal by it.
    plain = {word for word in spelled if word.lower() == word.upper()}
    assert len({h for word, h in zip(spelled, found.hashes.tolist(), strict=True) if word in plain}) == len(plain)


def test_the_case_of_a_word_does_not_matter() -> None:
    found = find_words(column(["Été ÜBER Straße ПРИВЕТ Σας", "été über STRAßE привет σΑς"]), "space")
    assert found.hashes[:5].tolist() == found.hashes[5:].tolist()
    # The dotted capital I is longer than its lower case: that document is lowered in ASCII alone, others in full.
    found = find_words(column(["İ ONE", "Éa ONE", "éA one"]), "space")
    assert found.hashes[1] == found.hashes[3] == found.hashes[5]
    assert found.hashes[2] == found.hashes[4]


@settings(max_examples=200, deadline=None)
@given(texts_of, st.integers(1, 6))
def test_ngrams_stay_inside_their_document(texts: list[str], n: int) -> None:
    found = find_words(column(texts), "space")
    hashes, offsets = ngrams(found, n)
    lowered = [[int(h) for h in found.hashes[a:b]] for a, b in zip(found.documents, found.documents[1:], strict=False)]
    expected = [[tuple(d[i : i + n]) for i in range(len(d) - n + 1)] for d in lowered]
    assert np.diff(offsets).tolist() == [len(document) for document in expected]
    flat = [gram for document in expected for gram in document]
    assert len(set(zip(flat, hashes.tolist(), strict=True))) == len(set(flat)) == len(set(hashes.tolist()))


@pytest.mark.parametrize("block", [16, 64])
def test_hashes_do_not_depend_on_where_the_bytes_stand_or_how_many_there_are(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    data = generator.integers(0, 256, 5000).astype(np.uint8)
    starts = np.sort(generator.integers(0, 4900, 400))
    ends = np.minimum(starts + generator.integers(0, 150, 400), 5000)
    ends = np.maximum.accumulate(ends)
    whole = hash_bytes(data, starts, ends)
    monkeypatch.setattr(module, "_BLOCK", block)
    pieces = hash_bytes(data, starts, ends)
    assert (whole == pieces).all()
    for start, end, hashed in zip(starts, ends, whole, strict=True):
        alone = data[start:end]
        assert hash_bytes(alone, np.array([0]), np.array([len(alone)]))[0] == hashed


def test_a_column_that_is_a_slice_of_another_is_read_from_its_own_place() -> None:
    whole = column(["one two", "", "three", "four five six"])
    part = whole.slice(2, 2)
    assert find_words(part, "space").counts.tolist() == [1, 3]
    assert flat_bytes(part)[0].tobytes() == b"threefour five six"
    assert find_words(column([]), "letters").counts.tolist() == []


def test_no_two_of_a_million_words_share_a_hash() -> None:
    found = find_words(column([" ".join(map(str, range(10**6)))]), "space")
    assert len(np.unique(found.hashes)) == 10**6
