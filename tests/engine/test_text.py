"""Streamed text: exactly the decoding of the whole, in pieces that never have to be taken back."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
import tokenizers
from hypothesis import given, settings
from tokenizers import decoders, models, pre_tokenizers

from ownlm.engine.text import Detokenizer, TextStream
from ownlm.tokens.tokenizer import Tokenizer

SAYINGS = ["🙂👩‍👩‍👧‍👦 emoji", "你好，世界", "größer naïve", "ends in half �", "\n\n tabs\t", "ไทย हिन्दी", "plain text"]


def sentencepiece_like() -> Tokenizer:
    """As Llama 2 has it: ▁ for spaces, rare characters as runs of byte tokens, the first space dropped."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁the", "or", "der", "a", "好"]
    backend = tokenizers.Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return Tokenizer.from_parts(backend, bos="<s>", eos="</s>")


def unigram() -> Tokenizer:
    """SentencePiece's own spelling of spaces, without bytes."""
    backend = tokenizers.Tokenizer(
        models.Unigram([("<unk>", 0.0), ("▁", -1.0), ("▁a", -2.0), ("b", -2.0), ("é", -3.0)], 0)
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(["</s>"])
    return Tokenizer.from_parts(backend, eos="</s>")


def wordpiece() -> Tokenizer:
    """BERT's: a space before every word but the first and before no continuation."""
    pieces = ["[UNK]", "[SEP]", "pay", "##ment", "was", ".", "##s", "late"]
    backend = tokenizers.Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece(cleanup=False)
    backend.add_special_tokens(["[SEP]"])
    return Tokenizer.from_parts(backend, eos="[SEP]")


@pytest.fixture(scope="module", params=["bytes", "sentencepiece", "unigram", "wordpiece"])
def any_tokenizer(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Tokenizer:
    kinds = {"sentencepiece": sentencepiece_like, "unigram": unigram, "wordpiece": wordpiece}
    return tokenizer if request.param == "bytes" else kinds[request.param]()


def streamed(tokenizer: Tokenizer, ids: list[int], stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    """The increments up to where the stream stopped, and whether it did."""
    stream = TextStream(Detokenizer(tokenizer), stop)
    increments = []
    for token in ids:
        increments.append(stream.push(token))
        if stream.stopped:
            return increments, True
    increments.append(stream.finish())
    return increments, stream.stopped


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_increments_are_the_whole_text_for_any_ids(any_tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, any_tokenizer.vocab_size - 1), max_size=60))
    increments, _ = streamed(any_tokenizer, ids)
    assert "".join(increments) == any_tokenizer.decode(ids)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.one_of(st.sampled_from(SAYINGS), st.text(max_size=8)), max_size=6).map(" ".join))
def test_no_increment_shows_half_a_character(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, special=False)
    increments, _ = streamed(tokenizer, ids)
    assert "".join(increments) == text
    assert sum(increment.count("�") for increment in increments) == text.count("�")


@settings(deadline=None, max_examples=200)
@given(
    st.text("ab🙂\n ", max_size=30),
    st.lists(st.text("ab🙂\n", min_size=1, max_size=4), min_size=1, max_size=3),
    st.integers(0, 2**32),
)
def test_stop_texts_end_the_text_wherever_tokens_are_cut(
    tokenizer: Tokenizer, text: str, stop: list[str], seed: int
) -> None:
    cuts, rng = [], random.Random(seed)
    rest = text.encode()
    while rest:
        # Any cut of the bytes into tokens will do, in the middle of characters too.
        size = rng.randint(1, min(3, len(rest)))
        cuts.append(rest[:size])
        rest = rest[size:]
    byte = {b: tokenizer.backend.token_to_id(c) for b, c in zip(range(256), _byte_letters(), strict=True)}
    ids = [byte[b] for cut in cuts for b in cut] if seed % 2 else tokenizer.encode(text, special=False)
    increments, stopped = streamed(tokenizer, ids, tuple(stop))
    # The first place where any stop text is complete, looked for letter by letter.
    complete = [(end, end - len(s)) for end in range(len(text) + 1) for s in stop if text[:end].endswith(s)]
    assert stopped == bool(complete)
    assert "".join(increments) == (text[: min(complete)[1]] if complete else text)


def _byte_letters() -> list[str]:
    """GPT-2's printable letter for each byte, by its own rule."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    letters, extra = [], 256
    for byte in range(256):
        letters.append(chr(byte if byte in printable else extra))
        extra += byte not in printable
    return letters


def test_text_that_a_stop_text_may_swallow_is_held_back(tokenizer: Tokenizer) -> None:
    stream = TextStream(Detokenizer(tokenizer), ("###",))
    letter = {c: tokenizer.encode(c)[0] for c in "a#b"}
    assert [stream.push(letter[c]) for c in "a##b#"] == ["a", "", "", "##b", ""]
    assert [stream.push(letter[c]) for c in "##"] == ["", ""]
    assert stream.stopped
    assert stream.finish() == ""


def test_a_character_appears_with_its_last_byte(tokenizer: Tokenizer) -> None:
    byte = {b: tokenizer.backend.token_to_id(c) for b, c in zip(range(256), _byte_letters(), strict=True)}
    stream = TextStream(Detokenizer(tokenizer))
    assert [stream.push(byte[b]) for b in "é🙂".encode()] == ["", "é", "", "", "", "🙂"]
    assert stream.push(byte[0xF0]) == ""
    assert stream.finish() == "�"


def test_the_first_tokens_are_not_looked_through(tokenizer: Tokenizer) -> None:
    stream = TextStream(Detokenizer(tokenizer), ("b",), unsearched=3)
    letter = {c: tokenizer.encode(c)[0] for c in "ab"}
    assert [stream.push(letter[c]) for c in "abbab"] == ["a", "b", "b", "a", ""]
    assert stream.stopped
