"""From a recipe to a data set ready to train on: documents, tokenizer, token shards, report, card.

DIR/
  documents/      every document read, in Parquet: its text where kept, its signals, its split or the reason
  train/<source>/ validation/<source>/ test/<source>/     token shards
  tokenizer/
  dataset.json    what 'ownlm train' and 'ownlm data show' read
  manifest.json report.html README.md failures.jsonl
  .stages/        finished results of stages, by content; safe to delete
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..data.pipeline import Documents, prepare_documents
from ..data.read import Kind
from ..data.recipe import Recipe, TokenizerTraining, folder_name
from ..data.split import SPLITS
from ..data.stages import TABLE
from ..data.store import Store, key_of
from ..data.workers import Task, run_tasks
from ..errors import ConfigError, DataError, StorageError, UserError
from ..files import new_folder, read_json, remove_partial, storage_errors, write_json, write_text
from ..progress import Progress
from ..report.data_card import data_card
from ..report.dataset import dataset_report
from .concat import concat_datasets
from .dataset import FILE, MANIFEST, STAGES, Part, Split, write_dataset
from .manifest import make_manifest
from .tokenize import TOKENS, TokenWork, texts_of, tokenize_shard
from .tokenizer import load_tokenizer

TOKENIZER = "tokenizer"
LOCK = ".lock"
REPORT, CARD, FAILURES = "report.html", "README.md", "failures.jsonl"
# The names in a data set's folder, which a build replaces.
WRITTEN = ("documents", *SPLITS, TOKENIZER, FILE, REPORT, CARD, FAILURES, MANIFEST)
# Raised when the same texts would give another tokenizer.
TRAINING_VERSION = 2


def build_dataset(
    recipe: Recipe,
    out: Path,
    *,
    tokenizer: Path | None = None,
    workers: int = 1,
    strict: bool = False,
    refresh: bool = False,
    prune: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Builds a data set, or continues to.

    Args:
        recipe: what to make of what.
        out: its folder.
        tokenizer: the folder of the tokenizer that the recipe names; not needed where it trains one or has none.
        workers: worker processes.
        strict: whether the first thing that cannot be read is an error.
        refresh: whether databases and the hub are asked again.
        prune: whether to remove results of stages that this build did not use.
        say: called with a line for the user now and then.

    Returns:
        what manifest.json says, and ``seconds``.

    Raises:
        DataError: nothing could be read, nothing is left, or with ``strict`` anything could not be read.
        ConfigError: the recipe is wrong.
        StorageError: the disk is full, or another build works in this folder.
    """
    began = time.monotonic()
    check_tokenizer(recipe, tokenizer)
    with _alone(out):
        store = Store(out / STAGES)
        documents = prepare_documents(
            recipe, store, workers=workers, strict=strict, refresh=refresh, written=WRITTEN, say=say
        )
        kept = sum(documents.summary["kept"].values())
        if not kept:
            raise DataError(
                _nothing_left(documents.summary["dropped"]), where=str(out), hint="loosen the recipe's filters"
            )
        kind = _kind(recipe, documents, kept)
        folder = _tokenizer(recipe, tokenizer, documents, store, say)
        works = [] if folder is None else _tokenize(recipe, documents, store, folder, kind, workers)
        manifest = make_manifest(recipe, documents, works, folder)
        if not manifest["documents"]["kept"]:
            raise DataError(
                _nothing_left(manifest["documents"]["dropped"]),
                where=str(out),
                hint="raise the recipe's tokens.max_length",
            )
        _assemble(out, recipe, documents, works, folder, kind, manifest)
        if prune:
            used = [*documents.keys, *((TOKENS, work.key) for work in works)]
            if folder is not None and folder.is_relative_to(store.folder):
                used.append((TOKENIZER, folder.name))
            store.prune(used)
    return manifest | {"seconds": round(time.monotonic() - began, 2)}


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keeps a second build out of the folder, and this one out of a folder that holds something else."""
    from filelock import FileLock, Timeout

    try:
        with storage_errors(out):
            _make_folder(out)
            _check_is_ours(out)
            lock = FileLock(out / LOCK).acquire(timeout=0)
    except Timeout:
        raise StorageError("another build works in this folder", where=str(out), hint="wait for it to end") from None
    except OSError as error:
        raise StorageError(f"cannot write: {(error.strerror or str(error)).lower()}", where=str(out)) from None
    with lock, storage_errors(out):
        remove_partial(out)
        yield


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError("this is a file, a folder was expected", where=str(out)) from None


def _check_is_ours(out: Path) -> None:
    """What a build writes replaces what has the same name: a folder of other things keeps its own.

    Raises:
        UserError: something of such a name is there, and no build has worked here.
    """
    with contextlib.suppress(DataError, TypeError):
        if (out / STAGES).is_dir() or "recipe" in read_json(out / MANIFEST):
            return
    if taken := [name for name in WRITTEN if (out / name).exists()]:
        hint = "name a new folder, or an empty one"
        raise UserError(f"this folder has a '{taken[0]}' that no build of a data set made", where=str(out), hint=hint)


def check_tokenizer(recipe: Recipe, named: Path | None) -> None:
    """Notices before anything is read what would fail after everything is.

    Raises:
        ConfigError: the vocabulary is too small for a tokenizer of its kind.
        ModelError: the tokenizer that the recipe names cannot be read.
    """
    if named is not None:
        load_tokenizer(named)
    if isinstance(recipe.tokenizer, TokenizerTraining):
        from .train_bpe import least_vocab_size

        least = least_vocab_size(recipe.tokenizer.kind)
        if recipe.tokenizer.vocab_size < least:
            message = f"a vocabulary of {recipe.tokenizer.vocab_size:,} is too small"
            hint = f"a {recipe.tokenizer.kind} tokenizer needs at least {least}"
            raise ConfigError(message, where="tokenizer.vocab_size", hint=hint)


def _nothing_left(dropped: dict[str, int]) -> str:
    reasons = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    return "no document is left: " + ", ".join(f"{count:,} {reason}" for reason, count in reasons[:3])


def _kind(recipe: Recipe, documents: Documents, kept: int) -> Kind:
    """Whether answers are learned, or all of the text."""
    chats = documents.summary["chats"]
    if recipe.tokens.kind == "chat" and chats < kept:
        message = f"{kept - chats:,} of {kept:,} documents are no conversations"
        raise DataError(message, where="tokens.kind", hint="set it to text, or name sources of conversations alone")
    if recipe.tokens.kind == "auto":
        return "chat" if chats == kept else "text"
    return recipe.tokens.kind


def _tokenizer(
    recipe: Recipe, named: Path | None, documents: Documents, store: Store, say: Callable[[str], None]
) -> Path | None:
    """The tokenizer's folder: the one named, or one trained on the training documents; None where none is wanted."""
    if not isinstance(recipe.tokenizer, TokenizerTraining):
        return named
    training = recipe.tokenizer
    key = key_of(TOKENIZER, TRAINING_VERSION, training.model_dump(mode="json"), documents.finished)
    if not store.has(TOKENIZER, key):
        from .train_bpe import train_tokenizer

        if not documents.summary["kept"].get("train"):
            hint = "lower split.validation and split.test, or add documents"
            raise DataError("no document fell into train, to train a tokenizer on", where="split", hint=hint)
        say(f"training a tokenizer with {training.vocab_size:,} ids")
        texts = _sample(documents, training.bytes)
        trained = train_tokenizer(texts, training.vocab_size, training.kind)
        with store.new(TOKENIZER, key) as folder:
            trained.save(folder)
    return store.path(TOKENIZER, key)


