"""``ownlm plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .answer import Answer, columns


def plan(
    config: Annotated[Path, typer.Argument(help="The run's settings, in YAML.", metavar="CONFIG.yaml")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings that differ, such as micro_batch_tokens=1024.", metavar="KEY=VALUE"),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="Plan for this kind of GPU: a100, h100, h200, b200, l40s, rtx4090.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", help="How many; none is the fewest that hold it.", min=1)
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", help="Of an hour of this machine, or of one GPU, in any currency.", min=0)
    ] = None,
) -> Answer:
    """Say what a run will take before it begins, and what to change where it does not fit.

    On this machine, one and two of the model's layers are trained for a step and measured. The plan is kept as plan.json
    in the run's folder, and the run's report compares it with what came of it.
    """
    if gpus is not None and gpu is None:
        hint = "name their kind, for example --gpu h100"
        raise UserError("--gpus is for a plan on other machines", where="ownlm plan", hint=hint)
    from ..config import parse_override
    from ..files import write_json
    from ..progress import say
    from ..train.config import plain, read_train_config
    from ..train.plan.report import make_plan

    settings = read_train_config(config, dict(parse_override(text) for text in overrides or []))
    planned = make_plan(settings, say, gpu=gpu, gpus=gpus, price=price)
    if gpu is None:
        write_json(Path(settings.out) / "plan.json", planned.as_json() | {"config": plain(settings)})
    return Answer(planned.as_json(), text_of(planned.as_json()))


def text_of(values: dict) -> str:
    """The plan in a table, with its advice and its arithmetic."""
    from ..units import format_bytes, format_number, format_seconds

    trained = values["trained_parameters"]
    share = "" if trained == values["parameters"] else f", and an adapter's {trained:,}, which are trained"
    verdict = "fits" if values["fits"] else "does not fit"
    rows = [["parameters", f"{values['parameters']:,}{share}"]]
    if "memory" in values:
        parts = {"process": "program", "step": "step", "weights": "weights", "optimizer": "optimizer"}
        by_part = ", ".join(f"{name} {format_bytes(values['memory'][key])}" for key, name in parts.items())
        place = "of memory_budget" if values["limited"] else "here"
        slack = format_bytes(values["memory"]["slack"])
        rows.append(["memory", f"{format_bytes(values['memory_bytes'])} ({by_part}, allocator {slack})"])
        rows.append(["", f"{verdict} into the {format_bytes(values['available_bytes'])} {place}"])
    else:
        each = "the GPU" if values["gpus"] == 1 else f"each of {values['gpus']:,} GPUs"
        rows.append(["memory", f"{format_bytes(values['memory_bytes'])} on {each}: {verdict}"])
    rows.append(["run", f"{values['steps']:,} steps, {values['tokens']:,} tokens"])
    if values["tokens_per_second"]:
        seconds = values["hours"] * 3600
        rows.append(["speed", f"{format_number(values['tokens_per_second'])} tokens/s: {format_seconds(seconds)}"])
    if values["cost"] is not None:
        rows.append(["cost", f"{values['cost']:,.2f}"])
    rows += [["advice" if not number else "", line] for number, line in enumerate(values["advice"])]
    rows += [["cluster" if not number else "", line] for number, line in enumerate(values.get("arithmetic", []))]
    return columns(rows, indent="")
