"""``ownlm train``."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .answer import Answer, columns


def train(
    context: typer.Context,
    config: Annotated[Path | None, typer.Argument(help="The run's settings, in YAML.", metavar="CONFIG.yaml")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings that differ, such as optimizer.lr=3e-4.", metavar="KEY=VALUE"),
    ] = None,
    workers: Annotated[
        int,
        typer.Option("--workers", help="Processes that train together on this machine, a GPU each where it has any."),
    ] = 1,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Try rising learning rates for a hundred steps, suggest one, and leave.")
    ] = False,
    sweep: Annotated[
        Path | None,
        typer.Option("--sweep", help="Try many settings and find the best; goes on likewise.", metavar="SWEEP.yaml"),
    ] = None,
    help_config: Annotated[bool, typer.Option("--help-config", help="Show every setting, and leave.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the config's JSON Schema, for editors.")] = False,
) -> Answer:
    """Train or fine-tune by a config file; the same command again resumes where it stopped.

    The run's folder gets the model, its metrics, the ledger of every token, and a report to look at.
    """
    if help_config:
        return describe_config()
    if schema:
        from ..train.config import training_schema

        return Answer(training_schema(), output=json.dumps(training_schema(), indent=2))
    if config is None:
        raise UserError("a config file is missing", where="ownlm train", hint="write: ownlm train CONFIG.yaml")
    if "=" in str(config) and not config.exists():
        hint = "name the config file first: ownlm train CONFIG.yaml key.sub=value"
        raise UserError(f"'{config}' is an override, not a config file", where="ownlm train", hint=hint)
    from .. import api
    from ..config import parse_override

    given = {"--sweep": sweep is not None, "--find-lr": find_lr, "--workers": workers != 1}
    together = [name for name, is_given in given.items() if is_given]
    if len(together) > 1:
        what = f"{together[0]} and {together[1]} do not go together"
        raise UserError(what, where="ownlm train", hint="give one of them")
    if sweep is not None:
        return _swept(config, dict(parse_override(text) for text in overrides or []), sweep)
    if find_lr:
        return _found_rate(config, dict(parse_override(text) for text in overrides or []))
    if workers != 1 and "WORLD_SIZE" not in os.environ:
        from ..train.launch import run_workers

        flags = [name for name, given in (context.obj or {}).items() if given]
        # They print the answer, and the exit code is theirs.
        raise SystemExit(run_workers(workers, ["train", str(config), *(overrides or []), *flags]))
    run = api.train(config, **dict(parse_override(text) for text in overrides or []))
    return Answer(run.summary, summary(run.summary))


def _found_rate(config: Path, overrides: dict) -> Answer:
    """The suggested rate, and the curve that it rests on."""
    from ..progress import say
    from ..train.config import read_train_config
    from ..train.find import find_learning_rate

    trial = find_learning_rate(read_train_config(config, overrides), say)
    data = {"lr": trial.suggested, "why": trial.why, "rates": trial.rates, "losses": trial.losses}
    # Ten of the steps show the curve.
    shown = range(0, len(trial.rates), max(1, len(trial.rates) // 10))
    rows = [[f"{trial.rates[i]:.1e}", f"loss {trial.losses[i]:.3f}"] for i in shown]
    return Answer(data, columns(rows, indent="") + f"\n\noptimizer.lr={trial.suggested:.2g}: {trial.why}")


def _swept(config: Path, overrides: dict, sweep: Path) -> Answer:
    """The trials' settings and what they came to, best first."""
    from ..evaluate.during import prepare
    from ..progress import say
    from ..train.config import read_train_config
    from ..train.sweep import read_sweep_config, run_sweep

    result = run_sweep(read_train_config(config, overrides), read_sweep_config(sweep), say, prepare).summary
    keys = list(result["trials"][0]["parameters"])
    rows = [["trial", result["metric"], *keys]]
    for row in result["trials"]:
        value = "failed" if row["failed"] else f"{row[result['metric']]:.4f}"
        shown = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in row["parameters"].values())
        rows.append([f"trial-{row['trial']:03}", value, *shown])
    return Answer(result, columns(rows, indent="") + f"\n\npage: {Path(result['sweep']) / 'sweep.html'}")


def summary(result: dict) -> str:
    """The run in a few lines."""
    from ..units import format_bytes, format_number

    def planned(key: str) -> str:
        value = (result.get("planned") or {}).get(key)
        shown = "" if value is None else format_bytes(value) if key == "memory_bytes" else format_number(value)
        return f" ({shown} planned)" if shown else ""

    loss = [f"{result['loss']:.3f} in training"] if result.get("loss") is not None else []
    loss += [f"{result['val_loss']:.3f} held out"] if result.get("val_loss") is not None else []
    rows = [["steps", f"{result['steps']:,}"], ["tokens", f"{result['tokens']:,}"], ["loss", ", ".join(loss)]]
    if result.get("tokens_per_second"):
        rows.append(["speed", f"{format_number(result['tokens_per_second'])} tokens/s" + planned("tokens_per_second")])
    if result.get("peak_memory_bytes"):
        rows.append(["memory", format_bytes(result["peak_memory_bytes"]) + planned("memory_bytes")])
    rows += [["model", str(result["model"])], ["report", str(Path(result["run"]) / "report.html")]]
    return columns(rows, indent="")


def describe_config() -> Answer:
    """Every setting with its type, default and meaning."""
    from ..config import describe
    from ..train.config import TrainConfig

    fields = describe(TrainConfig)
    lines = []
    for key, kind, default, description in fields:
        head = f"{key}  ({kind})" + (f" = {default}" if default else "")
        lines += textwrap.wrap(head, 100, subsequent_indent="    ", break_long_words=False)
        lines += textwrap.wrap(" ".join(description.split()), 100, initial_indent="    ", subsequent_indent="    ")
    names = ("key", "type", "default", "description")
    return Answer({"fields": [dict(zip(names, field, strict=True)) for field in fields]}, output="\n".join(lines))
