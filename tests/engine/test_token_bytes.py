"""What each token adds to a text, against the decoding of whole runs."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import tokenizers
from hypothesis import given, settings
from tokenizers import decoders, models

from ownlm.engine.token_bytes import TokenBytes
from ownlm.errors import ModelError
from ownlm.tokens.tokenizer import Tokenizer


@pytest.fixture(scope="module", params=["tokenizer", "sentencepiece_like", "unigram"])
def any_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(request.param)


def joined(found: TokenBytes, ids: list[int]) -> bytes:
    """The text of an answer, token by token."""
    parts = [found.middle[number] for number in ids]
    return b"".join([found.first.get(ids[0], parts[0]), *parts[1:]]) if ids else b""


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_bytes_side_by_side_are_the_decoding(any_tokenizer: Tokenizer, data: st.DataObject) -> None:
    found = _FOUND.setdefault(id(any_tokenizer), TokenBytes(any_tokenizer))
    ids = [number for number, text in enumerate(found.middle) if text]
    run = data.draw(st.lists(st.sampled_from(ids), max_size=12))
    text = joined(found, run)
    try:
        expected = text.decode()
    except UnicodeDecodeError:
        return
    assert any_tokenizer.decode(run) == expected


_FOUND: dict[int, TokenBytes] = {}


@settings(deadline=None, max_examples=100)
@given(st.text(st.one_of(st.sampled_from(" ayes好🙂é\n"), st.characters(codec="utf-8")), max_size=12))
def test_a_text_s_own_ids_spell_it(tokenizer: Tokenizer, sentencepiece_like: Tokenizer, text: str) -> None:
    for kind in (tokenizer, sentencepiece_like):
        found = _FOUND.setdefault(id(kind), TokenBytes(kind))
        assert joined(found, kind.encode(text, special=False)).decode() == text


def test_special_tokens_and_holes_add_nothing(tokenizer: Tokenizer) -> None:
    found = TokenBytes(tokenizer)
    for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        assert found.middle[tokenizer.backend.token_to_id(name)] == b""
    assert len(found.middle) == tokenizer.vocab_size and found.first == {}


def test_the_first_space_of_a_text_is_left_out(sentencepiece_like: Tokenizer) -> None:
    found = TokenBytes(sentencepiece_like)
    number = sentencepiece_like.backend.token_to_id("▁yes")
    assert found.middle[number] == b" yes" and found.first[number] == b"yes"
    assert found.middle[sentencepiece_like.backend.token_to_id("<0xE4>")] == b"\xe4"


def test_a_token_of_the_user_s_own_is_its_text(tokenizer: Tokenizer) -> None:
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    backend.add_tokens(["<think>", "two words", "Straße"])
    found = TokenBytes(Tokenizer.from_parts(backend, eos="<|endoftext|>"))
    for text in ("<think>", "two words"):
        assert found.middle[backend.token_to_id(text)] == text.encode()
    number = backend.token_to_id("Straße")
    assert found.middle[number].decode(errors="replace") == backend.decode([number])


def test_a_decoder_that_looks_around_is_refused() -> None:
    # Speech recognition writes a token once that stands there several times.
    backend = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1, "<pad>": 2, "</s>": 3}, unk_token="<pad>"))
    backend.decoder = decoders.CTC(pad_token="<pad>")
    backend.add_special_tokens(["</s>"])
    with pytest.raises(ModelError, match="cannot follow this tokenizer"):
        TokenBytes(Tokenizer.from_parts(backend, eos="</s>"))
