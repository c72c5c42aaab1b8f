"""Every signal of a column of texts."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...config import Config
from ..words import flat_bytes
from .block import Block, read_block
from .c4 import MARKS, page_marks
from .code import code_share
from .language import Snippets, cut_snippets, identify, join_snippets
from .lines import line_shares
from .phrases import PhraseLists, find_phrases, phrase_lists
from .repetition import group_words, ratio, repeated_ngrams, repeated_runs, vocabulary
from .shape import character_shares, sizes, word_shares
from .table import SIGNALS, schema
from .toxicity import default_words, read_word_list

if TYPE_CHECKING:
    import pyarrow as pa

# Documents are taken apart some at a time, so that the arrays stay in a core's cache.
BLOCK_BYTES = 2**19
# Changed whenever a signal's definition is, so that what was measured before is measured again.
VERSION = 1


class SignalOptions(Config):
    """How documents are measured."""

    toxic_words: Path | None = None
    """A file of further offensive words or phrases, one a line, counted with the list that comes with ownlm."""
    sexual_words: Path | None = None
    """A file of further sexual words or phrases, one a line."""
    default_words: bool = True
    """Whether the lists that come with ownlm are used; they are English."""
    language: bool = True
    """Whether the language is told; without it, it is 'und' everywhere."""


def measure(texts: pa.LargeStringArray, options: SignalOptions | None = None) -> pa.Table:
    """Measures documents: one row each, with the columns of ``SIGNALS`` in their order.

    A row depends on its text and the options alone, never on the documents beside it.

    Args:
        texts: the documents; none may be null.
        options: how to measure.

    Raises:
        DataError: a word list cannot be read.
        MissingExtra: py3langid is not installed and the language is asked for.
    """
    import pyarrow as pa

    options = options or SignalOptions()
    lists = _lists(options)
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in SIGNALS}
    snippets: list[Snippets] = []
    for part in split_blocks(texts):
        block = read_block(part)
        for name, values in _measure_block(block, lists).items():
            columns[name].append(values)
        if options.language:
            snippets.append(cut_snippets(block))
    names = np.full(len(texts), "und", object)
    scores = np.zeros(len(texts), np.float32)
    if snippets:
        names, scores = identify(join_snippets(snippets))
    columns["language"], columns["language_score"] = [names], [scores]
    arrays = [
        pa.array(np.concatenate([np.zeros(0, field.type.to_pandas_dtype()), *columns[field.name]]), field.type)
        for field in schema()
    ]
    return pa.Table.from_arrays(arrays, schema=schema())


def fingerprint(options: SignalOptions) -> str:
    """A hash of all that decides the signals of a text: the options, the lists' contents, and what is installed."""
    lists = _word_lists(options)
    language = metadata.version("py3langid") if options.language else None
    state = [VERSION, {name: signal.type for name, signal in SIGNALS.items()}, lists, language]
    return hashlib.sha256(json.dumps([*state, unicodedata.unidata_version]).encode()).hexdigest()


def split_blocks(texts: pa.LargeStringArray, size: int = BLOCK_BYTES) -> Iterator[pa.LargeStringArray]:
    """The documents some at a time, each block of about ``size`` bytes, or of one longer document."""
    _, offsets = flat_bytes(texts)
    start = 0
    while start < len(texts):
        end = max(start + 1, int(np.searchsorted(offsets, offsets[start] + size, side="right")) - 1)
        yield texts.slice(start, end - start)
        start = end


def _measure_block(block: Block, lists: PhraseLists) -> dict[str, NDArray[Any]]:
    """Every signal but the language."""
    groups = group_words(block)
    found = find_phrases(block, lists)
    toxic = block.count_at(found["toxic"])
    return {
        **sizes(block),
        **page_marks(block, found),
        **word_shares(block),
        **vocabulary(block, *groups),
        **character_shares(block),
        **line_shares(block),
        **repeated_runs(block),
        **repeated_ngrams(block, *groups),
        "toxic_words": toxic,
        "toxic_fraction": ratio(toxic, block.words.counts),
        "sexual_words": block.count_at(found["sexual"]),
        **code_share(block),
    }


def _lists(options: SignalOptions) -> PhraseLists:
    """What is looked for in every document."""
    return phrase_lists(tuple({**MARKS, **_word_lists(options)}.items()))


def _word_lists(options: SignalOptions) -> dict[str, tuple[str, ...]]:
    """The entries of the offensive and the sexual list."""
    files = {"toxic": options.toxic_words, "sexual": options.sexual_words}
    return {
        name: (default_words(name) if options.default_words else ()) + (read_word_list(path) if path else ())
        for name, path in files.items()
    }
