"""A group's name is evidence of nothing: what is added says so, and the report tells whether it worked."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ownlm.evaluate.group_frames import HARMLESS, INSULTS, NAMED, TESTED_HARMLESS, TESTED_INSULTS, UNSEEN
from ownlm.evaluate.hatecheck import cases
from ownlm.evaluate.scorer_data import Example
from ownlm.evaluate.scorer_groups import NOUNS, added, filled, forms, group_errors, group_figures
from ownlm.evaluate.scorers import Scorer, ScorerReport, load_scorer, spread
from ownlm.evaluate.shipped import SHIPPED

TRAIN = [Example(f"text {n} has no name", "harmless") for n in range(3000)]


def test_each_group_has_as_many_harmless_texts_and_insults() -> None:
    new = added(TRAIN, [])
    assert new == added(TRAIN, []) and len({one.key for one in new}) == len(new) <= 0.3 * len(TRAIN)
    assert not {one.key for one in new[:3]} & {one.key for one in added(TRAIN, new[:3])}
    counts: Counter[tuple[str, str]] = Counter()
    for name in NAMED:
        texts = {filled(frame, name, noun) for frame in (*HARMLESS, *INSULTS) for noun in NOUNS}
        counts.update((name, one.label) for one in new if one.text in texts)
    # "Young people" and the like are written alike from no other name.
    assert {label: {counts[name, label] for name in NAMED} for label in ("harmless", "toxic")} == {
        "harmless": {9},
        "toxic": {6},
    }


def test_copies_have_another_group_and_the_same_class() -> None:
    train = [*TRAIN, Example("those Mexicans, so rude", "toxic"), Example("a Muslim and a gay man sing", "harmless")]
    new = added(train, [])
    copies = [one for one in new if one.text.startswith("those ") and one.text.endswith(", so rude")]
    assert len(copies) == 2 and all(one.label == "toxic" for one in copies)
    assert all(one.text.split(",")[0][6:] in {forms(name)[1] for name in NAMED} for one in copies)
    sung = [one for one in new if re.fullmatch(r"a .* and a .* sing", one.text)]
    assert sung and all(one.label == "harmless" for one in sung)


def test_frames_are_filled() -> None:
    assert filled("{a_one} met {many}.", "atheist/atheists") == "An atheist met atheists."
    assert filled("the {one} left", "gay -", ("man", "men")) == "The gay man left"
    assert forms("left-handed -") == ("left-handed person", "left-handed people")
    assert filled("{many} left", "deaf -") == "Deaf people left"


def test_what_the_report_is_made_with_is_never_learned_from() -> None:
    assert not set(NAMED) & set(UNSEEN)
    assert not {*HARMLESS, *INSULTS} & {*TESTED_HARMLESS, *TESTED_INSULTS}
    written = " ".join(one.text.casefold() for one in added([*TRAIN, *TRAIN], []))
    for name in UNSEEN:
        for form in forms(name):
            assert not re.search(rf"\b{form.casefold()}\b", written), form


def test_frames_share_no_words_with_the_tests_of_others() -> None:
    lines = (SHIPPED / "continuations.jsonl").read_text().splitlines()
    tests = [item.values["text"] for item in cases()] + [json.loads(line)["prompt"] for line in lines]
    known = {four for text in tests for four in fours(text)}
    keys = {Example(text, "").key for text in tests}
    for frame in (*HARMLESS, *INSULTS, *TESTED_HARMLESS, *TESTED_INSULTS):
        assert not [four for part in re.split(r"\{\w+\}", frame) for four in fours(part) if four in known], frame
        assert not {Example(filled(frame, name), "").key for name in (*NAMED, *UNSEEN)} & keys, frame


def fours(text: str) -> list[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return [tuple(words[place : place + 4]) for place in range(len(words) - 3)]


class Names(Scorer):
    """Toxic is what names Sikhs, and a little what is longer."""

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([0.9 if "Sikh" in text else min(len(text), 99) / 1000 for text in texts])


def test_figures_are_those_of_each_groups_texts() -> None:
    scorer = Names("names", Path("none"), ScorerReport(name="names", measures="names", positive="toxic"))
    toxic = ["x" * n for n in (10, 50, 80)]
    found = group_figures(scorer, toxic)
    names = (*NAMED, *UNSEEN)
    assert [one.name for one in found.scores] == [forms(name)[1] for name in names]
    assert [one.label for one in found.scores] == ["seen"] * len(NAMED) + ["unseen"] * len(UNSEEN)
    for name, score, auc, bpsn in zip(names, found.scores, found.auc, found.bpsn, strict=True):
        harmless = scorer.scores([filled(frame, name) for frame in TESTED_HARMLESS])
        assert score.value == pytest.approx(harmless.mean()) and score.n == len(harmless)
        for figure, others in (
            (auc, scorer.scores([filled(frame, name) for frame in TESTED_INSULTS])),
            (bpsn, scorer.scores(toxic)),
        ):
            right = np.repeat((0, 1), (len(harmless), len(others)))
            assert figure.value == pytest.approx(roc_auc_score(right, np.concatenate((harmless, others))))
            assert figure.low <= figure.value <= figure.high
    first, second = group_errors(found, "toxic")
    assert "one of 1 of" in first and "Sikhs" in first and "0.90 about another (Sikhs)" in second
    seen = [one for one in found.scores if one.label == "seen"]
    report = scorer.report.model_copy(update={"groups": found.scores, "groups_bpsn": found.bpsn})
    assert len(spread(report)) == 2 and "(Sikhs)" in spread(report)[1] and f"{len(seen)} groups" in spread(report)[0]
    assert spread(scorer.report) == []


def test_a_scorer_that_takes_no_name_for_evidence_has_no_such_error(make_scorer: Callable[..., Path]) -> None:
    class Same(Scorer):
        def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
            return np.full(len(texts), 0.1)

    report = load_scorer(make_scorer("toxicity")).report
    assert group_errors(group_figures(Same("same", Path("none"), report), ["bad"]), "toxic") == ()
