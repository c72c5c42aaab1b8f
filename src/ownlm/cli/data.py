"""``ownlm data show``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError, nearest
from ..units import plural
from .answer import Answer

if TYPE_CHECKING:
    from ..tokens.batch import Batch
    from ..tokens.loader import Loader
    from ..tokens.tokenizer import Tokenizer
    from ..train.config import TrainConfig


def show(
    source: Annotated[
        Path, typer.Argument(help="A run's folder, a training config, a dataset folder, or files.", metavar="DIR")
    ],
    split: Annotated[
        str, typer.Option(help="train or validation; of a built data set, test too.", metavar="S")
    ] = "train",
    batch: Annotated[int, typer.Option(help="Which batch, from 0: a training step's.", metavar="N", min=0)] = 0,
    html: Annotated[Path | None, typer.Option(help="Write the batch as a page.", metavar="FILE")] = None,
    model: Annotated[
        str | None, typer.Option(help="For files: the model whose tokenizer is used.", metavar="NAME")
    ] = None,
    kind: Annotated[str, typer.Option(help="For files: text, or chat.", metavar="KIND")] = "text",
    length: Annotated[int, typer.Option(help="For a dataset or files: the longest document.", metavar="N")] = 1024,
    batch_tokens: Annotated[int, typer.Option(help="For a dataset or files: tokens of a batch.", metavar="N")] = 2048,
) -> Answer:
    """Show one batch exactly as the model gets it.

    Every document has its own colour; tokens that are trained are bright, those only read are dim, and each line begins
    with its position in its document.
    """
    from ..tokens.dataset import is_dataset
    from ..tokens.show import as_terminal_text, show_batch, write_batch_page

    if split not in ("train", "validation", "test"):
        hint = nearest(split, ["train", "validation", "test"])
        raise UserError(f"there is no split '{split}'", where="--split", hint=hint)
    config = _config_of(source)
    if config is not None:
        make, tokenizer, shifted = _from_config(config, split)
    elif is_dataset(source):
        loader, tokenizer = _from_dataset(source, split, model, length, batch_tokens)
        make, shifted = loader.batch, True
    else:
        loader, tokenizer = _from_files(source, model, kind, length, batch_tokens)
        make, shifted = loader.batch, True
    shown = make(batch)
    documents = show_batch(shown, tokenizer, shifted)
    if html is not None:
        write_batch_page(documents, html, f"{source}, {split}, batch {batch}")
    trained = sum(document.trained_tokens for document in documents)
    colored = sys.stderr.isatty()
    text = as_terminal_text(documents, colored=colored)
    text += (
        f"\n\n{plural(len(documents), 'document')}, {plural(shown.read_tokens, 'token')}, {trained:,} of them trained"
    )
    text += f"\nPage: {html}" if html else ""
    data = {"documents": [d.as_json() for d in documents], "tokens": shown.read_tokens, "trained_tokens": trained}
    return Answer(data | ({"html": html} if html else {}), text)


def _config_of(source: Path) -> TrainConfig | None:
    """The training config that a file or a run's folder holds; None for anything else."""
    from ..train.config import read_train_config

    path = source / "config.yaml" if source.is_dir() else source
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return None
    return read_train_config(path)


def _from_config(config: TrainConfig, split: str) -> tuple[Callable[[int], Batch], Tokenizer, bool]:
    """The very batches that training uses, and whether a target is the token after the one that it belongs to."""
    from ..progress import say
    from ..train.data import prepare_data
    from ..train.setup import set_up

    setup = set_up(config)
    data = prepare_data(config, setup, say)
    loader = {"train": data.loader, "validation": data.validation}.get(split)
    if loader is None:
        hint = "set data.validation in its config" if split == "validation" else "known: train, validation"
        raise UserError(f"this run has no {split} data", where="--split", hint=hint)
    objective, held_out = setup.objective, split == "validation"

    def make(step: int) -> Batch:
        return objective.batch(loader.batch(step), None if held_out else step)

    return make, setup.tokenizer, objective.shifted


def _from_dataset(
    source: Path, split: str, model: str | None, length: int, batch_tokens: int
) -> tuple[Loader, Tokenizer]:
    """A loader over a split of a built data set, as training mixes it."""
    from ..model.registry import find_model
    from ..tokens.dataset import read_dataset, repeats_of_parts
    from ..tokens.loader import Loader
    from ..tokens.shards import TokenDataset
    from ..tokens.tokenizer import load_tokenizer

    built = read_dataset(source)
    parts = built.parts(split)
    tokenizer = load_tokenizer(built.tokenizer if model is None else find_model(model))
    datasets = [TokenDataset(part.folder) for part in parts]
    for dataset in datasets:
        dataset.check_trainable(tokenizer.fingerprint)
    repeats = repeats_of_parts(parts, [dataset.total_tokens for dataset in datasets]) if split == "train" else None
    limit = min(length, batch_tokens)
    return Loader(datasets, batch_tokens=batch_tokens, length=limit, seed=0, repeats=repeats), tokenizer


def _from_files(source: Path, model: str | None, kind: str, length: int, batch_tokens: int) -> tuple[Loader, Tokenizer]:
    """A loader over a tokenized dataset, or over files, which are tokenized first."""
    from ..files import home
    from ..model.registry import find_model
    from ..tokens.dataset import dataset_of_part
    from ..tokens.loader import Loader
    from ..tokens.prepare import tokenize_files
    from ..tokens.shards import INDEX, TokenDataset
    from ..tokens.tokenizer import load_tokenizer

    tokenized = (source / INDEX).is_file()
    built = dataset_of_part(source) if tokenized and model is None else None
    if model is None and built is None:
        raise UserError("files are shown as one model reads them", where="ownlm data show", hint="add --model NAME")
    if kind not in ("text", "chat"):
        raise UserError(f"'{kind}' is not a kind of data", where="--kind", hint=nearest(kind, ["text", "chat"]))
    tokenizer = load_tokenizer(built.tokenizer if built is not None else find_model(str(model)))
    folder = source
    if not tokenized:
        cache = home() / "cache" / "tokens"
        policy = {"too_long": "drop"} if kind == "chat" else {}
        prepared = tokenize_files([source], tokenizer, kind=kind, length=length, cache_folder=cache, **policy)  # type: ignore[arg-type]
        folder = prepared.folder
    dataset = TokenDataset(folder)
    dataset.check_trainable(tokenizer.fingerprint)
    return Loader([dataset], batch_tokens=batch_tokens, length=min(length, batch_tokens), seed=0), tokenizer
