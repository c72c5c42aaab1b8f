"""Each token's own text and bytes, as they stand beside log-probabilities."""

from __future__ import annotations

import functools
import re

from ..tokens.tokenizer import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


class TokenTexts:
    """Looks tokens up in a vocabulary; one serves every request."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._backend = tokenizer.backend
        self._added = {i: token.content for i, token in self._backend.get_added_tokens_decoder().items()}

    def bytes_of(self, token: int) -> bytes:
        """What the token adds to a text."""
        if token in self._added:
            return self._added[token].encode()
        written = self._backend.id_to_token(token)
        if written is None:
            return b""
        if self._is_byte_level and all(character in _BYTES for character in written):
            return bytes(_BYTES[character] for character in written)
        if match := _BYTE.fullmatch(written):
            return bytes([int(match[1], 16)])
        return written.replace(_SPACE, " ").encode(errors="replace")

    def text_of(self, token: int) -> str:
        """Its text; bytes that are no whole characters are written ``bytes:\\xe4\\xbd``."""
        data = self.bytes_of(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    @functools.cached_property
    def _is_byte_level(self) -> bool:
        return "ByteLevel" in repr(self._backend.decoder)


def _byte_letters() -> dict[str, int]:
    """GPT-2's letter for each byte: itself where it can be printed, otherwise one beyond 255 (Radford et al. 2019)."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_letters()
