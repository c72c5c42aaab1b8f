"""Tokens become text while they come: never half a character, never text that a stop text may still swallow."""

from __future__ import annotations

from collections.abc import Sequence

from ..tokens.tokenizer import Tokenizer

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """What streaming needs to know of a tokenizer; one serves every answer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        backend = tokenizer.backend
        self._special = {i for i, token in backend.get_added_tokens_decoder().items() if token.special}
        # SentencePiece vocabularies spell rare characters as runs of such tokens.
        pieces = (backend.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
        self._bytes = {piece for piece in pieces if piece is not None}

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        return self.tokenizer.decode(list(tokens), skip_special=True)

    def is_silent(self, token: int) -> bool:
        """Whether decoding leaves the token out."""
        return token in self._special or self.tokenizer.backend.id_to_token(token) is None

    def is_byte(self, token: int) -> bool:
        """Whether the token is one byte of a run, which becomes text only once the run has ended.

        Such a run is valid UTF-8 as a whole or not at all, so none of it is certain before its end.
        """
        return token in self._bytes


class TextStream:
    """The text of one answer in increments, which together are exactly the decoding of all its tokens.

    Where a stop text occurs they are exactly what stands before it; of several, the one that is complete first counts,
    so the result does not depend on how the text was cut into tokens.

    Args:
        detokenizer: of the model's tokenizer.
        stop: texts that end the answer.
        unsearched: what the first so many tokens make certain is not looked through for stop texts.
    """

    def __init__(self, detokenizer: Detokenizer, stop: Sequence[str] = (), unsearched: int = 0) -> None:
        self.stopped = False
        self._unsearched = unsearched
        self._detokenizer = detokenizer
        self._stop = tuple(stop)
        self._held = ""
        # Decoding starts a little before the new tokens, at _anchor: some decoders treat the first token of a text
        # differently. _shown is how much of decode(tokens[_anchor:]) has left.
        self._tokens: list[int] = []
        self._anchor = 0
        self._clean = 0
        self._shown = 0

    def push(self, token: int) -> str:
        """Takes the next token; returns the text that is certain now."""
        self._tokens.append(token)
        if self._detokenizer.is_silent(token) or self._detokenizer.is_byte(token):
            return ""
        text = self._detokenizer.decode(self._tokens[self._anchor :])
        if text.endswith(REPLACEMENT):
            # Perhaps a character whose other bytes are still to come; what stands before it is certain.
            return self._release(text[self._shown : -1], len(text) - 1)
        certain = self._release(text[self._shown :], len(text))
        self._advance()
        return certain

    def finish(self) -> str:
        """No token follows: returns the rest of the text."""
        text = self._detokenizer.decode(self._tokens[self._anchor :])
        rest = self._release(text[self._shown :], len(text))
        if self.stopped:
            return rest
        rest, self._held = rest + self._held, ""
        return rest

    def _advance(self) -> None:
        """Moves the anchor to the last clean place, so that a long answer is not decoded again with every token."""
        text = self._detokenizer.decode(self._tokens[self._clean :])
        if text:
            self._anchor, self._clean, self._shown = self._clean, len(self._tokens), len(text)

    def _release(self, text: str, shown: int) -> str:
        """Passes certain text through the search for stop texts; returns what none of them can swallow any more."""
        self._shown = max(self._shown, shown)
        if self.stopped:
            return ""
        if not self._stop or len(self._tokens) <= self._unsearched:
            return text
        text = self._held + text
        found = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        keep = max(_overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """The longest end of ``text`` that ``stop`` begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
