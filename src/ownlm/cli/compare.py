"""``ownlm compare``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from ..units import plural
from .answer import Answer, columns
from .eval import Data, Limit, Shots, Suites, Tasks, shot_counts
from .sampling import Device, Dtype

if TYPE_CHECKING:
    from ..evaluate.differences import Difference
    from ..evaluate.facts import Facts

FILES = ("report.html", "comparison.json")

Models = Annotated[
    list[str],
    typer.Argument(help="Two models or more; the others are compared with the first.", metavar="MODEL MODEL..."),
]
Price = Annotated[
    float | None, typer.Option(help="What an hour of this machine costs, for the cost of tokens.", metavar="X", min=0)
]
Out = Annotated[Path, typer.Option(help="Where the report and the figures go.", metavar="DIR")]


def compare(
    models: Models,
    suite: Suites = None,
    task: Tasks = None,
    shots: Shots = "0",
    data: Data = None,
    limit: Limit = None,
    price_per_hour: Price = None,
    out: Out = Path("comparison"),
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Answer:
    """Put models side by side: shape, size, speed and cost on this machine, scores, bias, and what the differences mean.

    Differences are of the same items, with intervals and p-values corrected for their number, and a verdict in words.
    Without a task or suite, only what can be counted and timed is compared.
    """
    if len(models) < 2:
        raise UserError("two models at least are needed", where="ownlm compare", hint="name another")
    if twice := next((name for name in models if models.count(name) > 1), None):
        raise UserError(f"'{twice}' is named twice", where="ownlm compare")
    counts = shot_counts(shots)
    from .. import api
    from ..evaluate.compare import compare_models
    from ..evaluate.run import score_of
    from ..evaluate.scorers import installed_scorers
    from ..evaluate.subject import Subject
    from ..files import check_replaceable, new_folder, write_json
    from ..report.comparison import comparison_page

    check_replaceable(out, FILES)
    scorers = installed_scorers()

    def subject(name: str) -> Subject:
        return Subject(api.load_model(name, dtype, device), api.load_tokenizer(name), name, scorers=scorers)

    found = compare_models(
        models,
        subject,
        task or (),
        suites=suite or (),
        data=data,
        shots=counts,
        limit=limit,
        price_per_hour=price_per_hour,
    )
    result: dict[str, Any] = {
        "models": [
            asdict(one.facts) | {"scores": [asdict(score_of(m)) for m in one.measurements], "cannot": one.cannot}
            for one in found.models
        ],
        "differences": [asdict(one) for one in found.differences],
    }
    with new_folder(out) as folder:
        comparison_page(result["models"], result["differences"]).write(folder / "report.html")
        write_json(folder / "comparison.json", result)
    result["report"] = str(out / "report.html")
    text = [_facts([one.facts for one in found.models])]
    text += [f"{one.facts.model}: {why}" for one in found.models for why in one.cannot]
    if found.differences:
        text.append(_differences(found.differences))
    return Answer(result, "\n\n".join([*text, f"Report: {result['report']}"]))


def _facts(facts: Sequence[Facts]) -> str:
    def speed(value: float | None) -> str:
        return "" if value is None else f"{value:,.0f} tokens/s"

    rows = [("", *(one.model for one in facts))]
    rows.append(("architecture", *(one.architecture for one in facts)))
    rows.append(("use", *(one.use.split(":")[0].split(";")[0] for one in facts)))
    rows.append(("parameters", *(f"{one.parameters / 1e6:,.1f} M" for one in facts)))
    rows.append(("weights", *(f"{one.weight_bytes / 1e6:,.0f} MB ({one.dtype})" for one in facts)))
    if any(one.cache_token_bytes is not None for one in facts):
        more = ("" if one.cache_token_bytes is None else f"{one.cache_token_bytes / 1e3:,.1f} MB more" for one in facts)
        rows.append(("a conversation of 1,000 tokens", *more))
    rows.append(("context", *(f"{one.context:,} tokens" for one in facts)))
    rows.append(("reads", *(speed(one.read_tokens_per_second) for one in facts)))
    rows.append(("writes one answer", *(speed(one.write_tokens_per_second) for one in facts)))
    rows.append(("writes eight", *(speed(one.together_tokens_per_second) for one in facts)))
    if any(one.cost_per_million is not None for one in facts):
        costs = ("" if one.cost_per_million is None else f"{one.cost_per_million:,.2f}" for one in facts)
        rows.append(("a million tokens cost", *costs))
    return columns(rows)


def _differences(found: Sequence[Difference]) -> str:
    """A table for each two models; what both did the same on every item is only counted."""
    parts = []
    for model, other in dict.fromkeys((one.model, one.other) for one in found):
        group = [one for one in found if (one.model, one.other) == (model, other)]
        apart = [one for one in group if not (one.difference == 0 and one.p == 1 and one.enough is None)]
        lines = [f"{model}, and {other}:"]
        rows = [
            (
                f"{one.task}, {one.metric}",
                f"{one.value:.4g}",
                f"{one.other_value:.4g}",
                f"{one.difference:+.4g}",
                one.words,
            )
            for one in apart
        ]
        if rows:
            lines.append(columns([("score", "its", "the other's", "apart", ""), *rows]))
        if len(apart) < len(group):
            many = f"{len(group) - len(apart)} of {plural(len(group), 'score')}"
            lines.append(f"  {many}: inside the noise, since both did the same on every item")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
