"""``ownlm explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .answer import Answer, columns
from .sampling import Adapter, Device, ModelName
from .usage import whole_text

if TYPE_CHECKING:
    from ..report.explained import Explanation

# Cells of the longest bar.
BAR = 24

Text = Annotated[
    str, typer.Option("--text", help="What the model reads, 256 tokens at most.", metavar="TEXT", callback=whole_text)
]
Html = Annotated[Path, typer.Option(help="Where the page goes.", metavar="FILE")]
Top = Annotated[int, typer.Option(help="How many tokens are named that the model would say.", metavar="N", min=1)]
Exact = Annotated[
    str, typer.Option(help="auto, float32, bfloat16 or float16; what is not float32 blurs the figures.", metavar="NAME")
]


def explain(
    model: ModelName,
    text: Text,
    html: Html = Path("explanation.html"),
    top: Top = 10,
    adapter: Adapter = None,
    dtype: Exact = "float32",
    device: Device = "auto",
) -> Answer:
    """Show how a model reads a text: surprise, attention, the prediction after each layer, and what comes next.

    Everything goes to one page, which needs no network. Models that continue texts, that fill gaps, and that tell classes
    can be looked at.
    """
    from .. import api
    from ..evaluate.explain import explain as explain_text
    from ..report.explanation import write_explanation

    loaded, tokenizer = api.load_model(model, dtype, device, adapter), api.load_tokenizer(model)
    found = explain_text(loaded, tokenizer, text, name=model, count=top, quiet=False)
    report = write_explanation(found, html)
    return Answer({"model": model, **found.as_json(), "report": report}, _as_text(found, report))


def _as_text(found: Explanation, report: Path) -> str:
    from ..report.explanation import percent, shown

    bits = found.surprisal
    most = max((one for one in bits if one is not None), default=0)
    rows = [
        [str(place), shown(token)]
        + (["", ""] if one is None else [f"{one:.1f} bits", "█" * round(BAR * one / (most or 1))])
        for place, (token, one) in enumerate(zip(found.tokens, bits, strict=True))
    ]
    lines = [columns(rows)]
    if found.bits is not None:
        lines.append(f"{found.bits:.2f} bits a token")
    if found.next:
        lines.append("Next: " + ", ".join(f"{shown(one.text)} {percent(one.probability)}" for one in found.next))
    if found.classes:
        values = {name: percent(v) if found.probabilities else f"{v:.4g}" for name, v in found.classes.items()}
        lines.append("Class: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    lines.append(f"Page: {report}")
    return "\n".join(lines)
