"""The library's nouns: load a model, load a tokenizer, train, generate, predict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .config import merge
from .data.read import read_texts
from .devices import choose_device, choose_dtype
from .engine.engine import Engine
from .engine.requests import SamplingOptions
from .errors import ModelError, UserError, nearest
from .evaluate.during import prepare
from .evaluate.run import measure_all, score_of
from .evaluate.score import Score
from .evaluate.scorers import installed_scorers
from .evaluate.subject import Subject
from .files import check_replaceable, new_folder
from .model.adapters import load_adapter
from .model.adapters import merge as merge_adapter
from .model.checkpoint import load_model_folder
from .model.registry import find_model
from .model.transformer import Transformer
from .prediction.answers import Answer, AnswerOptions, answer
from .prediction.classes import Labels, classify
from .prediction.gaps import Filled, fill
from .prediction.heads import check_head
from .prediction.rewriting import RewriteOptions, Rewritten, rewrite
from .tokens.tokenizer import FILES, Tokenizer
from .tokens.tokenizer import load_tokenizer as load_tokenizer_folder
from .tokens.train_bpe import Kind
from .tokens.train_bpe import train_tokenizer as train_tokenizer_on
from .train.config import read_train_config
from .train.run import Run, run_training

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    name: str | Path, dtype: str = "auto", device: str = "auto", adapter: str | Path | None = None
) -> Transformer:
    """A model by folder, ``hf:ORG/NAME[@REVISION]``, ``.gguf`` file or known name, ready to compute.

    Args:
        name: the model.
        dtype: float32, bfloat16, float16, or auto for the fastest that this machine computes natively.
        device: auto, cpu, cuda or cuda:N.
        adapter: the folder of an adapter for it, as PEFT or a run of ours saves it, which is merged into it.

    Raises:
        UserError: there is no such model, or it is of a kind we do not have; the adapter is for another.
    """
    if dtype not in ("auto", *DTYPES):
        raise UserError(f"unknown dtype '{dtype}'", where="dtype", hint=nearest(dtype, ["auto", *DTYPES]))
    place = choose_device(device)
    wanted = choose_dtype("auto", place) if dtype == "auto" else DTYPES[dtype]
    folder = find_model(str(name))
    model = load_model_folder(folder, dtype=wanted, device=place)
    model.compute_dtype = wanted
    model.source = folder
    if adapter is not None:
        load_adapter(model, Path(adapter))
        merge_adapter(model)
    return model


def load_draft_model(name: str | Path, tokenizer: Tokenizer, dtype: str = "auto", device: str = "auto") -> Transformer:
    """A smaller model that guesses ahead for another (``Engine(..., draft_model=...)``).

    Args:
        name: the model, as in ``load_model``.
        tokenizer: of the model that it is to guess for.
        dtype: as in ``load_model``.
        device: as in ``load_model``.

    Raises:
        UserError: there is no such model.
        ModelError: its tokenizer is another, so that its guesses would mean nothing.
    """
    if load_tokenizer(name).backend.get_vocab() != tokenizer.backend.get_vocab():
        raise ModelError(
            "the draft model has another vocabulary than the model it is to guess for",
            where=str(name),
            hint="use a smaller model of the same family, such as smollm2-135m-instruct for smollm2-1.7b-instruct",
        )
    return load_model(name, dtype, device)


def load_tokenizer(name: str | Path) -> Tokenizer:
    """The tokenizer of a model (named as in ``load_model``) or of a folder that holds one."""
    return load_tokenizer_folder(find_model(str(name)))


def train_tokenizer(inputs: Sequence[str | Path], vocab_size: int, out: str | Path, kind: Kind = "bpe") -> Tokenizer:
    """Trains a tokenizer on files or folders of text and saves it as a folder.

    Raises:
        DataError: a file is missing or is no text.
        UserError: the vocabulary is too small, or something else than a tokenizer stands at ``out``.
    """
    check_replaceable(Path(out), FILES)
    tokenizer = train_tokenizer_on(read_texts(inputs), vocab_size, kind)
    with new_folder(Path(out)) as folder:
        tokenizer.save(folder)
    return tokenizer


def train(config: str | Path | dict[str, Any], **overrides: Any) -> Run:
    """Trains by a config file or mapping; overrides are dotted keys: ``train("c.yaml", **{"optimizer.lr": 3e-4})``."""
    values = merge(config, overrides) if isinstance(config, dict) else config
    return run_training(read_train_config(values, {} if isinstance(config, dict) else overrides), prepare=prepare)


def generate(
    model: Transformer, prompts: Sequence[str], *, tokenizer: Tokenizer | None = None, **options: Any
) -> list[str]:
    """The texts that continue the prompts, in their order, ``n`` to each.

    Args:
        model: as ``load_model`` gives it.
        prompts: plain texts.
        tokenizer: None is the model's own.
        options: SamplingOptions: max_tokens, temperature (0 is greedy), top_k, top_p, min_p, seed, stop, n, ...

    Raises:
        UserError: an empty or over-long prompt, a wrong option, or a model that was not loaded from a folder and comes
            without a tokenizer.
    """
    found = Engine(model, tokenizer or _own_tokenizer(model)).generate(list(prompts), SamplingOptions(**options))
    return [one.text for one in found]


def predict(
    model: Transformer,
    texts: Sequence[Any],
    *,
    tokenizer: Tokenizer | None = None,
    batch_tokens: int | None = None,
    **options: Any,
) -> list[Labels] | list[Answer] | list[Filled] | list[Rewritten]:
    """What a model with a head of its own says of each text, in their order and whatever else is asked with it.

    Args:
        model: as ``load_model`` gives it; its head decides what is predicted.
        texts: to classify, texts or pairs of texts; for answers, a question and its context each; for gaps, texts with
            a [MASK]; for a model that makes texts from others, texts.
        tokenizer: None is the model's own.
        batch_tokens: tokens read at once; None is what suits the device.
        options: to classify, ``cut``; for answers, those of AnswerOptions; for gaps, ``count``; for texts made from
            others, those of RewriteOptions.

    Raises:
        UserError: an empty or over-long text, or a text without a gap.
        ModelError: the model has no such head; says which command it is for.
    """
    check_head(model, "classify", "span", "masked", "seq2seq")
    tokenizer = tokenizer or _own_tokenizer(model)
    if model.config.head == "classify":
        return classify(model, tokenizer, texts, batch_tokens=batch_tokens, **options)
    if model.config.head == "seq2seq":
        return rewrite(model, tokenizer, texts, RewriteOptions(**options))
    if model.config.head == "span":
        return answer(model, tokenizer, texts, AnswerOptions(**options), batch_tokens=batch_tokens)
    return fill(model, tokenizer, texts, batch_tokens=batch_tokens, **options)


def evaluate(
    model: Transformer,
    tasks: Sequence[str] = (),
    *,
    suites: Sequence[str] = (),
    data: str | Path | None = None,
    shots: Sequence[int] = (0,),
    limit: int | None = None,
    tokenizer: Tokenizer | None = None,
) -> list[Score]:
    """How well a model does on tasks: a score for each task, number of worked examples and metric.

    Args:
        model: as ``load_model`` gives it.
        tasks: names of tasks (``ownlm eval MODEL`` lists them), or task files ending in .yaml.
        suites: names of suites, whose tasks are run as well.
        data: the folder that holds the tasks' data.
        shots: how many worked examples stand before each item; each number is measured.
        limit: the most items of a task.
        tokenizer: None is the model's own.

    Raises:
        UserError: there is no such task or suite; a task's file or data is wrong; the model cannot do it.
    """
    name = "" if model.source is None else str(model.source)
    subject = Subject(model, tokenizer or _own_tokenizer(model), name, scorers=installed_scorers())
    place = None if data is None else Path(data)
    found = measure_all(subject, tasks, place, shots, suites, limit)
    return [score_of(measurement) for measurement in found]


def _own_tokenizer(model: Transformer) -> Tokenizer:
    """The tokenizer in the folder that a model was loaded from.

    Raises:
        UserError: it was loaded from none.
    """
    if model.source is None:
        raise UserError("this model has no folder to take a tokenizer from", hint="pass tokenizer=")
    return load_tokenizer_folder(model.source)