def _sample(documents: Documents, most: int) -> Iterator[str]:
    """Training documents of about so many bytes, taken evenly over all; at least the first."""
    share = min(1.0, most / max(1, documents.summary["bytes_kept"]["train"]))
    owed = 1.0
    for table in documents.tables:
        for text in texts_of(table, "train"):
            if owed >= 1:
                owed -= 1
                yield text
            owed += share


def _tokenize(
    recipe: Recipe, documents: Documents, store: Store, folder: Path, kind: Kind, workers: int
) -> list[TokenWork]:
    """Tokenizes every shard whose tokens are not there yet."""
    tokenizer = load_tokenizer(folder)
    if kind == "chat" and tokenizer.chat_template is None:
        hint = "name a tokenizer with a chat template, or set tokens.kind to text"
        raise DataError("these are conversations, and the tokenizer has no chat template", where="tokenizer", hint=hint)
    length = recipe.tokens.max_length
    works = [TokenWork(store.folder, key, folder, tokenizer.fingerprint, kind, length) for key in documents.finished]
    while True:
        missing = [Task(number, work) for number, work in enumerate(works) if not store.has(TOKENS, work.key)]
        mistrusted = False
        with Progress("Tokenizing", unit="shards", total=len(missing)) as progress:
            for done, (_, erred) in enumerate(run_tasks(tokenize_shard, missing, workers, seconds=float("inf")), 1):
                mistrusted |= erred
                progress.update(done)
        if not mistrusted:
            return works
        # It may have erred before it was found to: all is done again, and this time without it.
        for work in works:
            shutil.rmtree(work.folder, ignore_errors=True)


