"""``ownlm data seen``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .answer import Answer
from .eval import Data, Limit, Suites, Tasks, seen_lines

# Items that a terminal shows.
SHOWN = 5
MOST_TEXT = 200

Sources = Annotated[
    list[str],
    typer.Argument(help="Folders that 'ownlm data build' made, data files, or a run's folder.", metavar="DATASET..."),
]
Out = Annotated[Path | None, typer.Option(help="Writes a page with the items and what was found.", metavar="FILE.html")]


def seen(
    datasets: Sources,
    suite: Suites = None,
    task: Tasks = None,
    data: Data = None,
    limit: Limit = None,
    out: Out = None,
) -> Answer:
    """Look for the items of tasks in training data, before a model is trained on it or after.

    An item is seen in full where its question stands in a document with its answer, in part where the answer is missing.
    Common quotations and the words of a template are no item, and what is too short to tell is counted as such.
    """
    from ..evaluate.run import read_with_items
    from ..evaluate.seen.check import Check, look, sources_of
    from ..report.page import Report
    from ..report.seen import add_seen

    tasks = read_with_items(task or (), suite or (), data, limit)
    sources = {name: path for given in datasets for name, path in sources_of(given).items()}
    counts, exposures = look(tasks, sources)
    found: dict[str, Any] = Check(counts, [], exposures).as_json()
    if out is not None:
        report = Report("Items in training data", ", ".join(counts))
        total = sum(one.seen for one in exposures)
        report.summary(f"{total:,} of {len(exposures):,} items of {', '.join(tasks)} stand in the training data.")
        add_seen(report, found)
        report.write(out)
    lines = [f"{name}: {count:,} documents" for name, count in counts.items()] + seen_lines(found)
    for one in [one for one in exposures if one.seen][:SHOWN]:
        place = one.places[0]
        lines += [f"\n{one.where}, {one.how}:", f"  {_short(one.text)}", f"  {place.where}: {_short(place.text)}"]
    return Answer(
        found | {"report": None if out is None else str(out)}, "\n".join(lines + ([f"\nReport: {out}"] if out else []))
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MOST_TEXT else f"{line[:MOST_TEXT]} …"
