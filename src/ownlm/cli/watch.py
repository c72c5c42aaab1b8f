"""``ownlm watch``."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from .answer import Answer, columns
from .eval import Data, Limit, Name, Shots, Suites, Tasks, shot_counts
from .keys import STORE
from .sampling import Adapter, Device, Dtype, ModelName

if TYPE_CHECKING:
    from ..evaluate.bands import BandsConfig
    from ..watch.look import Look, Watched

ALERTED = 3
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

Every = Annotated[
    str | None, typer.Option(help="How often it looks: 30m, 6h, 1d; counted from the last evaluation.", metavar="TIME")
]
Once = Annotated[bool, typer.Option("--once", help="Look once and leave, as for cron; exit code 3 where it alarms.")]
Always = Annotated[bool, typer.Option("--always", help="Evaluate also where the model is the same as last time.")]
Bands = Annotated[
    Path | None, typer.Option(help="Where scores should lie; else as earlier versions show.", metavar="FILE.yaml")
]
Webhook = Annotated[str | None, typer.Option(help="An address that alerts are posted to as JSON.", metavar="URL")]


def watch(
    model: ModelName,
    suite: Suites = None,
    task: Tasks = None,
    every: Every = None,
    once: Once = False,
    always: Always = False,
    shots: Shots = "0",
    data: Data = None,
    limit: Limit = None,
    bands: Bands = None,
    webhook: Webhook = None,
    store: Annotated[str | None, STORE] = None,
    name: Name = None,
    adapter: Adapter = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Answer:
    """Evaluate a model again and again, whenever it changed, and alarm where a score leaves its band.

    Every evaluation is kept in the store, from which it is computed what is due: it may be stopped and started at any time.
    With --once it looks once: at all events, or with --every only if that is due.
    """
    counts = shot_counts(shots)
    if not suite and not task:
        raise UserError("which tasks?", where="ownlm watch", hint="name a suite such as --suite core, or a --task")
    if every is None and not once:
        raise UserError("how often?", where="--every", hint="write --every 6h, or --once for one look")
    seconds = 0.0 if every is None else duration(every, "--every")
    limits = read_limits(bands)
    from ..watch.history import Asked
    from ..watch.look import Watched
    from ..watch.webhook import check_webhook

    if webhook is not None:
        check_webhook(webhook)
    asked = Asked(model, task or (), suite or (), counts, limit, data, dtype, device, adapter, name or "")
    watched = Watched(asked, limits, store, seconds, always, webhook)
    if once:
        return _once(watched)
    from ..progress import say
    from ..watch.loop import watch as watch_on

    watch_on(watched, say, lambda found: say(_text(model, found)))
    raise AssertionError("it ends by a signal")


def read_limits(bands: Path | None) -> BandsConfig:
    """The file of bands, or what holds without one."""
    from ..evaluate.bands import BandsConfig, read_bands
    from ..files import existing_file

    return BandsConfig() if bands is None else read_bands(existing_file(bands))


def duration(text: str, where: str) -> float:
    """A duration as it is typed, in seconds: ``90s``, ``30m``, ``6h``, ``1d``, ``1w``.

    Raises:
        UserError: it is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text)
    seconds = float(found[1]) * _UNITS.get(found[2], 0) if found else 0
    if not 1 <= seconds <= 366 * 86400:
        raise UserError(f"'{text}' is no duration", where=where, hint="such as 30m, 6h or 1d")
    return seconds


def _once(watched: Watched) -> Answer:
    from ..progress import say
    from ..train.signals import leaving_at_once
    from ..units import format_seconds
    from ..watch.look import look
    from ..watch.loop import ENDED, seconds_left

    asked: dict[str, Any] = {"model": watched.asked.model}
    with leaving_at_once(*ENDED):
        left = seconds_left(watched) if watched.every else 0.0
        if left:
            why = f"it is due in {format_seconds(left)}"
            nothing = {"evaluated": False, "why": why, "release": None, "scores": [], "long": {}, "alerts": []}
            return Answer(asked | nothing, f"{watched.asked.model}: {why}")
        found = look(watched, say)
    text = _text(watched.asked.model, found)
    return Answer(asked | found.as_json(), text, exit_code=ALERTED if found.alerts else 0)


def _text(model: str, found: Look) -> str:
    if found.evaluation is None:
        return f"{model}: {found.why}, nothing to evaluate"
    rows = [("task", "shots", "metric", "value", "95% interval", "items")]
    for score in found.evaluation.scores:
        between = f"{number(score.low)} to {number(score.high)}" if math.isfinite(score.value) else ""
        rows.append((score.task, str(score.shots), score.metric, number(score.value), between, f"{score.n:,}"))
    long = [f"{count:,} too long for {task}" for task, count in found.evaluation.conditions.get("long", {}).items()]
    for task, notes in found.evaluation.conditions.get("notes", {}).items():
        long += [f"{task}: {note}" for note in notes]
    lines = [f"ALERT: {alert.words}" for alert in found.alerts] or ["every score lies in its band, where it has one"]
    return "\n".join([columns(rows), *long, *lines])


def number(value: float) -> str:
    """A score as it is shown in a terminal."""
    return "none" if math.isnan(value) else f"{value:.4g}"
