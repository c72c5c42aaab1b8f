"""The options of commands that let a model write, and loading the model for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.requests import SamplingOptions

ModelName = Annotated[
    str, typer.Argument(help="A folder, hf:ORG/NAME, a .gguf file, or a name from 'ownlm models'.", metavar="MODEL")
]
MaxTokens = Annotated[int, typer.Option(help="The most tokens an answer has.", metavar="N")]
Temperature = Annotated[float, typer.Option(help="0 takes the likeliest token; higher is more varied.", metavar="T")]
TopK = Annotated[int, typer.Option(help="Draw from the K likeliest tokens; 0 is no limit.", metavar="K")]
TopP = Annotated[float, typer.Option(help="Draw from the likeliest tokens that add up to P.", metavar="P")]
MinP = Annotated[float, typer.Option(help="Draw from tokens at least P times as likely as the best.", metavar="P")]
RepetitionPenalty = Annotated[float, typer.Option(help="Above 1 makes repeated tokens less likely.", metavar="R")]
Seed = Annotated[int | None, typer.Option(help="Makes drawn answers repeatable.", metavar="S")]
Adapter = Annotated[str | None, typer.Option(help="The folder of an adapter for the model.", metavar="DIR")]
Dtype = Annotated[str, typer.Option(help="What it computes in: auto, float32 or bfloat16.", metavar="TYPE")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", metavar="NAME")]


def sampling_options(**values: object) -> SamplingOptions:
    """The options, checked; wrong ones are named as the user typed them."""
    from ..engine.requests import SamplingOptions
    from ..errors import ConfigError, UserError

    try:
        return SamplingOptions(**values)
    except ConfigError as error:
        option = f"--{error.where.replace('_', '-')}" if error.where else None
        raise UserError(error.message, where=option, hint=error.hint) from None


def load_engine(model: str, dtype: str, device: str, adapter: str | None = None) -> Engine:
    """The model, ready to write, with an adapter merged into it where one is named."""
    from .. import api
    from ..engine.engine import Engine

    return Engine(api.load_model(model, dtype, device, adapter), api.load_tokenizer(model))
