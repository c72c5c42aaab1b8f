"""What was acknowledged is there, whoever is killed: a process that writes, or the database's server."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ownlm.store import Conversation, Store

# Writes without end and says so after each write, as a server would answer its client then.
WRITER = """
import sys
from ownlm.store import Answer, Conversation, Store

url, name = sys.argv[1:]
store = Store.open(url)
number = 0
while True:
    key = f"{name}-{number}"
    messages = ({"role": "user", "content": "question " * 200},)
    answers = tuple(Answer({"role": "assistant", "content": f"answer {i} to {key}"}, "stop") for i in range(3))
    store.conversations.add(Conversation(key, "tiny", "r1", messages, answers))
    store.feedback.add(key, "down", answer=2, reason=key)
    store.usage.add("k", requests=1)
    print(key, flush=True)
    number += 1
"""


def start(url: str, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, url, name], stdout=subprocess.PIPE, text=True)


def read_some(child: subprocess.Popen[str], count: int) -> list[str]:
    assert child.stdout is not None
    lines = [child.stdout.readline().strip() for _ in range(count)]
    assert all(lines), "the writer ended"
    return lines


def kill(child: subprocess.Popen[str]) -> list[str]:
    """Kills a writer; what it had said until then."""
    child.send_signal(signal.SIGKILL)
    assert child.stdout is not None
    rest = [line.strip() for line in child.stdout.readlines() if line.endswith("\n")]
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    return rest


def check(store: Store, acknowledged: list[str]) -> None:
    """Each acknowledged write is there, and whatever else is there is whole."""
    feedback = {entry.conversation_id: entry for entry in store.feedback.all()}
    kept = {conversation.id: conversation for conversation in store.conversations.newest(limit=10**6)}
    for key in acknowledged:
        assert key in kept
        assert feedback[key].reason == key
    for key, conversation in kept.items():
        assert len(conversation.messages) == 1
        assert [answer.message["content"] for answer in conversation.answers] == [
            f"answer {i} to {key}" for i in range(3)
        ]
    assert store.usage.of("k").requests >= len(acknowledged)


def test_a_killed_writer_loses_nothing_that_it_acknowledged(url: str):
    Store.open(url).close()
    acknowledged: list[str] = []
    for round_ in range(3):
        # Two at once, killed in the middle of their work.
        children = [start(url, f"{round_}{letter}") for letter in "ab"]
        for child in children:
            acknowledged += read_some(child, 12)
        for child in children:
            acknowledged += kill(child)
    assert len(acknowledged) >= 72
    with Store.open(url) as store:
        check(store, acknowledged)
        # And the store goes on.
        store.keys.create("after")


def test_a_killed_postgresql_loses_nothing_that_was_acknowledged(own_postgres: Any, talk: Callable[..., Conversation]):
    with Store.open(own_postgres.url) as store:
        store.conversations.add(talk("before"))
        child = start(own_postgres.url, "a")
        acknowledged = read_some(child, 20)
        own_postgres.kill()
        assert child.stdout is not None
        acknowledged += [line.strip() for line in child.stdout.readlines() if line.endswith("\n")]
        child.wait()
        child.stdout.close()
        own_postgres.start_again()
        # The same store, whose connections are all dead: it gets new ones by itself.
        assert store.conversations.get("before") is not None
        assert store.conversations.remove("before")
        check(store, acknowledged)


@pytest.fixture
def own_postgres(postgres: Any) -> Iterator[Any]:
    """A server of this test's alone, which waits for the disk."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    folder.chmod(0o755)
    server = type(postgres)(postgres.binaries, folder)
    try:
        server.start(fsync=True)
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
