"""``ownlm eval`` and ``ownlm bias``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from .answer import Answer, columns
from .sampling import Adapter, Device, Dtype, ModelName

if TYPE_CHECKING:
    from ..evaluate.run import Ran

COMES_ALONG = "comes with ownlm"
# What the folder of an evaluation holds.
FILES = ("report.html", "scores.json", "items.jsonl")

MaybeModel = Annotated[
    str | None,
    typer.Argument(help="A folder, hf:ORG/NAME, a .gguf file, or a name from 'ownlm models'.", metavar="MODEL"),
]
Schema = Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of a task's file, for editors.")]
Suites = Annotated[
    list[str] | None, typer.Option("--suite", help="Tasks run together, such as core; may be repeated.", metavar="NAME")
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="A task, or a task file ending in .yaml; may be repeated.", metavar="NAME"),
]
Shots = Annotated[str, typer.Option(help="Worked examples before each item; several draw a curve.", metavar="K,K")]
Data = Annotated[
    Path | None, typer.Option(help="A folder with tasks' data; used before what comes with ownlm.", metavar="DIR")
]
Limit = Annotated[int | None, typer.Option(help="The most items of a task: the first ones.", metavar="N", min=1)]
Kept = Annotated[
    str | None,
    typer.Option(
        "--store", help="Record the scores there, for 'ownlm trend': sqlite:///FILE or postgresql://...", metavar="URL"
    ),
]
Name = Annotated[
    str | None,
    typer.Option(help="What the model is called in the store, so that folders of its versions are one history."),
]
Out = Annotated[Path | None, typer.Option(help="Where the report, the scores and all items go.", metavar="DIR")]


def evaluate(
    model: MaybeModel = None,
    suite: Suites = None,
    task: Tasks = None,
    shots: Shots = "0",
    data: Data = None,
    limit: Limit = None,
    out: Out = None,
    store: Kept = None,
    name: Name = None,
    adapter: Adapter = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    schema: Schema = False,
) -> Answer:
    """Measure a model on tasks: how likely it finds right answers, how well it predicts texts.

    Every score comes with its 95% interval. What several items begin with is read once, and nothing is cut in silence: items
    longer than the model reads are counted and told. Without a name, the tasks and suites are listed.
    """
    if schema:
        from ..evaluate.schemas import task_schema

        return Answer(task_schema(), output=json.dumps(task_schema(), indent=2))
    if model is None:
        raise UserError("a model is missing", where="MODEL", hint="write: ownlm eval MODEL --suite core")
    counts = shot_counts(shots)
    if not suite and not task:
        return _listed(model)
    return measured(
        model,
        task or (),
        suite or (),
        counts,
        data,
        limit,
        out,
        "evaluation",
        (dtype, device, adapter),
        kept(store, name),
    )


def bias(
    model: ModelName,
    suite: Suites = None,
    task: Tasks = None,
    data: Data = None,
    limit: Limit = None,
    out: Out = None,
    store: Kept = None,
    name: Name = None,
    adapter: Adapter = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Answer:
    """Measure what a model takes for granted about people: StereoSet, CrowS-Pairs, WinoBias, BBQ.

    For models that go on from texts and for masked ones alike. Without a name, all of them are run; their data comes with
    ownlm. A suite finds differences of its own kind only, and finding none proves little.
    """
    suites = suite if suite or task else ["bias"]
    return measured(
        model, task or (), suites or (), [0], data, limit, out, "bias", (dtype, device, adapter), kept(store, name)
    )


def measured(
    model: str,
    tasks: Sequence[str],
    suites: Sequence[str],
    shots: Sequence[int],
    data: Path | None,
    limit: int | None,
    out: Path | None,
    kind: str,
    load: tuple[str, str, str | None],
    recorded: tuple[str, str] | None = None,
) -> Answer:
    """Runs tasks, writes the folder and says what came of it; recorded: the store, and what the model is called there."""
    from .. import api
    from ..evaluate.run import run_tasks, score_of
    from ..evaluate.subject import Subject
    from ..files import check_replaceable, new_folder, write_json, write_text
    from ..report.evaluation import evaluation_report

    folder = out or Path(f"{kind}-{Path(model).stem.replace(':', '-')}")
    check_replaceable(folder, FILES)
    keep = None
    if recorded is not None:
        from ..watch.history import Asked, keeping

        # A store that is not there is told before hours of measuring.
        keep = keeping(recorded[0], Asked(model, tasks, suites, shots, limit, data, *load, recorded[1]))
    subject = Subject(api.load_model(model, *load), api.load_tokenizer(model), model)
    ran = run_tasks(subject, tasks, suites=suites, data=data, shots=shots, limit=limit)
    if keep is not None:
        keep(ran)
    scores = [asdict(score_of(measurement)) for one in ran for measurement in one.measured.measurements]
    parts: list[dict[str, Any]] = [
        {
            "task": one.task,
            "shots": one.shots,
            "about": one.about,
            "source": one.source,
            "licence": one.licence,
            "data": _data(one),
            "n": len(one.measured.records) or len(one.measured.measurements[0]),
            "long": one.measured.long,
            "long_was": "their beginnings were cut off" if one.cuts else "were left out",
            "notes": one.measured.notes,
            "records": one.measured.records,
        }
        for one in ran
    ]
    with new_folder(folder) as place:
        evaluation_report(model, scores, parts, "Bias" if kind == "bias" else "Evaluation").write(place / "report.html")
        write_json(place / "scores.json", {"model": model, "scores": scores})
        lines = [
            {"task": part["task"], "shots": part["shots"], **record} for part in parts for record in part["records"]
        ]
        write_text(place / "items.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    result = {
        "model": model,
        "scores": scores,
        "long": {f"{part['task']}, {part['shots']} shots": part["long"] for part in parts if part["long"]},
        "notes": {part["task"]: list(part["notes"]) for part in parts if part["notes"]},
        "data": {part["task"]: part["data"] for part in parts if part["data"]},
        "report": str(folder / "report.html"),
    }
    return Answer(result, _text(result, parts))


def kept(store: str | None, name: str | None) -> tuple[str, str] | None:
    """Where scores are recorded, and what the model is called there; None for nowhere.

    Raises:
        UserError: a name without a store.
    """
    if store is None and name is not None:
        raise UserError("a name is for the store, and none is given", where="--name", hint="add --store URL")
    return None if store is None else (store, name or "")


def _data(ran: Ran) -> str:
    """Which file a task's items are from."""
    from ..evaluate.shipped import comes_along

    if ran.data is None:
        return ""
    return f"{COMES_ALONG} ({ran.data.name})" if comes_along(ran.data) else str(ran.data)


