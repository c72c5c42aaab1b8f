"""Each token's own text and bytes, as they stand beside log-probabilities."""

from __future__ import annotations

from ..engine.token_bytes import BYTE, byte_letters, decoders_of
from ..tokens.tokenizer import Tokenizer

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


class TokenTexts:
    """Looks tokens up in a vocabulary; one serves every request."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._backend = tokenizer.backend
        self._letters = byte_letters() if "ByteLevel" in decoders_of(self._backend) else {}
        self._added = {i: token.content for i, token in self._backend.get_added_tokens_decoder().items()}

    def bytes_of(self, token: int) -> bytes:
        """What the token adds to a text."""
        if token in self._added:
            return self._added[token].encode()
        written = self._backend.id_to_token(token)
        if written is None:
            return b""
        if all(character in self._letters for character in written):
            return bytes(self._letters[character] for character in written)
        if match := BYTE.fullmatch(written):
            return bytes([int(match[1], 16)])
        return written.replace(_SPACE, " ").encode(errors="replace")

    def text_of(self, token: int) -> str:
        """Its text; bytes that are no whole characters are written ``bytes:\\xe4\\xbd``."""
        data = self.bytes_of(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
