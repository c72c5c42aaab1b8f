"""Prompts as the engine takes them: texts become ids, and ids are checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UserError
from ..tokens.tokenizer import Tokenizer
from .requests import SamplingOptions


@dataclass(frozen=True)
class Prompts:
    """What prompts of one engine must be.

    Attributes:
        tokenizer: the model's.
        context: the most tokens of a prompt and its answer.
        positions: the model's own limit, where the context may be less.
    """

    tokenizer: Tokenizer
    context: int
    positions: int

    def encode(self, text: str) -> list[int]:
        """A text prompt's ids; it begins with the token that the model expects at a document's start."""
        tokenizer = self.tokenizer
        ids = tokenizer.encode(text)
        # An empty text has nothing to go on from but a document's start; GPT-2 marks that by its only special token.
        start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
        if start is None or (ids and (not tokenizer.adds_bos or ids[0] == start)):
            return ids
        return [start, *ids]

    def checked(self, prompt: str | Sequence[int], where: str = "prompt") -> tuple[int, ...]:
        """The prompt's ids.

        Raises:
            UserError: it is empty, leaves no room for an answer, or holds ids that are no tokens.
        """
        ids = tuple(self.encode(prompt) if isinstance(prompt, str) else prompt)
        if not ids:
            raise UserError("the prompt is empty", where=where, hint="give at least one token")
        if len(ids) >= self.context:
            limit = "the model's context" if self.context == self.positions else "the cache"
            raise UserError(
                f"the prompt has {len(ids):,} tokens, and {limit} has room for {self.context:,} with the answer",
                where=where,
                hint="shorten the prompt",
            )
        self._check_ids(ids, where)
        return ids

    def check_tokens(self, options: SamplingOptions) -> None:
        """Checks what options say of tokens by their ids.

        Raises:
            UserError: an id is no token.
        """
        self._check_ids([token for token, _ in options.logit_bias], "logit_bias")
        self._check_ids(options.stop_token_ids, "stop_token_ids")

    def _check_ids(self, ids: Sequence[int], where: str) -> None:
        vocab = self.tokenizer.vocab_size
        if wrong := [i for i in ids if not 0 <= i < vocab]:
            raise UserError(f"{wrong[0]} is not a token: the vocabulary has {vocab:,}", where=where)
