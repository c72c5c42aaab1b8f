"""``ownlm tokenizer train`` and ``ownlm tokenizer encode``."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from .answer import Answer
from .sampling import ModelName

if TYPE_CHECKING:
    from ..tokens.tokenizer import Tokenizer


def train(
    inputs: Annotated[
        list[Path], typer.Argument(help="Text, Markdown, JSON Lines or CSV files, or folders.", metavar="INPUT...")
    ],
    vocab_size: Annotated[int, typer.Option(help="The most tokens the vocabulary has.", metavar="N")],
    out: Annotated[Path, typer.Option(help="The tokenizer's folder.", metavar="DIR")],
    kind: Annotated[str, typer.Option(help="bpe, wordpiece or unigram.", metavar="KIND")] = "bpe",
) -> Answer:
    """Train a tokenizer on your text; bpe is byte-level, so it can write every text exactly."""
    from ..data.read import read_texts
    from ..files import check_replaceable, new_folder
    from ..tokens.tokenizer import FILES
    from ..tokens.train_bpe import bytes_per_token

    check_replaceable(out, FILES)
    tokenizer = _train_until_ctrl_c(read_texts(inputs), vocab_size, kind)
    with new_folder(out) as new:
        tokenizer.save(new)
    density = bytes_per_token(tokenizer, read_texts(inputs))
    data = {"tokenizer": out, "vocab_size": tokenizer.vocab_size, "bytes_per_token": density}
    return Answer(data, f"{out}: {tokenizer.vocab_size:,} tokens, {density:.2f} bytes of text each on average")


def _train_until_ctrl_c(texts: Iterator[str], vocab_size: int, kind: str) -> Tokenizer:
    """Trains in a thread of its own: the library's native code would keep this one from noticing Ctrl-C."""
    from ..tokens.train_bpe import train_tokenizer

    stop = threading.Event()
    outcome: list[Tokenizer | BaseException] = []

    def work() -> None:
        try:
            outcome.append(train_tokenizer(itertools.takewhile(lambda _: not stop.is_set(), texts), vocab_size, kind))  # type: ignore[arg-type]
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        # Reading ends at the next text; what is native by now ends with the process, and nothing was written yet.
        stop.set()
        thread.join(1.0)
        raise
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def encode(
    tokenizer: ModelName,
    file: Annotated[Path | None, typer.Option(help="The text's file; without it, stdin is read.", metavar="F")] = None,
) -> Answer:
    """Turn text into token ids, separated by spaces."""
    from ..files import read_text
    from ..model.registry import find_model
    from ..tokens.tokenizer import load_tokenizer

    loaded = load_tokenizer(find_model(tokenizer))
    if file is None and sys.stdin.isatty():
        raise UserError("there is no text", where="ownlm tokenizer encode", hint="give --file F, or pipe text in")
    text = read_text(file) if file is not None else sys.stdin.read()
    ids = loaded.encode(text)
    size = len(text.encode())
    note = f"{len(ids):,} tokens, {size:,} bytes"
    return Answer({"ids": ids, "tokens": len(ids), "bytes": size}, note, output=" ".join(map(str, ids)))
