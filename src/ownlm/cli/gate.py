"""``ownlm gate``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from .answer import Answer, columns
from .sampling import Adapter, Device, Dtype

if TYPE_CHECKING:
    from ..evaluate.gate_config import GatesConfig
    from ..evaluate.gates import GateResult, Measures
    from ..evaluate.subject import Subject

REFUSED = 3

Candidate = Annotated[
    str | None,
    typer.Argument(help="A folder, hf:ORG/NAME, a .gguf file, or a name from 'ownlm models'.", metavar="CANDIDATE"),
]
Against = Annotated[
    str | None, typer.Option(help="The model whose place it would take, for gates that compare.", metavar="MODEL")
]
Gates = Annotated[Path | None, typer.Option(help="The file of gates.", metavar="FILE.yaml")]
Data = Annotated[
    Path | None, typer.Option(help="A folder with tasks' data; used before what comes with ownlm.", metavar="DIR")
]
Limit = Annotated[int | None, typer.Option(help="The most items of a task: the first ones.", metavar="N", min=1)]
Schema = Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of a file of gates, for editors.")]
Out = Annotated[Path | None, typer.Option(help="Writes a page that says what each gate said.", metavar="FILE.html")]


def gate(
    candidate: Candidate = None,
    gates: Gates = None,
    against: Against = None,
    data: Data = None,
    limit: Limit = None,
    out: Out = None,
    adapter: Adapter = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    schema: Schema = False,
) -> Answer:
    """Say whether a model may take another's place: exit code 3 if any gate of the file says no.

    Gates look at scores, at differences to the named model, at bias, at size and speed, and at answers to prompts that
    once went wrong. Where a score has an interval, its end that speaks against the model must hold; and a gate about which
    nothing was measured says no.
    """
    if schema:
        from ..evaluate.schemas import gates_schema

        return Answer(gates_schema(), output=json.dumps(gates_schema(), indent=2))
    if candidate is None or gates is None:
        what, where = ("candidate", "CANDIDATE") if candidate is None else ("file of gates", "--gates")
        hint = "write: ownlm gate CANDIDATE --against MODEL --gates gates.yaml"
        raise UserError(f"the {what} is missing", where=where, hint=hint)
    from ..evaluate.gate_config import read_gates
    from ..evaluate.gates import all_passed, judge
    from ..files import existing_file

    asked = read_gates(existing_file(gates))
    if asked.compares and against is None:
        message = "these gates compare with another model, and none is named"
        raise UserError(message, where="--against", hint="name the model whose place the candidate would take")
    from ..evaluate.gate_tasks import tasks_by_shots

    # A misspelt task is told before a model is loaded.
    tasks = tasks_by_shots(asked, gates.parent)
    subject = _subject(candidate, dtype, device, adapter)
    measures = _measured(subject, asked, tasks, data, limit)
    texts: list[str] | None = None
    if asked.never_again:
        from ..evaluate.gate_facts import likeliest_answers

        texts = likeliest_answers(subject, asked.never_again)
    del subject
    theirs = None
    if asked.compares and against is not None:
        theirs = _measured(_subject(against, dtype, device, None), asked, tasks, data, limit)
    results = judge(asked, measures, theirs, None if texts is None else lambda _: texts)
    passed = all_passed(results)
    if out is not None:
        _page(candidate, against, results).write(out)
    found: dict[str, Any] = {
        "passed": passed,
        "candidate": candidate,
        "against": against,
        "gates": [asdict(one) for one in results],
        "report": None if out is None else str(out),
    }
    return Answer(found, _text(candidate, passed, results, out), exit_code=0 if passed else REFUSED)


def _subject(name: str, dtype: str, device: str, adapter: str | None) -> Subject:
    from .. import api
    from ..evaluate.scorers import installed_scorers
    from ..evaluate.subject import Subject

    model, tokenizer = api.load_model(name, dtype, device, adapter), api.load_tokenizer(name)
    return Subject(model, tokenizer, name, scorers=installed_scorers())


def _measured(
    subject: Subject, asked: GatesConfig, tasks: dict[int, list[str]], data: Path | None, limit: int | None
) -> Measures:
    from ..evaluate.gate_facts import machine_facts
    from ..evaluate.gates import Measures
    from ..evaluate.run import measure_all

    found = [one for shots, names in tasks.items() for one in measure_all(subject, names, data, [shots], limit=limit)]
    wanted = {one.fact for one in asked.machine}
    return Measures(found, machine_facts(subject, wanted) if wanted else None)


def _text(candidate: str, passed: bool, results: list[GateResult], out: Path | None) -> str:
    rows = [("yes" if one.passed else "NO", one.name, one.reason) for one in results]
    failed = sum(not one.passed for one in results)
    said = "every gate says yes" if passed else f"{failed} of {len(results)} gates say no"
    lines = [columns(rows), "", f"{candidate}: {said}"]
    return "\n".join(lines + ([f"Report: {out}"] if out else []))


def _page(candidate: str, against: str | None, results: list[GateResult]) -> Any:
    from ..report.page import Report

    report = Report("Gates", candidate if against is None else f"{candidate} against {against}")
    failed = [one for one in results if not one.passed]
    report.summary(f"{len(failed)} of {len(results)} gates say no." if failed else "Every gate says yes.")
    for one in failed:
        report.note(f"{one.name}: {one.reason}", warning=True)
    report.section("All gates", "What each looked at, with its 95% interval, and what it was held against.")
    rows = [["yes" if one.passed else "NO", one.name, one.reason] for one in results]
    report.table("Gates", ["says", "gate", "why"], rows)
    return report
