"""Scanning: seeds by brute force, batches against single documents, offsets, and every way an item can stand there."""

from __future__ import annotations

import pyarrow as pa
import pytest
from contamination_samples import METAL, PASSAGE, TOWER
from hypothesis import given
from hypothesis import strategies as st

from ownlm.data.contamination.index import EvaluationIndex
from ownlm.data.contamination.rarity import text_column
from ownlm.data.contamination.scan import _seed_places, candidates, scan
from ownlm.data.contamination.sets import Item
from ownlm.data.words import find_words

FILLER = "Boats were hauled up for the season and the ropes were coiled in the shed. " * 3


def found(text: str, index: EvaluationIndex) -> list[dict[str, object]]:
    return scan(text_column([text]), index).to_pylist()


words = st.lists(st.sampled_from(["ibis", "newt", "the", "yak"]), max_size=14).map(" ".join)


@given(st.lists(words, max_size=5), st.lists(words, max_size=5), st.integers(2, 4))
def test_seeds_are_found_wherever_they_stand(texts: list[str], questions: list[str], ngram: int) -> None:
    index = EvaluationIndex.build([Item("s", str(n), text) for n, text in enumerate(questions)], ngram=ngram)
    column = find_words(text_column(texts), "letters")
    at, unit, place = (array.tolist() for array in _seed_places(column, index))
    units = list(dict.fromkeys(tuple(text.split()) for text in questions if len(text.split()) >= 3))
    expected = []
    begin = 0
    for text in texts:
        mine = text.split()
        for u, p in zip(index.seed_units.tolist(), index.seed_places.tolist(), strict=True):
            gram = list(units[u][p : p + min(ngram, len(units[u]))])
            expected += [(begin + i, u, p) for i in range(len(mine)) if mine[i : i + len(gram)] == gram]
        begin += len(mine)
    assert sorted(zip(at, unit, place, strict=True)) == sorted(expected)


pieces = st.lists(
    st.sampled_from([METAL, TOWER, PASSAGE, "mercury", "Answer: B", "1889", "\n\n", "ünï ✓ 𝔘 İ", FILLER, "中国", "?!"])
    | st.text(max_size=12),
    max_size=8,
).map(" ".join)


@given(st.lists(pieces, max_size=6))
def test_a_batch_is_its_documents_one_by_one(index: EvaluationIndex, texts: list[str]) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    together = scan(text_column(texts), index)
    alone = [{**row, "document": number} for number, text in enumerate(texts) for row in found(text, index)]
    assert together.to_pylist() == alone
    # A slice of a longer column, as a batch of a table is.
    assert scan(text_column(["x", *texts, "y"]).slice(1, len(texts)), index).equals(together)
    for row in together.to_pylist():
        text = texts[row["document"]]
        assert 0 <= row["start"] < row["end"] <= len(text)
        assert row["matched"] == text[row["start"] : row["end"]][:500]
        assert index.items[row["number"]].id == row["item"]
        assert 0.4 <= row["score"] <= 1


WAYS = {
    "verbatim": f"{METAL} Mercury",
    "in other cases": f"{METAL.upper()} MERCURY",
    "without punctuation": METAL.replace("?", "").lower() + " mercury",
    "in the middle of a line": f"{FILLER}{METAL} Mercury {FILLER}",
    "wrapped": METAL.replace(" ", "\n> ") + "\n> Mercury",
    "JSON": '{"answer": "mercury", "question": "' + METAL + '"}',
    "markdown": f"**{METAL}**\n\n- iron\n- copper\n- *mercury*\n",
    "a word changed": METAL.replace("room", "ordinary") + " Mercury",
    "a word inserted": METAL.replace("was used", "was often used") + " Mercury",
    "a word deleted": METAL.replace("old ", "") + " Mercury",
    "answer further on": f"{METAL} {FILLER[:150]} Mercury",
    "choices in another order": f"{METAL}\nA) zinc\nB) copper\nC) mercury\nD) iron\nAnswer: C",
    "only the letter": f"{METAL}\nAnswer: B",
}


