"""What is kept of fetched rows: between builds, when asking again fails, and when a build is killed in between."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ownlm.data.pipeline import FETCHED, prepare_documents
from ownlm.data.recipe import Recipe
from ownlm.data.sources import SourceOptions, fetch_source
from ownlm.data.store import Store
from ownlm.errors import DataError

pytest.importorskip("sqlalchemy")

QUERY = "SELECT body AS text FROM texts"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'row ' || i AS text FROM n"


def database(path: Path, text: str) -> str:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE texts (body text)")
        connection.execute("INSERT INTO texts VALUES (?)", [text])
    connection.close()
    return f"sqlite:///{path}"


def rows(source: SourceOptions) -> str:
    return (Path(str(source.path)) / "rows.jsonl").read_text()


def test_asking_again_in_vain_loses_nothing(tmp_path: Path) -> None:
    source = SourceOptions(name="shop", sql=database(tmp_path / "shop.db", "old"), query=QUERY)
    first = fetch_source(source, tmp_path / "out")
    (tmp_path / "shop.db").rename(tmp_path / "away.db")
    with pytest.raises(DataError, match="no such database file"):
        fetch_source(source, tmp_path / "out", refresh=True)
    # Rows may also stop coming in the middle.
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute(
            "CREATE VIEW texts AS SELECT CASE i WHEN 1 THEN 'new' ELSE abs(-9223372036854775808) END"
            " AS body FROM (SELECT 1 AS i UNION ALL SELECT 2)"
        )
    connection.close()
    with pytest.raises(DataError, match="the query fails: integer overflow"):
        fetch_source(source, tmp_path / "out", refresh=True)
    assert "old" in rows(first)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [Path(str(first.path)).name]


def test_another_database_in_the_same_variable_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SourceOptions(name="shop", sql="$SHOP", query=QUERY)
    found = []
    for name in ("one", "two", "one"):
        url = f"sqlite:///{tmp_path / name}.db" if (tmp_path / f"{name}.db").exists() else ""
        monkeypatch.setenv("SHOP", url or database(tmp_path / f"{name}.db", name))
        found.append(fetch_source(source, tmp_path / "out"))
    assert ["one" in rows(fetched) for fetched in found] == [True, False, True]
    assert found[0] == found[2] != found[1]
    # Written out it is the same database.
    assert (
        fetch_source(
            source.model_copy(
                update={"sql": SourceOptions(name="x", sql=f"sqlite:///{tmp_path / 'one'}.db", query="x").sql}
            ),
            tmp_path / "out",
        )
        == found[0]
    )
    monkeypatch.delenv("SHOP")
    with pytest.raises(DataError, match="no variable SHOP"):
        fetch_source(source, tmp_path / "out")


def test_what_a_killed_build_had_fetched_is_removed_by_the_next(tmp_path: Path) -> None:
    url = database(tmp_path / "shop.db", "All of it. " * 20)
    fetched = tmp_path / "out" / FETCHED
    program = (
        "import sys; from pathlib import Path; from ownlm.data.sources import SourceOptions, fetch_source\n"
        "fetch_source(SourceOptions(name='shop', sql=sys.argv[1], query=sys.argv[2]), Path(sys.argv[3]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, url, ENDLESS, str(fetched)])
    try:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in fetched.rglob("rows.jsonl")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    [left] = fetched.iterdir()
    assert ".partial-" in left.name
    recipe = Recipe.model_validate(
        {"sources": [{"name": "shop", "sql": url, "query": QUERY}], "filters": {"preset": "none"}}
    )
    documents = prepare_documents(recipe, Store(tmp_path / "out" / ".stages"), workers=1)
    assert sum(documents.summary["kept"].values()) == 1
    assert [path.name.split("-")[0] for path in fetched.iterdir()] == ["shop"]
