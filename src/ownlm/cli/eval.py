"""``ownlm eval`` and ``ownlm bias``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import __version__
from ..errors import Interrupted, UserError
from ..units import plural
from .answer import Answer, columns, plain
from .gap_table import gap_table
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
Prompts = Annotated[
    Path | None, typer.Option(help="Your own prompts: a text a line, JSON Lines, CSV or TSV.", metavar="FILE")
]
Swaps = Annotated[
    str | None,
    typer.Option(
        help="What is exchanged in them: names,gender,religion,age,nationality; else all.", metavar="NAME,NAME"
    ),
]
Scorers = Annotated[
    list[str] | None,
    typer.Option(
        "--scorer",
        help="What tells how toxic texts are, in place of the installed one; may be repeated.",
        metavar="NAME=DIR",
    ),
]
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
SeenIn = Annotated[
    list[str] | None,
    typer.Option(
        help="A data set to look for the items in, or 'none'; without it those that the model names and that are still here.",
        metavar="DATASET",
    ),
]


def evaluate(
    model: MaybeModel = None,
    suite: Suites = None,
    task: Tasks = None,
    shots: Shots = "0",
    data: Data = None,
    limit: Limit = None,
    scorer: Scorers = None,
    seen_in: SeenIn = None,
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
    longer than the model reads are counted and told. Items that stand in what the model was trained on are found, and scores
    are given without them as well. Without a name, the tasks and suites are listed.
    """
    if schema:
        from ..evaluate.schemas import task_schema

        return Answer(task_schema(), output=json.dumps(task_schema(), indent=2))
    if model is None:
        raise UserError("a model is missing", where="MODEL", hint="write: ownlm eval MODEL --suite core")
    counts = shot_counts(shots)
    if not suite and not task:
        return _listed(model)
    load = (dtype, device, adapter)
    return measured(
        model,
        task or (),
        suite or (),
        counts,
        data,
        limit,
        out,
        "evaluation",
        load,
        scorers=scorer or (),
        seen_in=seen_in or (),
        recorded=kept(store, name),
    )