def shot_counts(text: str) -> list[int]:
    """Numbers of worked examples as they are typed: ``0,1,8``.

    Raises:
        UserError: they are no such numbers.
    """
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or any(count < 0 for count in counts):
        raise UserError(f"'{text}' is no list of counts", where="--shots", hint="such as 0,1,8")
    return counts


def _text(result: dict[str, Any], tasks: list[dict[str, Any]]) -> str:
    rows = [("task", "shots", "metric", "value", "95% interval", "best", "items")]
    for score in result["scores"]:
        value, low, high = (f"{score[key]:.4g}" for key in ("value", "low", "high"))
        best = "" if score["best"] is None else f"{score['best']:g}"
        shots, between = str(score["shots"]), f"{low} to {high}"
        rows.append((score["task"], shots, score["metric"], value, between, best, f"{score['n']:,}"))
    lines = [
        f"{t['long']:,} too long for {t['task']} ({t['shots']} shots): {t['long_was']}" for t in tasks if t["long"]
    ]
    # Where all of it comes along there is nothing to tell apart.
    places = result["data"] if any(not place.startswith(COMES_ALONG) for place in result["data"].values()) else {}
    lines += [f"Items of {task}: {place}" for task, place in places.items()]
    return "\n".join([f"{result['model']}\n", columns(rows), *lines, f"\nReport: {result['report']}"])


def _listed(model: str) -> Answer:
    from ..evaluate.suites import read_task, suite_names, task_names

    tasks = [read_task(name)[0] for name in task_names()]
    rows = [("task", "kind", "measures"), *((task.name, task.kind, task.about) for task in tasks)]
    text = f"Name a task or a suite ({', '.join(suite_names())}):\n\n{columns(rows)}"
    return Answer({"model": model, "tasks": task_names(), "suites": suite_names(), "scores": [], "report": None}, text)
