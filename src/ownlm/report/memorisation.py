"""What a run's canaries say: how much of what was put into the data to be found again the model knows by heart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..units import plural
from .page import Report

# Of a model that learned nothing by heart, the ranks are drawn evenly: each number has one chance in eight of being at
# 3 bits or more, and the median of eight numbers about one in a hundred.
TELLING = 3.0
SOURCE = "canaries (invented)"
"""The source that they are in a run's ledger."""
ABOUT = (
    "Invented numbers were put among the training data (canaries: Carlini et al. 2019). A number's exposure is how far "
    "the model prefers it to numbers of the same form that it never saw, in bits: about 1 where it learned nothing by "
    "heart, the highest where it comes before all of them. It is extracted where the model, asked, writes it out."
)


def memorisation_verdict(measured: Mapping[str, Any]) -> str:
    """What ``memorisation`` in a run's summary means, in a sentence or two, without the last full stop."""
    count, extracted, median = measured["count"], measured["extracted"], measured["median_exposure"]
    read = f"read {measured['repeats']:g} times a pass" if measured["repeats"] != 1 else "read once a pass"
    bits = f"median exposure {median:.1f} of at most {measured['highest_exposure']:.1f} bits"
    if extracted:
        return f"memorised: {extracted} of {plural(count, 'invented number')}, {read}, can be extracted ({bits})"
    if median >= TELLING:
        return f"partly memorised: none of {plural(count, 'invented number')}, {read}, can be extracted, but {bits}"
    return f"no sign of memorising: none of {plural(count, 'invented number')}, {read}, can be extracted ({bits})"


def add_memorisation(report: Report, measured: Mapping[str, Any]) -> None:
    """Adds a section of them; nothing where the run had none."""
    if not measured:
        return
    report.section("Memorisation", ABOUT)
    verdict = memorisation_verdict(measured)
    warns = bool(measured["extracted"]) or measured["median_exposure"] >= TELLING
    report.note(f"{verdict[0].upper()}{verdict[1:]}.", warning=warns)
    rows = [[c["text"], c["loss"], c["rank"], c["exposure"], c["extracted"]] for c in measured["canaries"]]
    note = f"Ranks are among {measured['held_out']:,} numbers that were held out; the loss is of the number alone."
    report.table("Canaries", ["canary", "loss, nats", "rank", "exposure, bits", "extracted"], rows, note)
