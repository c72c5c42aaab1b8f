"""``ownlm data show``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError, nearest
from ..units import plural
from .answer import Answer

if TYPE_CHECKING:
    from ..tokens.loader import Loader
    from ..tokens.tokenizer import Tokenizer
    from ..train.config import TrainConfig


def show(
    source: Annotated[
        Path, typer.Argument(help="A run's folder, a training config, a dataset folder, or files.", metavar="DIR")
    ],
    split: Annotated[str, typer.Option(help="train or validation.", metavar="S")] = "train",
    batch: Annotated[int, typer.Option(help="Which batch, from 0: a training step's.", metavar="N", min=0)] = 0,
    html: Annotated[Path | None, typer.Option(help="Write the batch as a page.", metavar="FILE")] = None,
    model: Annotated[
        str | None, typer.Option(help="For a dataset or files: the model whose tokenizer is used.", metavar="NAME")
    ] = None,
    kind: Annotated[str, typer.Option(help="For files: text, or chat.", metavar="KIND")] = "text",
    length: Annotated[int, typer.Option(help="For a dataset or files: the longest document.", metavar="N")] = 1024,
    batch_tokens: Annotated[int, typer.Option(help="For a dataset or files: tokens of a batch.", metavar="N")] = 2048,
) -> Answer:
    """Show one batch exactly as the model gets it.

    Every document has its own colour; tokens that are trained are bright, those only read are dim, and each line begins
    with its position in its document.
    """
    from ..tokens.show import as_terminal_text, show_batch, write_batch_page

    if split not in ("train", "validation"):
        raise UserError(f"there is no split '{split}'", where="--split", hint=nearest(split, ["train", "validation"]))
    config = _config_of(source)
    if config is not None:
        loader, tokenizer = _from_config(config, split)
    else:
        loader, tokenizer = _from_files(source, model, kind, length, batch_tokens)
    shown = loader.batch(batch)
    documents = show_batch(shown, tokenizer)
    if html is not None:
        write_batch_page(documents, html, f"{source}, {split}, batch {batch}")
    trained = sum(document.trained_tokens for document in documents)
    colored = sys.stderr.isatty()
    text = as_terminal_text(documents, colored=colored)
    text += f"\n\n{plural(len(documents), 'document')}, {plural(len(shown), 'token')}, {trained:,} of them trained"
    text += f"\nPage: {html}" if html else ""
    data = {"documents": [d.as_json() for d in documents], "tokens": len(shown), "trained_tokens": trained}
    return Answer(data | ({"html": html} if html else {}), text)


def _config_of(source: Path) -> TrainConfig | None:
    """The training config that a file or a run's folder holds; None for anything else."""
    from ..train.config import read_train_config

    path = source / "config.yaml" if source.is_dir() else source
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return None
    return read_train_config(path)


def _from_config(config: TrainConfig, split: str) -> tuple[Loader, Tokenizer]:
    """The very loader that training uses."""
    from ..model.checkpoint import read_config
    from ..model.families import config_from_user
    from ..model.registry import find_model
    from ..progress import say
    from ..tokens.tokenizer import load_tokenizer
    from ..train.data import prepare_data

    shape = read_config(find_model(config.base)) if config.base else config_from_user(config.model or {})
    tokenizer = load_tokenizer(find_model(config.tokenizer or config.base or ""))
    data = prepare_data(config, tokenizer, shape.max_positions, say)
    if split == "validation" and data.validation is None:
        raise UserError("this run has no validation data", where="--split", hint="set data.validation in its config")
    return (data.validation or data.loader) if split == "validation" else data.loader, tokenizer


def _from_files(source: Path, model: str | None, kind: str, length: int, batch_tokens: int) -> tuple[Loader, Tokenizer]:
    """A loader over a tokenized dataset, or over files, which are tokenized first."""
    from ..files import home
    from ..model.registry import find_model
    from ..tokens.loader import Loader
    from ..tokens.prepare import tokenize_files
    from ..tokens.shards import INDEX, TokenDataset
    from ..tokens.tokenizer import load_tokenizer

    if model is None:
        raise UserError("files are shown as one model reads them", where="ownlm data show", hint="add --model NAME")
    if kind not in ("text", "chat"):
        raise UserError(f"'{kind}' is not a kind of data", where="--kind", hint=nearest(kind, ["text", "chat"]))
    tokenizer = load_tokenizer(find_model(model))
    folder = source
    if not (source / INDEX).is_file():
        cache = home() / "cache" / "tokens"
        policy = {"too_long": "drop"} if kind == "chat" else {}
        prepared = tokenize_files([source], tokenizer, kind=kind, length=length, cache_folder=cache, **policy)  # type: ignore[arg-type]
        folder = prepared.folder
    loader = Loader([TokenDataset(folder)], batch_tokens=batch_tokens, length=min(length, batch_tokens), seed=0)
    return loader, tokenizer
