"""Conversations as tokens: what is trained is exactly what would be generated.

Two rules make the ids of a conversation the same in training, evaluation, the engine and the server:

- *An answer is found by rendering.* The prompt of an answer is the template's text of the messages before it with the
  generation prompt; the answer is what the template adds when its message joins. Nothing is ever searched for.
- *A text is cut at each answer's start and end, and each piece is encoded on its own.* So no token straddles the border
  between prompt and answer, and the prompt's ids are a prefix of the conversation's, whatever the answer begins with.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..data.messages import Messages, Tools, check_messages
from ..errors import DataError, ModelError

if TYPE_CHECKING:
    from .tokenizer import Tokenizer


@dataclass(frozen=True)
class RenderedChat:
    """One conversation as the model reads it.

    Attributes:
        ids: the tokens.
        trained: for each token, whether the model is to learn to write it.
    """

    ids: list[int]
    trained: list[bool]


@dataclass(frozen=True)
class Segment:
    """A piece of a conversation's text, encoded on its own."""

    text: str
    trained: bool


def render_for_training(tokenizer: Tokenizer, messages: Messages) -> list[RenderedChat]:
    """A conversation's tokens, with every answer trained: the end-of-turn token, and what follows it, included.

    Most templates give one RenderedChat. Where a template writes an earlier turn differently once later turns follow
    (Qwen3 drops its reasoning), there is one for each answer, each as it would have been generated. An assistant message
    that opens the conversation answers nothing, so it is context.

    Raises:
        DataError: the conversation has no answer, or a message is not a role and a text.
        ModelError: the template writes answers differently from the way it asks for them.
        UserError: the template refuses the conversation.
    """
    rendered = []
    for segments in training_segments(tokenizer, messages):
        ids = tokenizer.encode_pieces([segment.text for segment in segments])
        rendered.append(join_segments(segments, ids))
    return rendered


def join_segments(segments: Sequence[Segment], ids: Sequence[Sequence[int]]) -> RenderedChat:
    """The RenderedChat of segments and each one's ids."""
    flags = [segment.trained for segment, piece in zip(segments, ids, strict=True) for _ in piece]
    return RenderedChat([token for piece in ids for token in piece], flags)


def training_segments(tokenizer: Tokenizer, messages: Messages) -> list[list[Segment]]:
    """What ``render_for_training`` encodes: for each training document, its text in pieces. Raises as it does."""
    check_messages(messages)
    answers = _answers(tokenizer, messages)
    asked = [answer for answer in answers if answer.prompt_end is not None]
    if not asked:
        raise DataError(
            "this conversation has no answer to learn from",
            hint="it needs an assistant message after the question",
        )
    for answer in asked:
        if answer.prompt_end == -1:
            raise ModelError(
                "the model's chat template writes an answer differently from the way it asks for one",
                where="chat template",
                hint="training needs a template whose answers begin with its generation prompt",
            )
    whole = _rendering(tokenizer, messages, False, answers)
    if whole.parent == len(answers) - 1 and all(answer.parent == i - 1 for i, answer in enumerate(answers)):
        return [_segments(whole, {answer.span for answer in asked})]
    return [_segments(answer, {answer.span}) for answer in asked]


def pieces(
    tokenizer: Tokenizer, messages: Messages, add_generation_prompt: bool, tools: Tools | None = None
) -> list[str]:
    """A conversation's text, cut at each answer's start and end."""
    check_messages(messages)
    renders = _WithTools(tokenizer, tools)
    answers = _answers(renders, messages)
    return [segment.text for segment in _segments(_rendering(renders, messages, add_generation_prompt, answers), set())]


class _Renders(Protocol):
    def render_text(self, messages: Messages, add_generation_prompt: bool = False) -> str: ...


@dataclass(frozen=True)
class _WithTools:
    """Renders with the same tools each time."""

    tokenizer: Tokenizer
    tools: Tools | None

    def render_text(self, messages: Messages, add_generation_prompt: bool = False) -> str:
        return self.tokenizer.render_text(messages, add_generation_prompt, self.tools)


@dataclass(frozen=True)
class _Rendering:
    """A rendered text and where it is cut.

    Attributes:
        text: all of it.
        cuts: places in it, rising.
        parent: the last answer (its number among the answers) with whose rendering this text begins; -1 for none.
        prompt_end: of a text that ends with an answer, where the answer begins; -1 where the template does not begin
            it with its own prompt, and None where nothing asked for it.
    """

    text: str
    cuts: tuple[int, ...]
    parent: int
    prompt_end: int | None = None

    @property
    def span(self) -> tuple[int | None, int]:
        """Where the answer at the end of this text begins and ends."""
        return self.prompt_end, len(self.text)


def _answers(tokenizer: _Renders, messages: Messages) -> list[_Rendering]:
    """The rendering that ends with each assistant message, cut where the answers in it begin and end."""
    answers: list[_Rendering] = []
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        text = tokenizer.render_text(messages[: i + 1])
        if i == 0:
            answers.append(_Rendering(text, (), -1))
            continue
        prompt = _continued(tokenizer.render_text(messages[:i], add_generation_prompt=True), answers)
        if text.startswith(prompt.text):
            end = len(prompt.text)
            answers.append(_Rendering(text, (*prompt.cuts, end), prompt.parent, end))
        else:
            unasked = _continued(text, answers)
            answers.append(_Rendering(text, unasked.cuts, unasked.parent, -1))
    return answers


def _rendering(
    tokenizer: _Renders, messages: Messages, add_generation_prompt: bool, answers: Sequence[_Rendering]
) -> _Rendering:
    if messages[-1]["role"] == "assistant" and not add_generation_prompt:
        last = answers[-1]
        return _Rendering(last.text, last.cuts, len(answers) - 1)
    return _continued(tokenizer.render_text(messages, add_generation_prompt), answers)


def _continued(text: str, answers: Sequence[_Rendering]) -> _Rendering:
    """``text`` with the cuts of the latest answer that it continues."""
    for number in reversed(range(len(answers))):
        answer = answers[number]
        if text.startswith(answer.text):
            return _Rendering(text, (*answer.cuts, len(answer.text)), number)
    return _Rendering(text, (), -1)


def _segments(rendering: _Rendering, trained: set[tuple[int | None, int]]) -> list[Segment]:
    borders = [0, *rendering.cuts, len(rendering.text)]
    return [
        Segment(rendering.text[start:end], (start, end) in trained)
        for start, end in itertools.pairwise(borders)
        if end > start
    ]
