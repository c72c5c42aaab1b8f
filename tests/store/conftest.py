"""A store of each kind: a SQLite file, and a database of its own on a real PostgreSQL server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ownlm.store import Answer, Conversation, Store


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    import psycopg

    server = request.getfixturevalue("postgres")
    name = f"store_{uuid.uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield server.url.rsplit("/", 1)[0] + f"/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An open store that writes what it is given, personal data included."""
    with Store.open(url, redact=False) as opened:
        yield opened


@pytest.fixture
def talk() -> Callable[..., Conversation]:
    """Makes a conversation: ``talk("id", "question", "answer", created=...)``."""

    def make(
        key: str, question: str = "Hello?", answer: str = "Hi.", *, created: datetime | None = None, **more: Any
    ) -> Conversation:
        messages = ({"role": "user", "content": question},)
        answers = (Answer({"role": "assistant", "content": answer}, "stop"),)
        return Conversation(key, "tiny", "r1", messages, answers, created=created, **more)

    return make
