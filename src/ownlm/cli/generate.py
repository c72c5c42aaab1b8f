"""``ownlm generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .answer import Answer
from .sampling import (
    Adapter,
    Device,
    DraftModel,
    Dtype,
    FrequencyPenalty,
    MaxTokens,
    MinP,
    ModelName,
    PresencePenalty,
    RepetitionPenalty,
    Seed,
    Temperature,
    TopK,
    TopP,
    Weights,
    constraint_of,
    load_engine,
    naming,
    sampling_options,
)
from .usage import whole_text

Prompt = Annotated[
    str, typer.Option("--prompt", "-p", help="The text to continue.", metavar="TEXT", callback=whole_text)
]


def generate(
    model: ModelName,
    prompt: Prompt,
    chat: Annotated[bool, typer.Option("--chat", help="Take the prompt as a user's message and answer it.")] = False,
    n: Annotated[int, typer.Option("--n", "-n", help="How many answers.", metavar="N")] = 1,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 1.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    repetition_penalty: RepetitionPenalty = 1.0,
    frequency_penalty: FrequencyPenalty = 0.0,
    presence_penalty: PresencePenalty = 0.0,
    seed: Seed = None,
    json_schema: Annotated[
        Path | None, typer.Option(help="Write JSON that fits the JSON Schema in FILE.", metavar="FILE")
    ] = None,
    regex: Annotated[
        str | None, typer.Option(help="Write a text that the regular expression matches as a whole.", metavar="R")
    ] = None,
    choice: Annotated[
        list[str] | None, typer.Option(help="Write this text or another --choice; may be repeated.", metavar="TEXT")
    ] = None,
    grammar: Annotated[
        Path | None, typer.Option(help="Write a text of the Lark grammar in FILE.", metavar="FILE")
    ] = None,
    stop: Annotated[list[str] | None, typer.Option(help="A text that ends the answer; may be repeated.")] = None,
    weights: Weights = "auto",
    draft_model: DraftModel = None,
    adapter: Adapter = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Answer:
    """Continue a prompt, or with --chat answer it.

    The texts go to stdout. Sampling is by the options below; --temperature 0 always gives the same answer.
    """
    option, constraint = constraint_of(json_schema, regex, choice, grammar)
    options = sampling_options(
        n=n,
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty,
        seed=seed,
        constraint=constraint,
        stop=tuple(stop or ()),
    )
    engine = load_engine(model, dtype, device, adapter, weights=weights, draft_model=draft_model)
    asked: str | list[int] = prompt
    if chat:
        asked = engine.tokenizer.render([{"role": "user", "content": prompt}], add_generation_prompt=True)
    with naming(option):
        answers = engine.generate([asked], options)
    texts = [answer.text for answer in answers]
    written = sum(len(answer.tokens) for answer in answers)
    read = answers[0].prompt_tokens
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    reasons = [answer.finish_reason for answer in answers]
    data = {"texts": texts, "usage": usage, "finish_reasons": reasons, "seed": answers[0].seed}
    shown = texts if chat else [prompt + text for text in texts]
    return Answer(data, output="\n\n".join(shown))