def bias(
    model: ModelName,
    suite: Suites = None,
    task: Tasks = None,
    prompts: Prompts = None,
    swaps: Swaps = None,
    data: Data = None,
    limit: Limit = None,
    scorer: Scorers = None,
    seen_in: SeenIn = None,
    out: Out = None,
    store: Kept = None,
    name: Name = None,
    adapter: Adapter = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Answer:
    """Measure what a model takes for granted about people: StereoSet, CrowS-Pairs, WinoBias, BBQ, toxicity, your prompts.

    For models that go on from texts and for masked ones alike. Without a name, all suites are run; their data comes with
    ownlm. With --prompts, the model answers your prompts about several groups of people, and its answers are compared. A
    suite finds differences of its own kind only, and finding none proves little.
    """
    if swaps is not None and prompts is None:
        raise UserError(
            "there are no prompts to exchange anything in", where="--swaps", hint="name a file with --prompts"
        )
    suites = suite if suite or task or prompts else ["bias"]
    exchanged = [part.strip() for part in (swaps or "").split(",") if part.strip()]
    own = None if prompts is None else (prompts, exchanged)
    load = (dtype, device, adapter)
    return measured(
        model,
        task or (),
        suites or (),
        [0],
        data,
        limit,
        out,
        "bias",
        load,
        scorers=scorer or (),
        seen_in=seen_in or (),
        recorded=kept(store, name),
        own=own,
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
    *,
    scorers: Sequence[str] = (),
    seen_in: Sequence[str] = (),
    own: tuple[Path, list[str]] | None = None,
    recorded: tuple[str, str] | None = None,
) -> Answer:
    """Runs tasks, writes the folder and says what came of it; own: the user's prompts, and what is exchanged in them."""
    from .. import api
    from ..evaluate.prompts import check_swaps, prompts_task, read_prompts
    from ..evaluate.run import read_tasks, run_ready, run_task, score_of
    from ..evaluate.scorers import choose_scorers
    from ..evaluate.seen.check import Check, check, sources_of
    from ..evaluate.subject import Subject
    from ..files import check_replaceable, new_folder, write_json, write_text
    from ..model.identity import weights_hash
    from ..report.evaluation import evaluation_report

    folder = out or Path(f"{kind}-{Path(model).stem.replace(':', '-')}")
    check_replaceable(folder, FILES)
    if own is not None:
        check_swaps(own[1])
    prompts = None if own is None else read_prompts(own[0])[:limit]
    chosen = choose_scorers(scorers)
    asked = list(seen_in) != ["none"]
    for name in seen_in if asked else ():
        # What is wrong with it is told before a model is loaded.
        sources_of(name)
    # A store that is not there is told before hours of measuring.
    keep = None if recorded is None else _keeping(recorded, (model, tasks, suites, shots, limit, data, *load))
    ready = read_tasks(tasks, suites=suites, data=data, shots=shots, limit=limit) if tasks or suites else None
    subject = Subject(api.load_model(model, *load), api.load_tokenizer(model), model, scorers=chosen)
    place_of_model = subject.model.source
    assert place_of_model is not None
    ran: list[Ran] = []
    whole = False
    try:
        ran.extend(run_ready(subject, ready) if ready is not None else ())
        if own is not None and prompts is not None:
            ran.append(run_task(subject, prompts_task(own[0], subject, own[1]), prompts, data=own[0]))
        whole = True
    except KeyboardInterrupt:
        # Tasks that are done may have taken hours: they are written.
        if not ran:
            raise
    if keep is not None and whole:
        keep(ran)
    checked = check(place_of_model, model, ran, seen_in, adapter=load[2]) if asked else Check()
    scores = [asdict(score_of(measurement)) for one in ran for measurement in one.measured.measurements]
    parts = _parts(ran, checked.by_place(ran))
    contamination = checked.as_json()
    # What gave numbers of this page stands on it.
    trust = [one.report.model_dump(mode="json") | {"name": one.name} for one in chosen.values() if one.used]
    with new_folder(folder) as place:
        title = "Bias" if kind == "bias" else "Evaluation"
        evaluation_report(model, scores, parts, title, contamination, trust).write(place / "report.html")
        written = {
            "model": model,
            "weights": weights_hash(place_of_model, load[2]),
            "ownlm": __version__,
            "limit": limit,
            "whole": whole,
            "tasks": [{key: value for key, value in part.items() if key != "records"} for part in parts],
            "scores": scores,
            "contamination": contamination,
            "scorers": trust,
        }
        write_json(place / "scores.json", plain(written))
        write_text(place / "items.jsonl", _items(parts))
    if not whole:
        hint = "run it again for the others with --task, and another --out"
        raise Interrupted(f"interrupted; what was measured is saved: {plural(len(ran), 'task')}", where=str(folder), hint=hint)
    found = {"model": model, "scores": scores, "contamination": contamination, "scorers": trust}
    return Answer(result := _result(found, parts, folder), _text(result, parts))


def _keeping(recorded: tuple[str, str], asked: Sequence[Any]) -> Callable[[Sequence[Ran]], object]:
    """What records the measurements; recorded: the store, and what the model is called there."""
    from ..watch.history import Asked, keeping

    values: list[Any] = [*asked, recorded[1]]
    return keeping(recorded[0], Asked(*values))


def _items(parts: Sequence[Mapping[str, Any]]) -> str:
    """All items as JSON Lines."""
    lines = [{"task": part["task"], "shots": part["shots"], **record} for part in parts for record in part["records"]]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _result(found: dict[str, Any], parts: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        **found,
        "long": {f"{part['task']}, {part['shots']} shots": part["long"] for part in parts if part["long"]},
        "notes": {part["task"]: list(part["notes"]) for part in parts if part["notes"]},
        "data": {part["task"]: part["data"] for part in parts if part["data"]},
        "report": str(folder / "report.html"),
    }


def kept(store: str | None, name: str | None) -> tuple[str, str] | None:
    """Where scores are recorded, and what the model is called there; None for nowhere.

    Raises:
        UserError: a name without a store.
    """
    if store is None and name is not None:
        raise UserError("a name is for the store, and none is given", where="--name", hint="add --store URL")
    return None if store is None else (store, name or "")


def _parts(ran: Sequence[Ran], seen: Mapping[tuple[str, str], dict[str, str]]) -> list[dict[str, Any]]:
    """What the page and the files say of each task, with its items."""
    return [
        {
            "task": one.task,
            "kind": None if one.config is None else one.config.kind,
            "shots": one.shots,
            "about": one.about,
            "source": one.source,
            "licence": one.licence,
            "data": _data(one),
            "n": len(one.measured.records) or max(map(len, one.measured.measurements), default=0),
            "long": one.measured.long,
            "long_was": "their beginnings were cut off" if one.cuts else "were left out",
            "notes": one.measured.notes,
            "records": [record | seen.get((one.task, record.get("where", "")), {}) for record in one.measured.records],
        }
        for one in ran
    ]


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
    pairs = [task["task"] for task in tasks if task["records"] and "pair" in task["records"][0]]
    gaps = [score for score in result["scores"] if score["task"].split("/")[0] in pairs]
    rows = [("task", "shots", "metric", "value", "95% interval", "best", "items")]
    for score in [score for score in result["scores"] if score not in gaps]:
        value, low, high = (f"{score[key]:.4g}" for key in ("value", "low", "high"))
        best = "" if score["best"] is None else f"{score['best']:g}"
        shots, between = str(score["shots"]), f"{low} to {high}"
        rows.append((score["task"], shots, score["metric"], value, between, best, f"{score['n']:,}"))
    lines = [
        f"{t['long']:,} too long for {t['task']} ({t['shots']} shots): {t['long_was']}" for t in tasks if t["long"]
    ]
    lines += seen_lines(result["contamination"])
    # Where all of it comes along there is nothing to tell apart.
    places = result["data"] if any(not place.startswith(COMES_ALONG) for place in result["data"].values()) else {}
    lines += [f"Items of {task}: {place}" for task, place in places.items()]
    lines += [f"{task}: {note}" for task, notes in result["notes"].items() for note in notes]
    for scorer in result["scorers"]:
        lines += ["", f"Known errors of the scorer '{scorer['name']}':", *(f"  {text}" for text in scorer["errors"])]
    shown = ([columns(rows)] if len(rows) > 1 else []) + (gap_table(gaps) if gaps else [])
    return "\n".join([f"{result['model']}\n", *shown, *lines, f"\nReport: {result['report']}"])


def seen_lines(found: dict[str, Any]) -> list[str]:
    """What a terminal says of items in the training data; nothing where nothing was looked into and nothing is known."""
    from ..report.seen import not_checked_lines

    lines = []
    for task, counts in found["tasks"].items():
        some = f"{counts['in_full']:,} in full and {counts['in_part']:,} in part"
        said = f"{some if counts['in_full'] + counts['in_part'] else 'none'} of {counts['items']:,} items"
        unjudged = f"; {counts['cannot_be_judged']:,} cannot be judged" if counts["cannot_be_judged"] else ""
        lines.append(f"Seen in training, {task}: {said}{unjudged}")
    for one in found["scores"]:
        shots = f", {one['shots']} shots" if one["shots"] else ""
        clean = f"without them {one['clean']['value']:.4g}" if one["clean"]["n"] else "nothing is left without them"
        lines.append(f"  {one['task']} {one['metric']}{shots}: {one['all']['value']:.4g}, {clean}; {one['words']}")
    return lines + not_checked_lines(found)


def _listed(model: str) -> Answer:
    from ..evaluate.suites import read_task, suite_names, task_names

    tasks = [read_task(name)[0] for name in task_names()]
    rows = [("task", "kind", "measures"), *((task.name, task.kind, task.about) for task in tasks)]
    text = f"Name a task or a suite ({', '.join(suite_names())}):\n\n{columns(rows)}"
    return Answer({"model": model, "tasks": task_names(), "suites": suite_names(), "scores": [], "report": None}, text)
