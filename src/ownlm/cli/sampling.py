"""The options of commands that let a model write, and loading the model for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..engine.constraints import Constraint
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
FrequencyPenalty = Annotated[
    float, typer.Option(help="Above 0 makes a token less likely each time it is used; -2 to 2.", metavar="F")
]
PresencePenalty = Annotated[
    float, typer.Option(help="Above 0 makes tokens less likely that are used already; -2 to 2.", metavar="F")
]
Seed = Annotated[int | None, typer.Option(help="Makes drawn answers repeatable.", metavar="S")]
Adapter = Annotated[str | None, typer.Option(help="The folder of an adapter for the model.", metavar="DIR")]
Dtype = Annotated[str, typer.Option(help="What it computes in: auto, float32 or bfloat16.", metavar="TYPE")]
Weights = Annotated[
    str,
    typer.Option(help="How the weights are kept on a CPU: auto (as it computes), bf16, int8 or int4.", metavar="KIND"),
]
DraftModel = Annotated[
    str | None,
    typer.Option(
        help="A smaller model with the same tokenizer, which guesses ahead; answers stay the same.", metavar="MODEL"
    ),
]
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


def constraint_of(
    json_schema: Path | None, regex: str | None, choice: list[str] | None, grammar: Path | None
) -> tuple[str, Constraint | None]:
    """The one constraint that the user asked for, if any, and by which option.

    Raises:
        UserError: several were given, or a file cannot be read, or it is not what it should be.
    """
    from ..engine.constraints import Choice, Grammar, JsonSchema, Regex
    from ..errors import UserError
    from ..files import read_text

    chosen: dict[str, Callable[[], Constraint]] = {}
    if json_schema is not None:
        chosen["--json-schema"] = lambda: JsonSchema(read_text(json_schema))
    if regex is not None:
        chosen["--regex"] = lambda: Regex(regex)
    if choice:
        chosen["--choice"] = lambda: Choice(choice)
    if grammar is not None:
        chosen["--grammar"] = lambda: Grammar(read_text(grammar))
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)} cannot be had at once", hint="give one of them")
    for option, make in chosen.items():
        with naming(option):
            return option, make()
    return "", None


@contextlib.contextmanager
def naming(option: str) -> Iterator[None]:
    """What is wrong with a constraint is named as the user typed it."""
    from ..errors import UserError

    try:
        yield
    except UserError as error:
        # A file that cannot be read is named already.
        where = option if error.where == "constraint" else error.where
        raise type(error)(error.message, where=where, hint=error.hint) from None


def load_engine(
    model: str,
    dtype: str,
    device: str,
    adapter: str | None = None,
    *,
    weights: str = "auto",
    draft_model: str | None = None,
    requests: int | None = None,
    tokens: int = 0,
) -> Engine:
    """The model, ready to write, with an adapter merged into it where one is named.

    weights: how they are kept; draft_model: a smaller one, by name, that guesses ahead for it; requests, tokens: to measure so many answers at once, and how long each gets with its prompt.
    """
    from .. import api
    from ..engine.engine import Engine
    from ..errors import ConfigError, UserError

    sizes: dict[str, Any] = {}
    if requests is not None:
        sizes = {"max_sequences": requests, "cache_tokens": requests * (tokens + 64), "drafts": 0}
    network, tokenizer = api.load_model(model, dtype, device, adapter), api.load_tokenizer(model)
    drafter = None if draft_model is None else api.load_draft_model(draft_model, tokenizer, dtype, device)
    try:
        return Engine(network, tokenizer, weights=weights, draft_model=drafter, **sizes)
    except ConfigError as error:
        if error.where != "weights":
            raise
        raise UserError(error.message, where="--weights", hint=error.hint) from None
