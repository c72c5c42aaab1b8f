"""What a model says it was trained on, and whether that is still there and the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ownlm.errors import DamagedError, DataError
from ownlm.evaluate.seen.check import sources_of
from ownlm.evaluate.seen.datasets import read_training_documents
from ownlm.evaluate.seen.lineage import origins_of
from ownlm.tokens.content import content_hash


@pytest.fixture
def model(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that names one file, and a parent that names none."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(corpus / "train.jsonl", tmp_path / "train.jsonl")
    folder = tmp_path / "run" / "model"
    shutil.copytree(corpus / "base", folder)
    shutil.copytree(corpus / "base", tmp_path / "base")
    (tmp_path / "run" / "config.yaml").touch()
    write(
        folder, {"parents": ["base"], "sources": {"train.jsonl": content_hash("train.jsonl")}, "config": {"out": "run"}}
    )
    return folder


def write(folder: Path, lineage: Any) -> None:
    (folder / "ownlm.json").write_text(json.dumps({"lineage": lineage}))


def test_the_same_changed_and_gone(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = origins_of(model, "mine")
    assert [(one.name, one.model, one.path, one.state) for one in found.datasets] == [
        ("train.jsonl", "mine", Path("train.jsonl"), "same")
    ]
    assert found.silent == ["base"]
    # From elsewhere it is found where the run stands.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert origins_of(model, "mine").datasets[0].path == tmp_path / "train.jsonl"
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"text": "more"}\n')
    assert origins_of(model, "mine").datasets[0].state == "changed"
    with pytest.raises(DataError, match="is not what the model was trained on"):
        sources_of(str(model))
    (tmp_path / "train.jsonl").unlink()
    assert origins_of(model, "mine").datasets[0].state == "gone"
    with pytest.raises(DataError, match="not here any more"):
        sources_of(str(model.parent))


def test_what_parents_name_counts_as_well(model: Path, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("An old text.")
    write(tmp_path / "base", {"parents": ["nowhere", "run/model"], "sources": {"old.txt": content_hash("old.txt")}})
    found = origins_of(model, "mine")
    assert [(one.name, one.model) for one in found.datasets] == [("train.jsonl", "mine"), ("old.txt", "base")]
    assert found.silent == ["nowhere"]


def test_a_lineage_without_hashes_is_not_taken_for_granted(model: Path) -> None:
    write(model, {"config": {"out": "run", "data": {"train": ["train.jsonl"]}}})
    assert [(one.name, one.state) for one in origins_of(model, "mine").datasets] == [("train.jsonl", "unknown")]


@pytest.mark.parametrize("content", ["{", "[]", '{"lineage": 3}'])
def test_a_damaged_lineage_is_told(model: Path, content: str) -> None:
    (model / "ownlm.json").write_text(content)
    with pytest.raises(DamagedError, match="lineage is damaged"):
        origins_of(model, "mine")


def test_documents_of_files_with_their_places(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Q", "response": "A"},
        {"messages": [{"role": "user", "content": "M"}]},
        {"x": {"y": ["1st", "2nd"]}, "n": 3},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.txt").write_text("Plain.")
    found = list(read_training_documents(tmp_path))
    assert [(Path(one.place).name, one.text) for one in found] == [
        ("a.jsonl:1", "Q\n\nA"),
        ("a.jsonl:2", "M"),
        ("a.jsonl:3", "1st\n\n2nd"),
        ("b.txt:1", "Plain."),
    ]


def test_of_a_built_data_set_only_what_was_trained_on(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "documents").mkdir()
    rows = [
        {"id": name, "text": text, "file": "f.txt", "line": line, "split": split}
        for name, text, line, split in (("a", "one", 3, "train"), ("b", "two", 0, "test"), ("c", None, 5, None))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "documents" / "0.parquet")
    (tmp_path / "manifest.json").write_text("{}")
    assert [(one.id, one.place, one.text) for one in read_training_documents(tmp_path)] == [("a", "f.txt:3", "one")]
    (tmp_path / "documents" / "0.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(DamagedError, match="cannot be read"):
        list(read_training_documents(tmp_path))
    (tmp_path / "documents" / "0.parquet").unlink()
    with pytest.raises(DataError, match="has no documents"):
        list(read_training_documents(tmp_path))


def test_a_data_set_without_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match=r"no manifest\.json"):
        read_training_documents(tmp_path)
    with pytest.raises(DataError, match="no such data set"):
        sources_of(str(tmp_path / "nothing"))
