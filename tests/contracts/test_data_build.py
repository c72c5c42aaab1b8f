"""What a build of a data set promises: the same bytes whatever interrupts it, every document accounted for, no copy
across splits, nothing read twice."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ownlm.data.recipe import Recipe
from ownlm.tokens.build import STAGES, build_dataset
from ownlm.tokens.dataset import read_dataset
from ownlm.tokens.shards import TokenDataset

SECRET_MAIL = "jane.doe@widgets-of-ohio.com"


def paragraphs(draw: random.Random, count: int, words: list[str]) -> str:
    """Prose of a kind: sentences of drawn words, some to a paragraph."""

    def sentence() -> str:
        return " ".join(draw.choices(words, k=draw.randint(6, 16))).capitalize() + "."

    return "\n\n".join(" ".join(sentence() for _ in range(4)) for _ in range(count))


def changed(text: str, draw: random.Random, share: float, words: list[str]) -> str:
    """The text with some words replaced."""
    return " ".join(draw.choice(words) if draw.random() < share else word for word in text.split(" "))


@pytest.fixture(scope="session")
def messy(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """A folder of all sorts: texts, copies, near-copies, pages, tables, archives, and files that cannot be read."""
    folder = tmp_path_factory.mktemp("messy")
    draw = random.Random(0)
    peps = [path.read_text() for path in sorted((shared_data / "peps").glob("*.rst"))[40:130]]
    words = sorted({word for text in peps for word in text.split() if word.isalpha()})
    for number, text in enumerate(peps[:50]):
        (folder / f"pep-{number:03}.rst").write_text(text)
    for number in range(0, 50, 5):
        (folder / f"copy-{number:03}.txt").write_text(peps[number] + "\n\n")
        (folder / f"near-{number:03}.txt").write_text(changed(peps[number], draw, 0.01, words))
    with (folder / "records.jsonl").open("wb") as file:
        for text in peps[50:80]:
            file.write(json.dumps({"text": text}).encode() + b"\n")
        file.write(b'{"text": "never closed\n')
        file.write(b'{"text": "bad \xff byte"}\n')
        file.write(
            json.dumps({"text": f"Write to {SECRET_MAIL} for more. " + paragraphs(draw, 2, words)}).encode() + b"\n"
        )
    (folder / "page.html").write_text(
        "<html><head><title>A page</title></head><body><nav>Home About</nav><article><h1>A page</h1>"
        + "".join(f"<p>{part}</p>" for part in paragraphs(draw, 6, words).split("\n\n"))
        + "</article></body></html>"
    )
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        for number, text in enumerate(peps[80:]):
            archive.writestr(f"inner/{number}.txt", text)
        archive.writestr("../outside.txt", "this must not be written anywhere")
    (folder / "cut.txt.gz").write_bytes(gzip.compress(peps[0].encode())[:900])
    (folder / "empty.txt").write_bytes(b"")
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 40)
    (folder / "short.md").write_text("Too short to keep.")
    return folder


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "sources": [{"name": "messy", "path": str(folder)}],
        "filters": {"preset": "none", "drop": {"too_short": "words < 20"}},
        "split": {"validation": 0.1, "test": 0.1},
        "tokenizer": {"kind": "bpe", "vocab_size": 600},
    } | changes


def build(folder: Path, out: Path, workers: int = 2, **changes: Any) -> dict[str, Any]:
    return build_dataset(Recipe.model_validate(recipe(folder, **changes)), out, workers=workers)


def digest(out: Path) -> dict[str, str]:
    """Every file of the built data set by its content; results of stages are not part of it."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    relative = ((path, path.relative_to(out)) for path in files)
    return {
        str(name): hashlib.sha256(path.read_bytes()).hexdigest()
        for path, name in relative
        if not any(part.startswith(".") for part in name.parts)
    }


