"""Tokenizer: text to ids and back, with the chat template and the special tokens that belong to a model."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from ..data.messages import Messages, Tools, check_messages
from ..errors import ModelError, UserError
from ..files import home, write_json, write_text
from . import chat
from .flat import FlatEncoder, Rows, Texts, rows_of
from .parts import read_parts
from .pieces import PieceEncoder
from .template import CHATML, READABLE, ChatTemplate

# What a tokenizer's folder holds.
FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a Hugging Face model folder, or of a lone tokenizer.json.

    Raises:
        ModelError: there is no tokenizer, or it is broken, or its special tokens are not in its vocabulary.
    """
    parts = read_parts(Path(path))
    try:
        return Tokenizer(parts.backend, names=parts.names, chat_template=parts.chat_template, stop_ids=parts.stop_ids)
    except ModelError as error:
        raise ModelError(error.message, where=str(path), hint=error.hint) from None


class Tokenizer:
    """Text to ids and back, and conversations to ids in the one way that training and serving share.

    A tokenizer without a chat template uses a plain one: ChatML where the vocabulary holds its two tokens, otherwise
    ``User: ...``, a blank line, ``Assistant: ...``, each answer ended by the end-of-text token.

    Args:
        backend: the text-to-ids program of the ``tokenizers`` library; it becomes ours, and stops truncating and
            padding if it did.
        names: special tokens by their Hugging Face names (``bos_token``, ``eos_token``, ``pad_token``, ...).
        chat_template: the model's own jinja2 template, or None.
        stop_ids: further ids that end an answer.

    Attributes:
        bos_id, eos_id, pad_id: ids of the special tokens, or None. Nothing is ever padded; pad_id is kept for saving.
        cls_id, sep_id, mask_id: those of an encoder, or None.
        vocab_size: one more than the largest id.
        adds_bos: whether a text is meant to begin with the beginning-of-text token.

    Raises:
        ModelError: a special token is not in the vocabulary.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        names: Mapping[str, str],
        chat_template: str | None = None,
        stop_ids: Sequence[int] = (),
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.names = {kind: text for kind, text in names.items() if text is not None}
        self.chat_template = chat_template
        ids = {kind: backend.token_to_id(text) for kind, text in self.names.items()}
        for kind, number in ids.items():
            if number is None:
                raise ModelError(f"{kind} '{self.names[kind]}' is not in the tokenizer's vocabulary")
        self.bos_id: int | None = ids.get("bos_token")
        self.eos_id: int | None = ids.get("eos_token")
        self.pad_id: int | None = ids.get("pad_token")
        self.cls_id: int | None = ids.get("cls_token")
        self.sep_id: int | None = ids.get("sep_token")
        self.mask_id: int | None = ids.get("mask_token")
        self.vocab_size = max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.adds_bos = self.bos_id is not None and self.bos_id != self.eos_id and self._starts_with_bos()
        self._given_stop_ids = tuple(stop_ids)

    @classmethod
    def from_parts(
        cls,
        backend: tokenizers.Tokenizer,
        *,
        bos: str | int | None = None,
        eos: str | int | None = None,
        pad: str | int | None = None,
        chat_template: str | None = None,
        stop_ids: Sequence[int] = (),
    ) -> Tokenizer:
        """A tokenizer from its parts; special tokens by text or by id."""
        names = {}
        for kind, token in (("bos_token", bos), ("eos_token", eos), ("pad_token", pad)):
            text = backend.id_to_token(token) if isinstance(token, int) else token
            if text is None and token is not None:
                raise ModelError(f"{kind} {token} is not in the tokenizer's vocabulary")
            if text is not None:
                names[kind] = text
        return cls(backend, names=names, chat_template=chat_template, stop_ids=stop_ids)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The ids of a text; no beginning or end token is added.

        Args:
            text: anything.
            special: whether special tokens written in the text, such as ``<|endoftext|>``, are read as such.
        """
        backend = self.backend if special else self._plain_backend
        return backend.encode(text, add_special_tokens=False).ids

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, as ``encode`` gives them, on all cores."""
        return [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_pieces(self, pieces: Sequence[str], before: int | None = None) -> list[list[int]]:
        """The ids of each piece of one text that was cut, as if the pieces still stood side by side.

        Args:
            pieces: the text, in order.
            before: the token that the first piece follows, where it does not begin the text.
        """
        return self._pieces.encode(pieces, before) if self._pieces.joins else self.encode_many(pieces)

    def encode_flat(self, texts: Texts) -> Rows:
        """The ids of many texts as flat arrays, by the fastest library that gives what ``encode`` gives.

        Args:
            texts: any number of them, as a sequence or as an Arrow array without nulls.

        Returns:
            ids [tokens] uint32 of all texts one after another; offsets [texts + 1] int64, where each text's begin, and
            the end of the last.
        """
        return self._flat.encode(texts)

    def encode_pieces_flat(self, texts: Sequence[Sequence[str]]) -> Rows:
        """``encode_pieces`` of many texts; as ``encode_flat``, a row for each piece."""
        if self._pieces.joins:
            return rows_of([ids for pieces in texts for ids in self._pieces.encode(pieces)])
        return self.encode_flat([piece for pieces in texts for piece in pieces])

    @property
    def joins_pieces(self) -> bool:
        """Whether a piece of a text gets other ids in its place than on its own."""
        return self._pieces.joins

    @property
    def mistrusted(self) -> bool:
        """Whether ``encode_flat`` found, after giving some ids, that its fast library errs: see ``FlatEncoder``."""
        return self._flat.mistrusted

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of ids, without special tokens unless they are wanted."""
        return self.backend.decode(list(ids), skip_special_tokens=skip_special)

    def render_text(self, messages: Messages, add_generation_prompt: bool = False, tools: Tools | None = None) -> str:
        """A conversation's text as the chat template writes it.

        Args:
            messages: what was said.
            add_generation_prompt: whether it ends with the words that ask for an answer.
            tools: what the model may call; a template that does not know tools leaves them out.

        Raises:
            DataError: a message is not a role and a text.
            UserError: the template refuses the conversation.
        """
        check_messages(messages)
        return self._template.render(messages, add_generation_prompt, tools, **self.names)

    def render(self, messages: Messages, add_generation_prompt: bool = False, tools: Tools | None = None) -> list[int]:
        """A conversation's ids: the same in training, evaluation, the engine and the server. As render_text."""
        pieces = self.encode_pieces(chat.pieces(self, messages, add_generation_prompt, tools))
        return [token for piece in pieces for token in piece]

    @functools.cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer: the end-of-text token, and the end-of-turn token that the template writes."""
        ids = {self.eos_id, *self._given_stop_ids, self._end_of_turn()}
        return frozenset(number for number in ids if number is not None)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the ids of a text or a conversation."""
        parts = [self.backend.to_str(), self.template_source(), json.dumps(self.names, sort_keys=True)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def template_source(self) -> str:
        """The chat template in use: the model's own, or the plain one."""
        if self.chat_template is not None:
            return self.chat_template
        begin = "{{ bos_token }}" if self.adds_bos else ""
        if all(self.backend.token_to_id(token) is not None for token in CHATML_TOKENS):
            return begin + CHATML
        return begin + READABLE

    def with_explicit_template(self) -> Tokenizer:
        """The same tokenizer, with the template in use made its own, so that it is saved with a model tuned on chats."""
        if self.chat_template is not None:
            return self
        copy = tokenizers.Tokenizer.from_str(self.backend.to_str())
        return Tokenizer(copy, names=self.names, chat_template=self.template_source(), stop_ids=self._given_stop_ids)

    def check_fits(self, vocab_size: int, where: str | None = None) -> None:
        """Checks that every id has a row in a model's embedding.

        Raises:
            ModelError: the tokenizer has more ids than the model.
        """
        if self.vocab_size > vocab_size:
            raise ModelError(
                f"the tokenizer has {self.vocab_size:,} ids but the model's vocabulary only {vocab_size:,}",
                where=where,
                hint="use the tokenizer that the model was made with, or a model with a larger vocab_size",
            )

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja, as Transformers reads them."""
        write_text(folder / "tokenizer.json", self.backend.to_str(pretty=True))
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        # A missing token is written as such, or a reader would guess one.
        absent = {"bos_token": None, "eos_token": None, "pad_token": None}
        if "cls_token" in self.names and any(self.backend.encode("a", "a").type_ids):
            # Otherwise the public library would give the model two texts as one.
            config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
        write_json(folder / "tokenizer_config.json", config | absent | self.names)
        if self.chat_template is not None:
            write_text(folder / "chat_template.jinja", self.chat_template)

    @functools.cached_property
    def _template(self) -> ChatTemplate:
        if self.chat_template is None and self.eos_id is None:
            raise ModelError(
                "this tokenizer has neither a chat template nor an end-of-text token, so an answer could never end",
                hint="add a chat_template.jinja to the model's folder, or eos_token to its tokenizer_config.json",
            )
        return ChatTemplate(self.template_source())

    @functools.cached_property
    def _pieces(self) -> PieceEncoder:
        return PieceEncoder(self.backend)

    @functools.cached_property
    def _flat(self) -> FlatEncoder:
        return FlatEncoder(self.backend, home() / "cache" / "encoders")

    @functools.cached_property
    def _plain_backend(self) -> tokenizers.Tokenizer:
        plain = tokenizers.Tokenizer.from_str(self.backend.to_str())
        plain.encode_special_tokens = True
        return plain

    def _starts_with_bos(self) -> bool:
        return self.backend.encode("a", add_special_tokens=True).ids[:1] == [self.bos_id]

    def _end_of_turn(self) -> int | None:
        """The last special token that the template writes with an answer."""
        try:
            messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}]
            segments = chat.training_segments(self, messages)[-1]
        except UserError:
            # A template that refuses this conversation, or that cannot be trained, may still be served.
            return None
        ids = self.encode_pieces([segment.text for segment in segments])
        special = {number for number, token in self.backend.get_added_tokens_decoder().items() if token.special}
        return next((token for piece in reversed(ids[-1:]) for token in reversed(piece) if token in special), None)
