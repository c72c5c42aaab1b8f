"""Recall and precision on planted leaks and hard negatives, on sets that no threshold was chosen on."""

from __future__ import annotations

from pathlib import Path

from ownlm.data.contamination.index import EvaluationIndex
from ownlm.data.contamination.judge import LEAK, judge
from ownlm.data.contamination.rarity import text_column
from ownlm.data.contamination.scan import scan


def test_planted_leaks_are_found_and_hard_negatives_left_alone(shared_data: Path, tmp_path: Path) -> None:
    from planted import plant

    planted = plant(shared_data, tmp_path, ["hellaswag", "boolq", "winogrande", "squad2"], seed=6, each=15)
    index = EvaluationIndex.build(planted.items)
    hits = scan(text_column([document.text for document in planted.documents]), index)
    leaks = hits.append_column("verdict", judge(hits, planted.options)).to_pylist()
    flagged = {row["document"] for row in leaks if row["verdict"] == LEAK}
    planted_in = {number for number, document in enumerate(planted.documents) if document.item is not None}
    true = len(flagged & planted_in)
    assert (len(planted_in), len(planted.documents) - len(planted_in)) == (180, 165)
    assert true / len(planted_in) >= 0.95
    assert true / len(flagged) >= 0.9
    # And it is the planted item that is named, or another that asks the same.
    named = {
        row["document"]
        for row in leaks
        if row["verdict"] == LEAK
        and (item := planted.documents[row["document"]].item)
        and index.items[row["number"]].question == item.question
    }
    assert len(named) >= 0.98 * true
