"""From a recipe to the documents table: accounts that add up whatever the corpus, and results that depend on it alone."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ownlm.data import pipeline
from ownlm.data.recipe import Recipe
from ownlm.errors import DataError
from ownlm.tokens.build import STAGES, build_dataset

WORDS = [
    a + b
    for a in ["bridge", "river", "stone", "letter", "garden", "window"]
    for b in ["ing", "er", "ly", "ness", "ful", "dom"]
]
ALPHABETS = [WORDS, ["سلام", "كتاب", "بيت", "نهر"], list("的一是不了人我在有他"), ["naïve", "façade", "😀", "e\u0301"]]


def prose(draw: random.Random, count: int) -> str:
    words = draw.choice(ALPHABETS)
    return " ".join(draw.choice(words) for _ in range(count))


def small_corpus(folder: Path, seed: int) -> list[tuple[Path, bytes]]:
    """Files of every small kind, some of them copies, cut, empty or broken."""
    draw = random.Random(seed)
    files: list[tuple[Path, bytes]] = []
    texts = [prose(draw, draw.choice([0, 1, 30, 200])) + draw.choice(["", f" me{n}@some-firm.com"]) for n in range(30)]
    for number, text in enumerate(texts):
        name = folder / draw.choice("ab") / f"{number:02}{draw.choice(['.txt', '.md', '.rst', '.html', ''])}"
        files.append((name, draw.choice([text, f"<html><p>{text}</p></html>"]).encode()))
        if draw.random() < 0.2:
            files.append((folder / "a" / f"copy-{number}.txt", draw.choice(texts[: number + 1]).encode() + b"\n"))
    rows: list[Any] = [{"text": prose(draw, 50), "owner": f"o{n % 7}"} for n in range(40)]
    rows += [{"messages": [{"role": r, "content": prose(draw, 9)} for r in ("user", "assistant")]} for _ in range(20)]
    rows += [{}, [], 5, {"text": ""}, {"messages": [{"role": "nobody", "content": "x"}]}]
    draw.shuffle(rows)
    files.append((folder / "b" / "rows.jsonl", "\n".join(map(json.dumps, rows)).encode() + b'\n{"text": "cut'))
    files.append((folder / "b" / "noise.bin", draw.randbytes(300)))
    return files


def write(files: list[tuple[Path, bytes]]) -> None:
    for path, content in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def build(
    out: Path, sources: list[dict[str, Any]], *, workers: int = 1, strict: bool = False, **changes: Any
) -> dict[str, Any]:
    recipe: dict[str, Any] = {
        "sources": sources,
        "filters": {"preset": "none", "drop": {"few": "words < 3"}},
        "duplicates": {"near": 0.8, "paragraphs": {"min_words": 20}},
        "split": {"validation": 0.2, "test": 0.2},
    }
    return build_dataset(Recipe.model_validate(recipe | changes), out, workers=workers, strict=strict)


def two_sources(folder: Path) -> list[dict[str, Any]]:
    return [{"name": name, "path": str(folder / name), "columns": {"group": "owner"}} for name in ("a", "b")]


def tables(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "documents").glob("*.parquet"))}


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 10))])
def test_random_corpora_add_up_and_give_the_same_bytes_on_every_path(
    seed: int, tmp_path: Path, accounts: Callable[[Path], Any]
) -> None:
    files = small_corpus(tmp_path / "in", seed)
    write(files)
    build(tmp_path / "out", two_sources(tmp_path / "in"))
    built = accounts(tmp_path / "out")
    groups: dict[str, set[str]] = {}
    for row in built.rows:
        if row["group"] is not None and row["split"] is not None:
            groups.setdefault(row["group"], set()).add(row["split"])
    assert len(groups) == 7 and all(len(splits) == 1 for splits in groups.values())
    assert not any("@some-firm" in (row["text"] or "") for row in built.rows)
    # Files made in another order, at another place, by another number of workers.
    random.Random(seed).shuffle(files)
    write([(tmp_path / "moved" / path.relative_to(tmp_path / "in"), content) for path, content in files])
    build(tmp_path / "other", two_sources(tmp_path / "moved"), workers=3)
    assert tables(tmp_path / "other") == tables(tmp_path / "out")
    # Sources in another order give the same fates in another order.
    build(tmp_path / "turned", two_sources(tmp_path / "in")[::-1], workers=2)
    turned = accounts(tmp_path / "turned")
    assert sorted(map(repr, turned.rows)) == sorted(map(repr, built.rows))
    assert turned.manifest["documents"] == built.manifest["documents"]


def test_a_source_without_documents_comes_first_and_disturbs_nothing(
    tmp_path: Path, accounts: Callable[[Path], Any]
) -> None:
    write([(tmp_path / "a" / f"{n}.txt", b"") for n in range(3)])
    # A name need not be UTF-8.
    write([(tmp_path / "b" / "one\udcff.txt", b"a document of six words here")])
    build(tmp_path / "out", two_sources(tmp_path))
    built = accounts(tmp_path / "out")
    assert built.manifest["sources"]["a"]["documents"] == {"read": 3, "kept": 0, "dropped": {"unreadable/empty": 3}}
    assert [row["file"] for row in built.rows] == ["one\\xff.txt"]
    # The folder holds tables alone, of one schema, as every reader of Parquet expects.
    schemas = {str(pq.read_schema(path)) for path in (tmp_path / "out" / "documents").iterdir()}
    assert len(schemas) == 1


def test_half_a_character_beside_a_text_is_a_failure_of_that_record_alone(
    tmp_path: Path, accounts: Callable[[Path], Any]
) -> None:
    fine = "a document of six words here"
    rows: list[Any] = [{"text": fine, "where": "x\ud800"}, {"text": f"{fine} too", "owner": "\udfff"}]
    rows += [
        {"messages": [{"role": "user", "name": "\ud800", "content": "hello"}, {"role": "assistant", "content": fine}]}
    ]
    write([(tmp_path / "a.jsonl", "\n".join(map(json.dumps, [*rows, {"text": fine}])).encode())])
    source = {"name": "a", "path": str(tmp_path / "a.jsonl"), "columns": {"group": "owner", "metadata": ["where"]}}
    build(tmp_path / "out", [source])
    built = accounts(tmp_path / "out")
    assert [(f["line"], f["reason"]) for f in built.failures] == [(n, "not-utf8") for n in (1, 2, 3)]
    assert [row["line"] for row in built.rows] == [4]


def test_a_file_that_vanishes_is_named_and_is_read_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accounts: Callable[[Path], Any]
) -> None:
    write([(tmp_path / "in" / f"{n}.txt", f"document {n} of six words".encode()) for n in range(3)])
    source = [{"name": "a", "path": str(tmp_path / "in")}]
    run = pipeline._run_shards

    def vanish(*arguments: Any) -> None:
        (tmp_path / "in" / "1.txt").rename(tmp_path / "away")
        run(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_run_shards", vanish)
        build(tmp_path / "out", source)
    built = accounts(tmp_path / "out")
    assert [(f["file"], f["reason"]) for f in built.failures] == [("1.txt", "unreadable")]
    assert [row["file"] for row in built.rows] == ["0.txt", "2.txt"]
    (tmp_path / "away").rename(tmp_path / "in" / "1.txt")
    build(tmp_path / "out", source)
    assert not accounts(tmp_path / "out").failures
    assert len(accounts(tmp_path / "out").rows) == 3


@pytest.mark.parametrize("when", ["_not_written", "_run_shards"])
def test_strictly_a_file_that_vanishes_stops_the_build(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accounts: Callable[[Path], Any]
) -> None:
    # It is gone once it was listed, or once its content was looked at.
    write([(tmp_path / "in" / f"{n}.txt", f"document {n} of six words".encode()) for n in range(3)])
    source = [{"name": "a", "path": str(tmp_path / "in")}]
    go_on = getattr(pipeline, when)

    def vanish(*arguments: Any) -> Any:
        (tmp_path / "in" / "1.txt").rename(tmp_path / "away")
        return go_on(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, when, vanish)
        with pytest.raises(DataError, match="cannot be read: no such file") as raised:
            build(tmp_path / "out", source, strict=True)
    assert raised.value.where == "1.txt" and raised.value.hint == "leave out --strict to go on without it"
    assert not (tmp_path / "out" / "manifest.json").exists()
    (tmp_path / "away").rename(tmp_path / "in" / "1.txt")
    build(tmp_path / "out", source, strict=True)
    assert len(accounts(tmp_path / "out").rows) == 3


@pytest.mark.parametrize("out", ["in/out", "in"])
def test_a_build_does_not_read_what_the_last_one_wrote_and_does_without_its_results(
    out: str, tmp_path: Path, accounts: Callable[[Path], Any]
) -> None:
    write([(tmp_path / "in" / f"{n}.txt", f"document {n} of six words".encode()) for n in range(2)])
    for _ in range(2):
        build(tmp_path / out, [{"name": "a", "path": str(tmp_path / "in")}])
        assert len(accounts(tmp_path / out).rows) == 2 and not accounts(tmp_path / out).failures
        shutil.rmtree(tmp_path / out / STAGES)


def test_nothing_to_read_is_one_sentence(tmp_path: Path) -> None:
    write([(tmp_path / "in" / "a.txt", b"")])
    with pytest.raises(DataError, match="no document could be read: it has no bytes") as raised:
        build(tmp_path / "out", [{"name": "letters", "path": str(tmp_path / "in")}])
    assert raised.value.where == "letters: a.txt"
    with pytest.raises(DataError, match="no document is left: 1 filter/few"):
        write([(tmp_path / "in" / "b.txt", b"one two")])
        build(tmp_path / "out", [{"name": "letters", "path": str(tmp_path / "in" / "b.txt")}])
    assert not (tmp_path / "out" / "manifest.json").exists()
