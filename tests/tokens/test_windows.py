"""Windows of a context against the public tokenizer's, and answers found in them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from ownlm.errors import DataError
from ownlm.tokens.frame import Frame
from ownlm.tokens.questions import read_questions
from ownlm.tokens.shards import TokenDataset
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer
from ownlm.tokens.windows import Windowing, encode_with_places, make_windows, tokenize_questions

CONTEXT = (
    "The model reads text by word, and the token it has seen before learns what the model writes while the loss falls."
)
FRAME = Frame((101,), (102,), (103,), True)


@pytest.fixture(scope="module")
def tokenizer(encoder: Path) -> Tokenizer:
    return load_tokenizer(encoder)


def asked(name: str, answer: str | None, context: str = CONTEXT) -> dict[str, Any]:
    answers = [] if answer is None else [{"text": answer, "answer_start": context.find(answer)}]
    return {"id": name, "question": "What reads?", "context": context, "answers": answers}


def prepare(rows: list[dict[str, Any]], tokenizer: Tokenizer, folder: Path, **changes: Any) -> Any:
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options: dict[str, Any] = {"causal": False, "length": 64, "stride": 4, **changes}
    prepared = tokenize_questions(path, Windowing(tokenizer, **options), cache_folder=folder / "cache")
    return TokenDataset(prepared.folder), prepared


@given(tokens=st.integers(1, 80), question=st.integers(1, 10), length=st.integers(8, 40), stride=st.integers(0, 12))
def test_windows_hold_the_whole_context_and_overlap(tokens: int, question: int, length: int, stride: int) -> None:
    asked, context = list(range(200, 200 + question)), list(range(1000, 1000 + tokens))
    windows = make_windows(FRAME, asked, context, length, stride)
    room = length - question - 3
    if room < 1 or (tokens > room and room <= stride):
        assert windows == []
        return
    for window in windows:
        part = context[window.first : window.first + window.count]
        assert window.ids == [101, *asked, 102, *part, 103] and len(window.ids) <= length
        assert window.ids[window.place] == part[0] and window.count > 0
    assert windows[0].first == 0 and windows[-1].first + windows[-1].count == tokens
    for one, two in itertools.pairwise(windows):
        assert one.first + one.count - two.first == stride and len(one.ids) == length
    # None that the ones before make needless.
    assert all(window.first + stride < tokens for window in windows[1:])


@pytest.mark.parametrize(("length", "stride"), [(64, 4), (20, 4), (14, 0), (16, 7)])
def test_they_are_the_public_tokenizers(length: int, stride: int, encoder: Path, tokenizer: Tokenizer) -> None:
    public = transformers.AutoTokenizer.from_pretrained(encoder)
    options: dict[str, Any] = {"truncation": "only_second", "max_length": length, "stride": stride}
    expected = public("What reads?", CONTEXT, **options, return_overflowing_tokens=True, return_offsets_mapping=True)
    windowing = Windowing(tokenizer, causal=False, length=length, stride=stride)
    (context,) = encode_with_places(tokenizer, [CONTEXT])
    windows = make_windows(windowing.frame, tokenizer.encode("What reads?"), context.ids, length, stride)
    assert [window.ids for window in windows] == expected["input_ids"]
    for window, offsets in zip(windows, expected["offset_mapping"], strict=True):
        places = context.places[window.first : window.first + window.count].tolist()
        assert [tuple(place) for place in places] == offsets[window.place : window.place + window.count]


def test_places_are_characters_whatever_the_tokenizer(bpe: Tokenizer, tokenizer: Tokenizer) -> None:
    for each in (bpe, tokenizer):
        text = "  The  model reads\ncafé text "
        (encoded,) = encode_with_places(each, [text])
        shown = [text[start:end] for start, end in encoded.places.tolist()]
        assert not any(part != part.strip() for part in shown)
        for word in text.split():
            start = text.index(word)
            span = encoded.span(start, start + len(word))
            assert span is not None
            covered = encoded.places[span[0] : span[1] + 1]
            assert (covered[0, 0], covered[-1, 1]) == (start, start + len(word))
        assert encoded.span(0, 1) is None


@pytest.mark.parametrize("answer", ["model reads", "token", "word, and the", "loss falls.", "text by word"])
@pytest.mark.parametrize("length", [64, 18])
def test_every_window_says_where_its_answer_stands(
    answer: str, length: int, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    dataset, prepared = prepare([asked("a", answer), asked("b", None)], tokenizer, tmp_path, length=length)
    (first, second) = read_questions([tmp_path / "a.jsonl"])
    assert prepared.documents == len(dataset) and dataset.info["unanswerable"] == 1 and dataset.info["questions"] == 2
    found = 0
    for number, (key, (start, end), window) in enumerate(
        zip(*(dataset.columns[name].tolist() for name in ("key", "span", "window")), strict=True)
    ):
        ids = dataset.document(number)[0].tolist()
        assert window[2] == ids.index(3) + 1 and window[1] == len(ids) - 1 - window[2]
        if key == [second.key]:
            assert (start, end) == (0, 0)
            continue
        assert key == [first.key]
        if start:
            found += 1
            assert ids[start : end + 1] == tokenizer.encode(answer)
        else:
            held = "".join(f" {i}" for i in ids[window[2] :])
            assert "".join(f" {i}" for i in tokenizer.encode(answer)) not in held
    assert found >= 1


def test_an_answer_that_is_not_there(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [asked("a", "token"), asked("b", "cat")]
    with pytest.raises(DataError, match="the answer 'cat' is not in its context") as caught:
        prepare(rows, tokenizer, tmp_path)
    assert caught.value.where == f"{tmp_path / 'a.jsonl'}:2"
    dataset, prepared = prepare(rows, tokenizer, tmp_path, on_bad="drop")
    tokens = 3 + len(tokenizer.encode("What reads?")) + len(tokenizer.encode(CONTEXT))
    assert prepared.dropped == {"an answer that is not in its context": {"documents": 1, "tokens": tokens}}
    assert dataset.info["questions"] == len(dataset) == 1
    with pytest.raises(DataError, match="every question was left out"):
        prepare(rows[1:], tokenizer, tmp_path, on_bad="drop")


def test_an_answer_that_is_empty_or_has_no_token_is_the_one_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an answer is empty"):
        prepare([asked("a", "")], tokenizer, tmp_path)
    answers = [{"text": "model", "answer_start": 4}, {"text": "\x01", "answer_start": 10}]
    row = {"question": "What?", "context": "The model \x01 reads.", "answers": answers}
    with pytest.raises(DataError, match=r"the answer '\\x01' is not in its context"):
        prepare([row], tokenizer, tmp_path)


def test_an_answer_that_stands_several_times_needs_its_place(tokenizer: Tokenizer, tmp_path: Path) -> None:
    row = {"question": "What?", "context": "The model reads the model.", "answer": "model"}
    with pytest.raises(DataError, match="'model' is not in its context at its place") as caught:
        prepare([row], tokenizer, tmp_path)
    assert "answer_start if it stands there several times" in str(caught.value.hint)
    assert prepare([{**row, "answer_start": 20}], tokenizer, tmp_path)[0].info["questions"] == 1


def test_a_question_that_leaves_no_room(tokenizer: Tokenizer, tmp_path: Path) -> None:
    long = {**asked("b", "token"), "question": "what " * 50}
    with pytest.raises(DataError, match="this question has 50 tokens, which leaves too little of the 40") as caught:
        prepare([asked("a", "token"), long], tokenizer, tmp_path, length=40)
    assert caught.value.where == f"{tmp_path / 'a.jsonl'}:2"
    dataset, prepared = prepare([asked("a", "token"), long], tokenizer, tmp_path, length=40, too_long="drop")
    assert len(dataset) == 1 and prepared.dropped["a question too long for its context"]["documents"] == 1
