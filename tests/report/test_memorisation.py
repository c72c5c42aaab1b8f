"""What the page says of canaries and of sources that are passed often."""

from __future__ import annotations

from typing import Any

import pytest

from ownlm.report.memorisation import add_memorisation, memorisation_verdict
from ownlm.report.page import Report
from ownlm.report.passes import repeat_warnings


def measured(median: float, extracted: int) -> dict[str, Any]:
    canary = {"text": "The number is 1.", "loss": 1.5, "rank": 2, "exposure": median, "extracted": bool(extracted)}
    counts = {"count": 1, "repeats": 4.0, "held_out": 500, "highest_exposure": 8.969}
    return {**counts, "median_exposure": median, "extracted": extracted, "canaries": [canary]}


@pytest.mark.parametrize(
    ("median", "extracted", "begins", "warns"),
    [(1.0, 0, "no sign of memorising", False), (4.0, 0, "partly memorised", True), (9.0, 1, "memorised: 1 of 1", True)],
)
def test_the_verdict_follows_from_exposure_and_extraction(
    median: float, extracted: int, begins: str, warns: bool
) -> None:
    found = measured(median, extracted)
    assert memorisation_verdict(found).startswith(begins)
    report = Report("Training report")
    add_memorisation(report, found)
    page = report.html()
    assert "The number is 1." in page and "read 4 times a pass" in page and ('role="note"' in page) == warns


def test_a_run_without_canaries_has_no_section() -> None:
    report = Report("Training report")
    add_memorisation(report, {})
    assert "Memorisation" not in report.html()


def test_only_more_than_four_unwanted_passes_are_warned_of() -> None:
    lines = repeat_warnings({"a": 4.0, "b": 4.1, "c": 9.0}, wanted=["c"])
    assert len(lines) == 1 and lines[0].startswith("b is passed 4.1 times")
