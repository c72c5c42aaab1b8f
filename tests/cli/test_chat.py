"""The conversation: history, commands, Ctrl-C, and a context that is full."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ownlm as library
from ownlm.cli.chat import Conversation, harmless
from ownlm.engine.engine import Engine
from ownlm.engine.requests import SamplingOptions


@pytest.fixture(scope="module")
def engine(corpus: Path) -> Engine:
    return Engine(library.load_model(corpus / "base", dtype="float32"), library.load_tokenizer(corpus / "base"))


def test_what_a_model_writes_does_not_steer_the_terminal():
    assert harmless("a\tb\n\x1b[2J\x1b]52;c;eA==\x07 \r\x7f \x9b31m é 🙂") == (
        "a\tb\n\u241b[2J\u241b]52;c;eA==\u2407 \u240d\u2421 \ufffd31m é 🙂"
    )


def talk(conversation: Conversation, *lines: str) -> str:
    """Says the lines one after another and returns all that was shown."""
    shown: list[str] = []
    said: Iterator[str] = iter(lines)
    conversation.run(lambda: next(said, None), shown.append)
    return "".join(shown)


def test_answers_are_the_engines_and_the_history_is_kept(engine: Engine):
    options = SamplingOptions(max_tokens=6, temperature=0)
    conversation = Conversation(engine, options, system="Be brief.")
    shown = talk(conversation, "Hello", "And now?\n", "  ")
    messages: list[dict[str, str]] = [{"role": "system", "content": "Be brief."}]
    for question in ("Hello", "And now?"):
        messages.append({"role": "user", "content": question})
        answer = engine.chat(messages, options).text
        assert answer in shown
        messages.append({"role": "assistant", "content": answer.strip()})
    assert conversation.messages == messages


def test_reset_forgets_and_exit_leaves(engine: Engine):
    conversation = Conversation(engine, SamplingOptions(max_tokens=2, temperature=0), system="Be brief.")
    talk(conversation, "Hello", "/reset", "/exit", "never said")
    assert conversation.messages == [{"role": "system", "content": "Be brief."}]


def test_an_unknown_command_shows_what_there_is(engine: Engine):
    conversation = Conversation(engine, SamplingOptions(max_tokens=2))
    assert "/reset" in talk(conversation, "/rest")
    assert conversation.messages == []


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(engine: Engine):
    conversation = Conversation(engine, SamplingOptions(max_tokens=40, temperature=0, ignore_eos=True))
    shown: list[str] = []

    def write(text: str) -> None:
        shown.append(text)
        if len(shown) == 3:
            raise KeyboardInterrupt

    conversation.answer("Hello", write)
    assert conversation.messages[-1] == {"role": "assistant", "content": "".join(shown[:3]).strip()}
    assert (engine.running, engine.cached_tokens) == (0, 0)


def test_a_message_that_does_not_fit_is_taken_back(engine: Engine):
    conversation = Conversation(engine, SamplingOptions(max_tokens=2, temperature=0))
    shown = talk(conversation, "word " * 400, "Hello")
    assert "/reset" in shown
    assert [message["content"] for message in conversation.messages[:1]] == ["Hello"]


def test_the_command_reads_lines_and_gives_the_conversation(
    ownlm: Callable[..., Any], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "said").write_text("Hello\n/exit\n")
    with (tmp_path / "said").open() as said:
        monkeypatch.setattr("sys.stdin", said)
        outcome = ownlm("chat", corpus / "base", "--max-tokens", "3", "--temperature", "0", "--json")
    assert outcome.code == 0
    assert [message["role"] for message in outcome.object["messages"]] == ["user", "assistant"]
