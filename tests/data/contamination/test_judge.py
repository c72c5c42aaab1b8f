"""Verdicts, the report's rows, and items that nothing could prove."""

from __future__ import annotations

from contamination_samples import METAL, TOWER

from ownlm.data.contamination.index import EvaluationIndex
from ownlm.data.contamination.judge import hit_rows, item_text, judge, not_checkable
from ownlm.data.contamination.options import DecontaminationOptions, EvaluationSet
from ownlm.data.contamination.rarity import text_column
from ownlm.data.contamination.scan import scan
from ownlm.data.contamination.sets import Item

TEXTS = [f"{METAL} Mercury", "The boats were hauled up.", f"{METAL}", f"{TOWER} They say 1889. {METAL} mercury"]


def test_thresholds(index: EvaluationIndex) -> None:
    hits = scan(text_column(TEXTS), index)
    scores = [row["score"] for row in hits.to_pylist()]
    assert judge(hits, DecontaminationOptions()).to_pylist() == ["leak"] * 4
    # The document with the bare question has the least score.
    least = sorted(scores)[1]
    weak = judge(hits, DecontaminationOptions(threshold=least)).to_pylist()
    assert weak == ["leak" if score >= least else "weak" for score in scores]
    assert weak.count("weak") == 1
    school = EvaluationSet(name="school", path="x", threshold=1.0)
    strict = judge(hits, DecontaminationOptions(sets=[school])).to_pylist()
    assert strict == ["weak" if name == "school" else "leak" for name in hits["set"].to_pylist()]


def test_a_question_found_everywhere_without_its_answer_is_common_text(index: EvaluationIndex) -> None:
    hits = scan(text_column([METAL] * 5 + [f"{METAL} Mercury", f"{METAL}\n{METAL}"]), index)
    common, scarce = (judge(hits, DecontaminationOptions(common=most)).to_pylist() for most in (6, 7))
    answered = [row["answer"] > 0 for row in hits.to_pylist()]
    assert common == ["leak" if found else "common" for found in answered]
    assert answered.count(True) == 1
    assert scarce == ["leak"] * 8


def test_no_hits(index: EvaluationIndex) -> None:
    assert judge(scan(text_column(["nothing"]), index), DecontaminationOptions()).to_pylist() == []


def test_rows_show_the_text_beside_the_item(index: EvaluationIndex) -> None:
    hits = scan(text_column(TEXTS), index)
    hits = hits.append_column("verdict", judge(hits, DecontaminationOptions()))
    rows = hit_rows(hits, index, ids=["d0", "d1", "d2", "d3"], sources=["a.txt", "a.txt", "b.txt", "c.txt"]).to_pylist()
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert {row["id"]: row["source"] for row in rows} == {"d0": "a.txt", "d2": "b.txt", "d3": "c.txt"}
    first = next(row for row in rows if row["id"] == "d0")
    assert first["matched"] == TEXTS[0]
    assert first["item_text"] == f"{METAL}\n→ mercury"
    assert (first["set"], first["item"], first["verdict"]) == ("school", "7", "leak")


def test_long_items_are_shown_by_their_beginning() -> None:
    index = EvaluationIndex.build([Item("s", "1", "heron " * 200)])
    assert item_text(index, 0) == ("heron " * 200)[:500] + " …"


def test_what_cannot_be_checked_is_said(index: EvaluationIndex) -> None:
    assert not_checkable(index, DecontaminationOptions()) == [(3, "too short"), (4, "too common")]
    strict = DecontaminationOptions(sets=[EvaluationSet(name="held-out", path="x", threshold=1.0)])
    assert (2, "too common") in not_checkable(index, strict)
