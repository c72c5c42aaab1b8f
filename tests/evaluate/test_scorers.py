"""A scorer's numbers against the public library's, and what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ownlm.errors import ConfigError, DataError, ModelError, UserError
from ownlm.evaluate.scorers import FILE, Scorer, choose_scorers, installed_scorers, load_scorer

TEXTS = ["the model reads text", "what has it seen", "a b c", "the model"]


def test_scores_are_the_public_librarys(make_scorer: Callable[..., Path]) -> None:
    folder = make_scorer("toxicity")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    public = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = [float(public(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0, 1]) for text in TEXTS]
    scorer = load_scorer(folder)
    assert not scorer.used
    found = scorer.scores(TEXTS)
    assert found.dtype == np.float64 and found.tolist() == pytest.approx(expected, abs=1e-6)
    assert scorer.used and len(set(found.tolist())) == len(TEXTS)


def test_a_text_is_read_once_and_an_empty_one_never(
    make_scorer: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = load_scorer(make_scorer("sentiment", empty=0.5))
    read: list[str] = []
    original = Scorer._read

    def counted(self: Scorer, texts: list[str]) -> list[float]:
        read.extend(texts)
        return original(self, texts)

    monkeypatch.setattr(Scorer, "_read", counted)
    first = scorer.scores(["the model", "", "a b", "the model"])
    again = scorer.scores(["a b", " \n", "the model"])
    assert read == ["the model", "a b"]
    assert first[0] == first[3] == again[2] and first[1] == again[1] == 0.5


def test_what_is_too_long_is_cut_and_told(make_scorer: Callable[..., Path]) -> None:
    scorer = load_scorer(make_scorer("toxicity"))
    scorer.scores(["the " * 200, "the model"])
    assert scorer.cut == 1 and "only the beginning of 1 long" in scorer.notes[-1]


def test_its_notes_hold_what_was_measured(make_scorer: Callable[..., Path]) -> None:
    figure = {"value": 0.9, "low": 0.85, "high": 0.93, "n": 1200}
    scorer = load_scorer(
        make_scorer(
            "toxicity",
            held_out=[{"name": "macro_f1", **figure}],
            hatecheck=[{"name": "overall", **figure, "value": 0.6}],
            errors=["It errs."],
        )
    )
    (note,) = scorer.notes
    for part in ("'toxicity'", "1,200 held-out", "macro f1 0.900 (0.850 to 0.930)", "0.600", "listed with it: 1"):
        assert part in note
    assert not note.endswith(".")


def test_scorers_are_found_by_name_and_by_folder(
    make_scorer: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path))
    assert installed_scorers() == {} and choose_scorers([]) == {}
    (tmp_path / "scorers").mkdir()
    make_scorer("toxicity").rename(tmp_path / "scorers" / "toxicity")
    other = make_scorer("mine")
    assert load_scorer("toxicity").folder == tmp_path / "scorers" / "toxicity"
    assert {name: one.folder for name, one in choose_scorers([f"toxicity={other}", str(other)]).items()} == {
        "toxicity": other,
        "mine": other,
    }
    with pytest.raises(UserError, match=r"no scorer 'toxicty'.*toxicity"):
        load_scorer("toxicty")
    with pytest.raises(UserError, match=r"no scorer\.json"):
        load_scorer(tmp_path)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ("{", DataError, "not valid JSON"),
        (json.dumps({"name": "a", "measures": "b"}), ConfigError, "positive"),
        (json.dumps({"name": "a", "measures": "b", "positive": "toxic", "emty": 1}), ConfigError, "empty"),
    ],
)
def test_a_broken_report_is_named(
    make_scorer: Callable[..., Path], content: str, kind: type[UserError], message: str
) -> None:
    folder = make_scorer("toxicity")
    (folder / FILE).write_text(content)
    with pytest.raises(kind, match=message) as error:
        load_scorer(folder)
    assert FILE in str(error.value.where)


def test_the_positive_class_must_be_one_of_the_models(make_scorer: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="harmless, toxic"):
        load_scorer(make_scorer("toxicity", positive="rude")).scores(["a"])


def test_a_model_without_classes_is_no_scorer(make_scorer: Callable[..., Path], corpus: Path) -> None:
    report: dict[str, Any] = json.loads((make_scorer("toxicity") / FILE).read_text())
    scorer = load_scorer(make_scorer("toxicity"))
    broken = Scorer("toxicity", corpus / "base", scorer.report.model_validate(report))
    with pytest.raises(ModelError, match="continues texts"):
        broken.scores(["a"])