@pytest.mark.parametrize("way", WAYS)
def test_an_item_is_found(index: EvaluationIndex, way: str) -> None:
    (row,) = found(WAYS[way], index)
    assert (row["set"], row["item"]) == ("school", "7")
    assert row["score"] >= 0.6
    assert row["answer"] > 0


def test_the_region_is_question_and_answer(index: EvaluationIndex) -> None:
    text = f"{FILLER}É. {METAL} It is mercury. {FILLER}"
    (row,) = found(text, index)
    assert text[row["start"] : row["end"]] == f"{METAL} It is mercury."


def test_a_question_without_its_answer_is_weaker(index: EvaluationIndex) -> None:
    (alone,), (answered,) = found(METAL, index), found(f"{METAL} Mercury", index)
    assert alone["answer"] == 0
    assert alone["score"] < answered["score"]


def test_a_reading_question_needs_more_than_its_passage(index: EvaluationIndex) -> None:
    assert found(PASSAGE, index) == []
    (row,) = found(f"{PASSAGE}\n\nQ: {TOWER}\nA: 1889", index)
    assert (row["score"] > 0.9, row["passage"]) == (True, 1.0)
    (row,) = found(f"{TOWER} In 1889.", index)
    assert row["score"] >= 0.6
    assert row["passage"] == 0


def test_every_copy_in_a_document_is_found(index: EvaluationIndex) -> None:
    text = f"{METAL} Mercury.\n" * 5 + FILLER + f"{METAL} Mercury."
    rows = found(text, index)
    assert len(rows) == 6
    assert [text[row["start"] : row["end"]] for row in rows] == [f"{METAL} Mercury."] * 6


def test_half_of_a_long_text_is_found() -> None:
    text = " ".join(f"the {number}th plover flew over marsh {number * 7}" for number in range(60))
    index = EvaluationIndex.build([Item("held-out", "1", text)])
    half = " ".join(text.split()[:210])
    rows = found(f"{FILLER} {half} {FILLER}", index)
    assert [row["item"] for row in rows if row["score"] > 0.8] == ["1"]


def test_one_row_for_items_that_ask_the_same() -> None:
    asked = "How are visitors told when the opening hours of the reading room change?"
    items = [Item("s", str(n), asked, (answer,)) for n, answer in enumerate(("by letter", "on the door", "on a board"))]
    index = EvaluationIndex.build(items)
    (row,) = found(f"{asked} On the door.", index)
    assert row["item"] == "1"


def test_a_phrase_repeated_without_end_fills_no_memory(index: EvaluationIndex) -> None:
    text = "liquid at room temperature " * 20_000
    column = find_words(text_column([text]), "letters")
    assert len(_seed_places(column, index)[0]) <= 100 * len(index.seed_places)
    assert found(text, index) == []


def test_other_scripts() -> None:
    items = [Item("zh", "1", "你知道中国的首都是哪一个城市吗？", ("北京",)), Item("ru", "2", "Какой металл жидкий при комнатной температуре?", ("ртуть",))]  # fmt: skip
    index = EvaluationIndex.build(items)
    texts = [
        "问：你知道中国的首都是哪一个城市吗？答：北京。",
        "КАКОЙ МЕТАЛЛ ЖИДКИЙ ПРИ КОМНАТНОЙ ТЕМПЕРАТУРЕ? Ртуть.",
        "中国的首都是北京。",
    ]
    rows = scan(text_column(texts), index).to_pylist()
    assert [(row["document"], row["item"], row["score"] > 0.8) for row in rows] == [(0, "1", True), (1, "2", True)]


def test_nothing_to_find_and_nothing_to_look_in(index: EvaluationIndex) -> None:
    empty = EvaluationIndex.build([])
    full = scan(text_column([METAL]), index).schema
    for texts in ([], [""], ["", METAL]):
        table = scan(text_column(texts), empty)
        assert (table.num_rows, table.schema) == (0, full)
    assert scan(text_column(["", " \n"]), index).num_rows == 0
    assert candidates(find_words(text_column([]), "letters"), index) == []


def test_words_at_hand_are_used(index: EvaluationIndex) -> None:
    column = text_column([f"{METAL} Mercury", FILLER])
    assert scan(column, index, find_words(column, "letters")).equals(scan(column, index))
    assert isinstance(column, pa.LargeStringArray)
