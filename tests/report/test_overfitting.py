"""The verdict on a run's two losses: hand-made curves of every kind."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from ownlm.report.overfitting import judge_fit
from ownlm.report.training import training_report

STEPS = range(1, 101)
FALLING = [(step, 3 * math.exp(-step / 60) + 1) for step in STEPS]
AT = range(0, 101, 10)


def test_lowest_before_the_end_is_not_still_falling() -> None:
    """Its running median falls to the end, and the report says from which step on the curve itself rose."""
    held = [0.693, 0.246, 0.215, 0.191, 0.172, 0.162, 0.151, 0.157, 0.154]
    training = [(step, 0.5 - step / 400) for step in STEPS]
    fit = judge_fit(training, [(12 * place, loss) for place, loss in enumerate(held)])
    assert fit.verdict == "flat" and "flat from step 72 on" in fit.text and "training loss fell" in fit.text


def test_still_falling() -> None:
    fit = judge_fit(FALLING, [(step, 3 * math.exp(-step / 60) + 1.2) for step in AT])
    assert fit.verdict == "falling" and not fit.warns and "still falling at the end" in fit.text


def test_flat() -> None:
    fit = judge_fit(FALLING, [(step, 3 * math.exp(-step / 8) + 1.2) for step in AT])
    assert fit.verdict == "flat" and not fit.warns
    assert "while the training loss fell from" in fit.text
    both = judge_fit([(step, 2.0) for step in STEPS], [(step, 2.1) for step in AT])
    assert both.verdict == "flat" and "more steps alone change little" in both.text


def test_overfitting_from_the_step_where_it_was_lowest() -> None:
    fit = judge_fit(FALLING, [(step, 2 + abs(step - 40) / 50) for step in AT])
    assert (fit.verdict, fit.since) == ("overfitting", 40) and fit.warns
    # By hand: the means of the steps 31 to 40 and 91 to 100.
    before, after = (sum(loss for _, loss in FALLING[a - 10 : a]) / 10 for a in (40, 100))
    assert f"while the training loss fell from {before:.3f} to {after:.3f}" in fit.text
    assert fit.gap[0][0] == 10 and fit.gap[-1] == (100, pytest.approx(2 + 60 / 50 - after))


def test_both_rising_is_no_overfitting() -> None:
    training = [(step, 1 + abs(step - 40) / 50) for step in STEPS]
    fit = judge_fit(training, [(step, 2 + abs(step - 40) / 50) for step in AT])
    assert fit.verdict == "unsteady" and fit.since is None


@pytest.mark.parametrize("odd", AT[1:])
def test_one_odd_validation_decides_nothing(odd: int) -> None:
    validation = [(step, (3 * math.exp(-step / 60) + 1.2) * (1.5 if step == odd else 1)) for step in AT]
    assert judge_fit(FALLING, validation).verdict == "falling"


def test_noise_of_the_steps_decides_nothing() -> None:
    draw = random.Random(1)
    noisy = [(step, loss * draw.uniform(0.7, 1.3)) for step, loss in FALLING]
    assert judge_fit(noisy, [(step, 2 + abs(step - 40) / 50) for step in AT]).since == 40


@pytest.mark.parametrize(
    ("validation", "verdict", "words"),
    [
        ([], "unknown", "Nothing was held out"),
        ([(100, 2.0)], "unknown", "measured once"),
        ([(0, 2.0), (100, math.nan)], "not-finite", "training failed"),
        ([(0, 2.0), (100, 3.0)], "overfitting", "Overfitting from step 0 on"),
    ],
)
def test_little_to_go_by(validation: list[tuple[float, float]], verdict: str, words: str) -> None:
    fit = judge_fit(FALLING, validation)
    assert fit.verdict == verdict and words in fit.text


def test_nothing_at_all_is_no_error() -> None:
    assert judge_fit([], []).verdict == "unknown"
    assert judge_fit([], [(0, 1.0), (1, 2.0)]).verdict == "unsteady"


def test_planned_and_measures_are_on_the_page(tmp_path: Path) -> None:
    rows = [{"step": 0, "val_loss": 2.0, "val_accuracy": 0.5}, {"step": 1, "loss": 2.0}]
    rows += [{"step": 1, "val_loss": 1.0, "val_accuracy": 0.75}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    planned = {"memory_bytes": 1e9, "tokens_per_second": 100.0, "hours": None, "parameters": 50}
    run = {"peak_memory_bytes": 1.1e9, "tokens_per_second": 90.0, "seconds": 3.0, "parameters": 50, "planned": planned}
    (tmp_path / "run.json").write_text(json.dumps(run))
    page = training_report(tmp_path).html()
    assert "accuracy: 0.500 at step 0, 0.750 at step 1" in page
    for text in ("1 GB", "1.1 GB", "+10%", "-10%", "+0%"):
        assert text in page


def test_a_loss_that_never_moved_is_not_called_learned() -> None:
    training = [(n, 5.90 - 0.002 * n) for n in range(1, 13)]
    fit = judge_fit(training, [(n, 5.898 - 0.002 * n) for n in range(0, 13, 2)])
    assert fit.verdict == "flat" and "hardly moved in the whole run, from 5.898 to 5.874" in fit.text


def test_two_measurements_are_told_with_their_steps() -> None:
    fit = judge_fit([(n, 3.0 - 0.1 * n) for n in range(1, 8)], [(0, 3.0), (7, 2.2)])
    assert fit.verdict == "falling" and "from 3.000 at step 0 to 2.200" in fit.text