def _assemble(
    out: Path,
    recipe: Recipe,
    documents: Documents,
    works: Sequence[TokenWork],
    tokenizer: Path | None,
    kind: Kind,
    manifest: dict[str, Any],
) -> None:
    """Puts the finished pieces under their names; what tells that they are whole comes last, the manifest at the end."""
    import pyarrow.parquet as pq

    for name in (MANIFEST, FILE, REPORT, CARD):
        (out / name).unlink(missing_ok=True)
    tables = [work.folder / TABLE for work in works]
    with new_folder(out / "documents", checksums=False) as folder:
        for number, (finished, source) in enumerate(zip(documents.tables, documents.sources, strict=True)):
            table = tables[number] if tables and tables[number].is_file() else finished
            if pq.read_metadata(table).num_rows:
                _link(table, folder / f"{folder_name(source)}-{number:05}.parquet")
    parts = _join(out, recipe, documents.sources, works)
    if tokenizer is not None:
        with new_folder(out / TOKENIZER, checksums=False) as folder:
            load_tokenizer(tokenizer).save(folder)
    else:
        shutil.rmtree(out / TOKENIZER, ignore_errors=True)
    write_text(out / FAILURES, "".join(_line(failure) for failure in documents.failures))
    dataset_report(manifest, str(out)).write(out / REPORT)
    write_text(out / CARD, data_card(manifest))
    if tokenizer is not None:
        write_dataset(out, parts, kind=kind, tokenizer=TOKENIZER)
    write_json(out / MANIFEST, manifest)


def _join(out: Path, recipe: Recipe, sources: Sequence[str], works: Sequence[TokenWork]) -> dict[Split, list[Part]]:
    """The token shards of every split and source."""
    parts: dict[Split, list[Part]] = {}
    splits: tuple[Split, ...] = ("train", "validation", "test")
    weighted = any(source.weight != 1.0 for source in recipe.sources)
    for split in splits:
        shutil.rmtree(out / split, ignore_errors=True)
        for source in recipe.sources:
            pieces = [
                work.folder / split
                for work, name in zip(works, sources, strict=bool(works))
                if name == source.name and (work.folder / split).is_dir()
            ]
            if not any(read_json(piece / "index.json")["documents"] for piece in pieces):
                continue
            folder = out / split / folder_name(source.name)
            info = {**read_json(pieces[0] / "index.json")["info"], "source": [source.name]}
            concat_datasets(pieces, folder, info)
            weight = source.weight if weighted and split == "train" else None
            epochs = source.epochs if split == "train" else None
            parts.setdefault(split, []).append(Part(source.name, folder, weight, epochs))
    return parts


def _link(source: Path, target: Path) -> None:
    """The same file under another name where the file system can, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _line(failure: dict[str, Any]) -> str:
    from ..data.documents import compact_json

    return compact_json(failure) + "\n"
