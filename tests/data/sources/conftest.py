"""What tests of reading share: one call that lists and reads, and a real PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ownlm.data.sources import Failure, RawDocument, ReadLimits, SourceOptions, list_units, read_unit

Read = Callable[..., tuple[list[RawDocument], list[Failure]]]


@pytest.fixture
def read() -> Read:
    """Lists and reads a path: its documents and its failures."""

    def read_path(path: Any, limits: ReadLimits | None = None, **options: Any) -> Any:
        limits = limits or ReadLimits()
        paths = str(path) if isinstance(path, str | Path) else [str(p) for p in path]
        source = SourceOptions(name="src", path=paths, **options)
        units, failures = list_units(source, limits)
        found = [record for unit in units for record in read_unit(unit, source, limits)]
        documents = [record for record in found if isinstance(record, RawDocument)]
        return documents, failures + [record for record in found if isinstance(record, Failure)]

    return read_path


class Postgres:
    """A server of this test run's own, with a user who needs a password."""

    password = "pa ss/w#rd"
    quoted = "pa%20ss%2Fw%23rd"

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        # The server refuses to run as root.
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(folder, "nobody", "nogroup")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"postgresql://reader:{self.quoted}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        secret = self._folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        # No fsync: nothing here outlives the tests.
        self._run("initdb", "-D", "db", "-U", "reader", "--auth=scram-sha-256", "--pwfile=password", "-E", "UTF8", "-N")
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", "db", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", "db", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        # Not captured: the server would keep a pipe open.
        with (self._folder / "output").open("ab") as output:
            subprocess.run(command, cwd=self._folder, check=True, stdout=output, stderr=output, **self._user)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    pytest.importorskip("psycopg")
    places = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    binaries = next((place for place in places if (place / "pg_ctl").exists()), None)
    if binaries is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    # A socket's path must be short, and the folder another user's.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    folder.chmod(0o755)
    server = Postgres(binaries, folder)
    try:
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def peak(read: Read) -> Callable[..., int]:
    """Reads a path, and says how many bytes of Python's memory that took at most; what was found goes into ``into``."""

    def run(path: Any, limits: ReadLimits, into: list[Any]) -> int:
        tracemalloc.start()
        try:
            into += read(path, limits)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return run
