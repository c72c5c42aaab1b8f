"""``ownlm chat``: a conversation in the terminal."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from .answer import Answer
from .sampling import (
    Adapter,
    Device,
    DraftModel,
    Dtype,
    MaxTokens,
    MinP,
    ModelName,
    RepetitionPenalty,
    Seed,
    Temperature,
    TopK,
    TopP,
    Weights,
    load_engine,
    sampling_options,
)

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.requests import SamplingOptions

HELP = "Type a message. /reset begins anew, /exit leaves, Ctrl-C stops an answer."
PROMPT = "you> "


def chat(
    model: ModelName,
    system: Annotated[str | None, typer.Option(help="What the model is told first.", metavar="TEXT")] = None,
    max_tokens: MaxTokens = 512,
    temperature: Temperature = 0.7,
    top_k: TopK = 0,
    top_p: TopP = 0.95,
    min_p: MinP = 0.0,
    repetition_penalty: RepetitionPenalty = 1.0,
    seed: Seed = None,
    weights: Weights = "auto",
    draft_model: DraftModel = None,
    adapter: Adapter = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Answer:
    """Talk with a model; its answers stream to the terminal.

    /reset begins anew, /exit or Ctrl-D leaves, and Ctrl-C stops an answer; what was said so far stays in mind.
    """
    options = sampling_options(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    engine = load_engine(model, dtype, device, adapter, weights=weights, draft_model=draft_model)
    conversation = Conversation(engine, options, system)
    print(HELP, file=sys.stderr)
    conversation.run(_ask, _write)
    return Answer({"messages": conversation.messages})


class Conversation:
    """What was said so far, and the loop that goes on with it.

    Args:
        engine: writes the answers.
        options: how they are drawn.
        system: what the model is told first.

    Attributes:
        messages: everything said, in order, as (role, content) mappings.
    """

    def __init__(self, engine: Engine, options: SamplingOptions, system: str | None = None) -> None:
        self.engine, self.options = engine, options
        self._opening = [{"role": "system", "content": system}] if system else []
        self.messages = list(self._opening)

    def run(self, ask: Callable[[], str | None], write: Callable[[str], None]) -> None:
        """Asks for messages and answers them until ``ask`` gives None or the user leaves."""
        from ..errors import UserError

        while (said := ask()) is not None:
            said = said.strip()
            if said in ("/exit", "/quit"):
                return
            if said == "/reset":
                self.messages = list(self._opening)
                write("(a new conversation)\n")
            elif said.startswith("/"):
                write(HELP + "\n")
            elif said:
                try:
                    self.answer(said, write)
                except UserError as error:
                    # A message that cannot be answered is taken back, and the conversation goes on.
                    self.messages.pop()
                    write(f"({error.message}; shorten the message, or type /reset)\n")

    def answer(self, said: str, write: Callable[[str], None]) -> None:
        """Streams the answer to one message; Ctrl-C ends it early, and what was written so far is kept.

        Raises:
            UserError: the conversation does not fit the model's context.
        """
        self.messages.append({"role": "user", "content": said})
        ids = self.engine.tokenizer.render(self.messages, add_generation_prompt=True)
        parts: list[str] = []
        try:
            for event in self.engine.stream(ids, self.options):
                if event.error is not None:
                    raise event.error
                if event.text:
                    parts.append(event.text)
                    write(event.text)
        except KeyboardInterrupt:
            write(" …")
        write("\n")
        self.messages.append({"role": "assistant", "content": "".join(parts).strip()})


def _ask() -> str | None:
    """The user's next line; None at the end of input, or when Ctrl-C is pressed with no answer to stop."""
    try:
        if not sys.stdin.isatty():
            line = sys.stdin.readline()
            return line if line else None
        _enable_line_editing()
        return input(PROMPT)
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)
        return None


def _enable_line_editing() -> None:
    # Importing it is what gives input() arrow keys and history; Windows has its own.
    try:
        import readline  # noqa: F401
    except ImportError:
        return


def _write(text: str) -> None:
    # What a model writes must not steer the terminal: sequences of control characters clear it, rename it, fill clipboards.
    print(harmless(text) if sys.stdout.isatty() else text, end="", flush=True)


def harmless(text: str) -> str:
    """A text whose control characters, but for line ends and tabs, are shown as what they are."""
    return "".join(_shown(letter) if unicodedata.category(letter) == "Cc" else letter for letter in text)


def _shown(letter: str) -> str:
    if letter in "\n\t":
        return letter
    # Unicode has a picture for each of the first 32 and for DEL.
    code = ord(letter)
    return chr(0x2400 + code) if code < 32 else "\u2421" if code == 127 else "\ufffd"
