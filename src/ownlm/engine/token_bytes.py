"""The bytes that each token stands for in an answer's text, for byte-level and SentencePiece-like vocabularies alike.

The text of an answer is the decoding of its tokens. A constraint follows it byte by byte, so it must know what each
token adds, and that decoders in the manner of SentencePiece leave the space out that the first token of a text begins
with.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import Any

import tokenizers

from ..errors import ModelError
from ..tokens.tokenizer import Tokenizer

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
TRIALS = 300


class TokenBytes:
    """What a tokenizer's tokens add to a text.

    Attributes:
        middle: for each id, its bytes where text stands before it; empty for special tokens and unused ids.
        first: the bytes of those ids that add something else at the beginning of a text.

    Raises:
        ModelError: the tokenizer's decoder is one whose texts are not just those bytes side by side.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        backend = tokenizer.backend
        added = backend.get_added_tokens_decoder()
        silent = {number for number, token in added.items() if token.special} | tokenizer.stop_ids
        ids = [number for number in range(tokenizer.vocab_size) if number not in silent]
        spelled = {number: token for number in ids if (token := backend.id_to_token(number)) is not None}
        self.middle = [b""] * tokenizer.vocab_size
        self.first: dict[int, bytes] = {}
        kinds = decoders_of(backend)
        if "ByteLevel" in kinds:
            letters = byte_letters()
            for number, token in spelled.items():
                self.middle[number] = _of_letters(token, letters)
        else:
            self._by_decoding(tokenizer, spelled, "ByteFallback" in kinds)
        self._check(tokenizer, list(spelled))

    def _by_decoding(self, tokenizer: Tokenizer, spelled: dict[int, str], has_bytes: bool) -> None:
        """Fills in what is seen when each token is decoded alone, and behind another."""
        ids = list(spelled)
        alone = tokenizer.backend.decode_batch([[number] for number in ids], skip_special_tokens=False)
        # Any token of plain letters will do to stand before the others.
        found = next((pair for pair in zip(ids, alone, strict=True) if pair[1].isascii() and pair[1].isalpha()), None)
        if found is None:
            raise _unknown_decoder()
        before, text = found
        pairs = tokenizer.backend.decode_batch([[before, number] for number in ids], skip_special_tokens=False)
        for number, first, pair in zip(ids, alone, pairs, strict=True):
            byte = BYTE.fullmatch(spelled[number]) if has_bytes else None
            if byte and int(byte[1], 16) >= 0x80:
                self.middle[number] = bytes([int(byte[1], 16)])
                continue
            self.middle[number] = pair.removeprefix(text).encode()
            if first.encode() != self.middle[number]:
                self.first[number] = first.encode()

    def _check(self, tokenizer: Tokenizer, ids: Sequence[int]) -> None:
        """Tries the bytes against the decoder on runs of any tokens."""
        draw = random.Random(0)
        for _ in range(TRIALS if ids else 0):
            run = draw.choices(ids, k=draw.randint(1, 6))
            joined = self.first.get(run[0], self.middle[run[0]]) + b"".join(self.middle[number] for number in run[1:])
            try:
                text = joined.decode()
            except UnicodeDecodeError:
                continue
            if tokenizer.decode(run) != text:
                raise _unknown_decoder()


def _unknown_decoder() -> ModelError:
    return ModelError(
        "constraints cannot follow this tokenizer: its decoder changes tokens by what stands around them",
        hint="byte-level and SentencePiece-like tokenizers can be followed",
    )


def decoders_of(backend: tokenizers.Tokenizer) -> set[str]:
    """The kinds of decoders that a tokenizer runs one after the other."""
    if backend.decoder is None:
        return set()
    kinds: set[str] = set()
    waiting: list[Any] = [json.loads(backend.decoder.__getstate__())]
    while waiting:
        decoder = waiting.pop()
        kinds.add(decoder["type"])
        waiting.extend(decoder.get("decoders", []))
    return kinds


def _of_letters(token: str, letters: dict[str, int]) -> bytes:
    # The decoder, too, leaves a token as it is that has any other letter.
    if all(letter in letters for letter in token):
        return bytes(letters[letter] for letter in token)
    return token.encode()


def byte_letters() -> dict[str, int]:
    """GPT-2's printable letter for each byte."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