@pytest.fixture(scope="session")
def built(messy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("built") / "out"
    return out, build(messy, out)


def rows(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((out / "documents").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_every_document_and_every_token_is_accounted_for(built: tuple[Path, dict[str, Any]]) -> None:
    out, manifest = built
    documents = manifest["documents"]
    assert documents["read"] == documents["kept"] + sum(documents["dropped"].values())
    table = rows(out)
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().split("\n") if line]
    assert len(table) + len(failures) == documents["read"]
    kept = [row for row in table if row["reason"] is None]
    assert len(kept) == documents["kept"] == sum(split["documents"] for split in manifest["splits"].values())
    assert all((row["text"] is None) == (row["split"] is None) == (row["reason"] is not None) for row in table)
    for split, parts in read_dataset(out).splits.items():
        datasets = [TokenDataset(part.folder) for part in parts]
        assert sum(dataset.total_tokens for dataset in datasets) == manifest["splits"][split]["tokens"]
        assert sum(map(len, datasets)) == manifest["splits"][split]["documents"]
    assert documents["dropped"]["filter/too_short"] == 1
    # Ten files have an exact copy and a near one; of the three the longest is kept.
    assert documents["dropped"]["duplicate/exact"] + documents["dropped"]["duplicate/near"] >= 18
    reasons = {(failure["file"], failure["reason"]) for failure in failures}
    assert ("empty.txt", "empty") in reasons
    assert ("more.zip!../outside.txt", "unsafe-path") in reasons
    assert any(name == "cut.txt.gz" and reason == "truncated" for name, reason in reasons)
    assert sum(failure["file"] == "records.jsonl" for failure in failures) == 2


def test_personal_data_is_masked_in_what_is_kept_and_in_the_report(built: tuple[Path, dict[str, Any]]) -> None:
    out, manifest = built
    assert manifest["pii"]["email"] >= 1
    for name in digest(out):
        assert SECRET_MAIL.encode() not in (out / name).read_bytes()
    assert any("[EMAIL]" in (row["text"] or "") for row in rows(out))


@pytest.mark.parametrize("policy", ["mask", "replace", "drop"])
def test_personal_data_is_hidden_in_all_that_is_carried_along(policy: str, tmp_path: Path) -> None:
    draw = random.Random(5)
    words = ["bridge", "river", "stone", "letter", "garden", "window", "paper", "street"]
    mail, iban = "joe.bloggs@corp-of-maine.com", "GB29NWBK60161331926819"
    arguments = json.dumps({"to": mail, "account": iban})
    call = {"id": "c1", "type": "function", "function": {"name": "pay", "arguments": arguments}}
    fields = {"title": f"Mail of {mail}", "url": f"https://x.org/?u={mail}", "customer": mail, "from": {"mail": mail}}
    with (tmp_path / "rows.jsonl").open("w") as file:
        for number in range(12):
            said = paragraphs(draw, 2, words)
            chat = [
                {"role": "user", "content": said, "name": mail},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": "Done.", "tool_call_id": "c1"},
                {"role": "assistant", "content": paragraphs(draw, 2, words)},
            ]
            personal = fields if number % 3 else {"title": f"Letter {number}"}
            file.write(json.dumps(personal | ({"messages": chat} if number % 3 == 2 else {"text": said})) + "\n")
        # Dropped for another reason, it stays in the table with all but its text.
        file.write(json.dumps(fields | {"text": "Too short."}) + "\n")
    columns = {"group": "customer", "metadata": ["from"]}
    source = {"name": "rows", "path": str(tmp_path / "rows.jsonl"), "columns": columns}
    changes = {"sources": [source], "personal_data": {"policy": {"all": policy}}, "duplicates": {"near": None}}
    manifest = build(tmp_path, tmp_path / "out", workers=1, split={"validation": 0, "test": 0}, **changes)
    dropped = manifest["documents"]["dropped"]
    assert dropped["filter/too_short"] == 1
    # Addresses come first, so for these all others are dropped.
    assert dropped.get("personal-data/email", 0) == (8 if policy == "drop" else 0)
    assert manifest["personal_data"]["email"]["found"] == 4 * 9 + 2 * 4
    table = rows(tmp_path / "out")
    assert table[0]["title"] == "Letter 0"
    hidden = {"mask": "[EMAIL]", "replace": "email1@example.com", "drop": "[EMAIL]"}[policy]
    assert {row["group"] for row in table} == {hidden, None}
    for written in (json.dumps(table), *(path.read_text() for path in (tmp_path / "out").glob("*.[hjm]*"))):
        assert not any(secret in written for secret in (mail, iban, "bloggs"))
    chats = [json.loads(row["messages"]) for row in table if row["messages"]]
    assert len(chats) == (0 if policy == "drop" else 4)
    for chat in chats:
        assert chat[0]["name"] == hidden and chat[1]["tool_calls"][0]["id"] == chat[2]["tool_call_id"] == "c1"
        assert json.loads(chat[1]["tool_calls"][0]["function"]["arguments"])["to"] == hidden


def shingles(text: str, n: int = 5) -> set[tuple[str, ...]]:
    words = "".join(c.lower() if c.isascii() and c.isalnum() else " " for c in text).split()
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))}


def test_no_near_duplicate_crosses_from_one_split_to_another(built: tuple[Path, dict[str, Any]], messy: Path) -> None:
    kept = [(row["split"], shingles(row["text"])) for row in rows(built[0]) if row["reason"] is None]
    pairs = 0
    for number, (split, first) in enumerate(kept):
        for other_split, second in kept[:number]:
            if split != other_split:
                pairs += 1
                assert len(first & second) < 0.8 * len(first | second)
    assert pairs > 100


