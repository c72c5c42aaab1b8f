"""A scorer is trained, measured and installed; HateCheck's figures are those of its cases, counted plainly."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from ownlm.errors import UserError
from ownlm.evaluate.hatecheck import FUNCTIONALITIES, cases, check, known_errors
from ownlm.evaluate.scorer_train import RECIPES, train_scorer
from ownlm.evaluate.scorers import Scorer, ScorerReport, installed_scorers
from ownlm.files import verify_folder

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, Any] = {
    "precision": "fp32",
    "compile": False,
    "data.length": 32,
    "batch_tokens": 256,
    "dropout": 0.0,
    "validate.every": 20,
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Texts whose class a word tells."""
    folder = tmp_path / "data"
    folder.mkdir()
    words = ["the", "model", "reads", "by", "word", "and", "it", "has"]
    draw = np.random.default_rng(0)
    lines = [
        f"{' '.join(draw.choice(words, 4))} {n // 2} {'writes' if n % 2 else 'learns'}\t{'Toxic' if n % 2 else 'Not Toxic'}"
        for n in range(300)
    ]
    table = "".join(f'"{text}",{label}\n' for text, label in (line.split("\t") for line in lines))
    (folder / "toxicity_en.csv").write_text("text,is_toxic\n" + table)
    return folder


def test_a_scorer_is_trained_measured_and_installed(
    data: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    said: list[str] = []
    scorer = train_scorer(
        "toxicity",
        data,
        base=str(encoder),
        changes=SMALL | {"epochs": 3, "optimizer.lr": 3e-3},
        hatecheck=cases()[:29],
        say=said.append,
    )
    assert scorer.folder == tmp_path / "home" / "scorers" / "toxicity"
    verify_folder(scorer.folder)
    (found,) = installed_scorers().values()
    assert found.report == scorer.report and found.report.positive == "toxic"
    figures = {one.name: one for one in found.report.held_out}
    assert figures["accuracy"].value > 0.9 and figures["auroc"].value > 0.95
    assert all(0 <= one.low <= one.value <= one.high <= 1 for one in found.report.held_out)
    assert found.report.hatecheck[0].name == "overall" and found.report.hatecheck[0].n == 29
    assert any("Sap et al. 2019" in one for one in found.report.errors)
    (source,) = found.report.data
    assert source.file == "toxicity_en.csv" and source.licence == "MIT"
    low, high = found.scores(["the model reads by 7 learns", "the model reads by 7 writes"])
    assert low < 0.5 < high
    # Nothing else is left behind.
    assert not (tmp_path / "home" / "cache" / "scorers" / "toxicity").exists()


def test_what_is_there_is_not_replaced(data: Path, encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="something else stands here"):
        train_scorer("toxicity", data, base=str(encoder), out=tmp_path / "out")
    with pytest.raises(UserError, match=r"no recipe.*toxicity"):
        train_scorer("toxcity", data)


class Words(Scorer):
    """Toxic is what holds the word hate."""

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([float("hate" in text) for text in texts])


def test_hatecheck_is_counted_case_by_case() -> None:
    scorer = Words("words", Path("none"), ScorerReport(name="words", measures="hate", positive="toxic"))
    items = cases()
    assert len(items) == 3728 and {str(item.values["functionality"]) for item in items} == set(FUNCTIONALITIES)
    found = check(scorer, items)
    right: dict[str, list[bool]] = {}
    for item in items:
        hit = ("hate" in item.values["text"]) == (item.values["label"] == "hateful")
        for key in ("overall", item.values["label"], item.values["functionality"], item.values["group"]):
            right.setdefault(str(key), []).append(hit)
    for figure in (*found.by_function, *found.by_group):
        assert figure.value == pytest.approx(np.mean(right[figure.name])) and figure.n == len(right[figure.name])
        assert figure.low <= figure.value <= figure.high
    assert len(found.by_function) == 3 + 29 and len(found.by_group) == 7
    told = known_errors(found, "toxic")
    for name, what in FUNCTIONALITIES.items():
        wrong, hateful = 1 - np.mean(right[name]), name.endswith("_h")
        taken = "not toxic" if hateful else "toxic"
        sentence = f"It takes {what} to be {taken} in {wrong:.0%} of HateCheck's {len(right[name])} such cases."
        assert (sentence in told) == (wrong > 0.3)
    assert told[0] == max(told[:-1], key=lambda text: int(text.split(" in ")[-1].split("%")[0]))


@pytest.mark.parametrize("name", ["toxicity", "sentiment"])
def test_recipes_for_ones_own_files_are_those_that_scorers_are_trained_with(name: str) -> None:
    shipped = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    shown = yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text())
    for key in ("base", "objective", "batch_tokens", "epochs", "dropout", "optimizer", "schedule"):
        assert shipped[key] == shown[key]


def test_hatecheck_is_the_published_one(shared_data: Path) -> None:
    with (shared_data / "hatecheck" / "test_suite_cases.csv").open(encoding="utf-8", newline="") as file:
        published = {
            (row["functionality"], row["test_case"].strip(), row["label_gold"]) for row in csv.DictReader(file)
        }
    ours = {(i.values["functionality"], i.values["text"], i.values["label"]) for i in cases()}
    assert ours == published
