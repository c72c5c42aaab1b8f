"""Offensive and sexual words by list, which shows no words in plain sight.

The lists' files hold one word or phrase a line, each letter moved by thirteen places (ROT13), so that nobody meets them
by opening the repository; ``tr a-z n-za-m`` shows them. They were compiled for ownlm and hold only what is offensive or
sexual in nearly every use; a word of two uses is left out. A count says nothing about a text's meaning: it finds pages
of abuse and pornography, not a hostile sentence in polite words.
"""

from __future__ import annotations

import codecs
import functools
from importlib import resources
from pathlib import Path

from ...errors import DataError
from ...files import read_text
from .phrases import split_phrase

_LONGEST_PHRASE = 8


@functools.cache
def default_words(name: str) -> tuple[str, ...]:
    """The entries of a list that comes with ownlm: ``toxic`` or ``sexual``."""
    text = (resources.files(__package__) / f"{name}.rot13.txt").read_text("utf-8")
    return tuple(codecs.decode(text, "rot13").split("\n")[:-1])


def read_word_list(path: Path) -> tuple[str, ...]:
    """The entries of a user's list: UTF-8, one word or phrase a line; blank lines and lines with # are left out.

    Raises:
        DataError: the file cannot be read, or a line has no letter, or more than eight words.
    """
    entries = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if not 1 <= len(split_phrase(entry)) <= _LONGEST_PHRASE:
            hint = f"a line holds one word, or a phrase of at most {_LONGEST_PHRASE}"
            raise DataError("this line is no word to look for", where=f"{path}:{number}", hint=hint)
        entries.append(entry)
    return tuple(entries)