def test_the_number_of_workers_and_where_the_files_lie_change_nothing(
    built: tuple[Path, dict[str, Any]], messy: Path, tmp_path: Path
) -> None:
    build(messy, tmp_path / "one", workers=1)
    assert without_paths(tmp_path / "one") == without_paths(built[0])


def without_paths(out: Path) -> dict[str, str]:
    """As ``digest``, without the pages that name the folder they stand in."""
    return {name: content for name, content in digest(out).items() if name != "report.html"}


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_killed_anywhere_the_same_command_ends_with_the_same_bytes(
    built: tuple[Path, dict[str, Any]], messy: Path, tmp_path: Path, kind: str
) -> None:
    path, out, whole = tmp_path / "recipe.json", tmp_path / "out", built[0]
    tokenizer = {"kind": kind, "vocab_size": 600}
    path.with_suffix(".yaml").write_text(json.dumps(recipe(messy, tokenizer=tokenizer)))
    if kind != "bpe":
        # The documents are there, so that death comes while the tokenizer is trained, and behind it.
        whole = tmp_path / "whole"
        shutil.copytree(built[0], whole)
        shutil.copytree(built[0], out)
        build(messy, whole, tokenizer=tokenizer)
    command = [sys.executable, "-m", "ownlm", "data", "build", str(path.with_suffix(".yaml")), "--out", str(out)]
    draw = random.Random(1)
    killed = 0
    while True:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        try:
            # Each life is longer than the last by a share, so that death comes in every stage on slow and fast machines.
            _, errors = process.communicate(timeout=0.3 * 1.3**killed * draw.uniform(0.9, 1.1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
            assert not (out / "manifest.json").exists() or complete(out)
            continue
        assert process.returncode == 0, errors.decode()
        break
    assert killed >= 3
    assert without_paths(out) == without_paths(whole)


def complete(out: Path) -> bool:
    """Whether all that the manifest speaks of is there."""
    manifest = json.loads((out / "manifest.json").read_text())
    dataset = read_dataset(out)
    return all(
        sum(TokenDataset(part.folder).total_tokens for part in dataset.splits[split]) == counts["tokens"]
        for split, counts in manifest["splits"].items()
    )


def stamps(out: Path, stage: str) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / STAGES / stage).iterdir()}


def test_a_threshold_reads_no_text_again_and_a_new_file_costs_only_itself(messy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(messy, out)
    before = {stage: stamps(out, stage) for stage in ("text", "signals", "personal", "fingerprints")}
    drop = {"too_short": "words < 20", "too_long": "words > 3000"}
    manifest = build(messy, out, filters={"preset": "none", "drop": drop}, duplicates={"near": 0.9})
    assert manifest["documents"]["dropped"]["filter/too_long"] > 0
    assert {stage: stamps(out, stage) for stage in before} == before
    new = messy / "zzz-new.txt"
    new.write_text("A new file. " * 60)
    try:
        more = build(messy, out)
    finally:
        new.unlink()
    assert more["documents"]["read"] == manifest["documents"]["read"] + 1
    after = stamps(out, "text")
    assert len(set(after) - set(before["text"])) == 1
    assert all(after[name] == stamp for name, stamp in before["text"].items())


def test_a_damaged_result_of_a_stage_is_made_again(
    built: tuple[Path, dict[str, Any]], messy: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build(messy, out)
    for stage in ("signals", "finished", "tokens"):
        for path in sorted((out / STAGES / stage).rglob("*"))[:4]:
            if path.is_file() and path.suffix in (".parquet", ".bin"):
                content = bytearray(path.read_bytes())
                content[len(content) // 2] ^= 0xFF
                path.unlink()
                path.write_bytes(content)
    build(messy, out)
    assert without_paths(out) == without_paths(built[0])


def test_strict_stops_at_the_first_entry_that_cannot_be_read(messy: Path, tmp_path: Path) -> None:
    from ownlm.errors import DataError

    with pytest.raises(DataError, match=r".") as raised:
        build_dataset(Recipe.model_validate(recipe(messy)), tmp_path / "out", workers=2, strict=True)
    assert raised.value.where and raised.value.hint and "--strict" in raised.value.hint
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_two_builds_do_not_work_in_one_folder(messy: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe(messy)))
    command = [sys.executable, "-m", "ownlm", "data", "build", str(path), "--out", str(tmp_path / "out")]
    first = subprocess.Popen(command, stderr=subprocess.PIPE)
    while not (tmp_path / "out" / ".lock").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    first.communicate()
    assert first.returncode == 0
    assert second.returncode == 1 and "another build works in this folder" in second.stderr
