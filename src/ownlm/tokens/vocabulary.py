"""What each token of a vocabulary is to a text: nothing at all, a part of a word, or the end of a word or a sentence.

Each is a table over the ids, made once, so that arrays of tokens are cut into words and sentences with no text at hand.
"""

from __future__ import annotations

import functools
import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import models

from .tokenizer import Tokenizer

Table = NDArray[np.bool_]

# What ends a sentence, in the scripts that have a sign for it (Unicode's property Sentence_Terminal, its common part).
_SENTENCE_ENDS = ".!?\u2026\u3002\uff01\uff1f\u061f\u06d4\u0964"
# SentencePiece's space, and a byte that is none of its pieces.
_SPACE, _BYTE = "\u2581", "<0x"
_UNDECODED = "\ufffd"


@dataclass(frozen=True)
class Vocabulary:
    """Tables over a tokenizer's ids: [vocab] each.

    Attributes:
        ordinary: whether it stands for a part of a text: it is there, and no special token.
        begins: whether a mark says that a word begins with it.
        continues: whether it goes on with the word before it, where that is not finished.
        closes: whether a word is finished with it: a comma, the end of a line.
        waits: whether it is nothing but that mark, so that its word is still to come.
        ends_sentence: whether a sentence may be finished with it.
    """

    ordinary: Table
    begins: Table
    continues: Table
    closes: Table
    waits: Table
    ends_sentence: Table

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Vocabulary:
        """The tables of a tokenizer.

        WordPiece marks what goes on with a word ("##ing"); byte-level BPE and SentencePiece mark what follows a space,
        and there a token without the mark goes on with a word only where both meet in a letter or a digit.
        """
        backend = tokenizer.backend
        added = {number for number, token in backend.get_added_tokens_decoder().items() if token.special}
        special = added | {backend.token_to_id(name) for name in tokenizer.names.values()}
        tables = cls(*(np.zeros(tokenizer.vocab_size, bool) for _ in range(6)))
        look = _looks_of(backend.model, backend.to_str())
        for token, number in backend.get_vocab(with_added_tokens=True).items():
            if number in special:
                continue
            text, begins, marked = look(token)
            tables.ordinary[number] = True
            tables.begins[number] = begins
            tables.continues[number] = not begins and (marked or _in_word(text[:1]))
            tables.closes[number] = not marked and text != "" and not _in_word(text[-1])
            tables.waits[number] = begins and text == ""
            tables.ends_sentence[number] = "\n" in text or text.rstrip().endswith(tuple(_SENTENCE_ENDS))
        return tables

    def word_begins(self, tokens: NDArray[np.int64], follows: Table) -> Table:
        """Where words begin: [tokens].

        Args:
            tokens: ids, one text after another.
            follows: whether an ordinary token of the same text stands before each.
        """
        before = tokens[:-1]
        goes_on = self.continues[tokens[1:]] & ~self.closes[before] | self.waits[before] & ~self.begins[tokens[1:]]
        return self.ordinary[tokens] & ~(np.append(False, goes_on) & follows)


# A token's text, whether a mark says that it begins a word, and whether marks of this kind say all there is to know.
_Look = Callable[[str], tuple[str, bool, bool]]


def _looks_of(model: object, description: str) -> _Look:
    if isinstance(model, models.WordPiece):
        prefix = str(json.loads(description)["model"]["continuing_subword_prefix"])
        return lambda token: _piece(token, prefix)
    if isinstance(model, models.WordLevel):
        return lambda token: (token, True, True)
    return _byte_level if '"ByteLevel"' in description else _sentence_piece


def _piece(token: str, prefix: str) -> tuple[str, bool, bool]:
    inside = token.startswith(prefix) and len(token) > len(prefix)
    return token.removeprefix(prefix) if inside else token, not inside, True


def _byte_level(token: str) -> tuple[str, bool, bool]:
    table = _bytes_of_characters()
    text = bytes(table.get(character, 0) for character in token).decode(errors="replace")
    return text.removeprefix(" "), text.startswith(" "), False


def _sentence_piece(token: str) -> tuple[str, bool, bool]:
    if token.startswith(_BYTE) and len(token) == 6:
        byte = bytes.fromhex(token[3:5])
        return byte.decode(errors="replace"), False, False
    return token.removeprefix(_SPACE), token.startswith(_SPACE), False


@functools.cache
def _bytes_of_characters() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for (Radford et al. 2019).

    Bytes that print as Latin-1 stand for themselves, the others for the characters from 256 on, in their order.
    """
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + place): byte for place, byte in enumerate(others)}


def _in_word(character: str) -> bool:
    """Whether a character is a part of words: a letter, a digit, a sign on one, or a part of a character's bytes."""
    return character == _UNDECODED or (character != "" and unicodedata.category(character)[0] in "LMN")
