"""Reading fingerprints in place."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ownlm.data.duplicates import DuplicateOptions, fingerprint, index
from ownlm.data.duplicates.index import Fingerprints
from ownlm.errors import DamagedError

OPTIONS = DuplicateOptions()
TEXTS = [" ".join(f"w{i * j % 31}" for i in range(j % 23)) for j in range(70)]


def test_any_documents_of_many_files(write_shards: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_OPEN", 2)
    whole = fingerprint(pa.array(TEXTS, pa.large_string()), OPTIONS)
    fingerprints = Fingerprints(write_shards(tmp_path, TEXTS, OPTIONS, 9), OPTIONS)
    assert len(fingerprints) == 70
    for name in ("exact", "set"):
        assert fingerprints.hashes(name).tobytes() == b"".join(whole.column(name).to_pylist())
    assert fingerprints.sizes().tolist() == [len(one) for one in whole.column("shingles").to_pylist()]
    for documents in (np.arange(70), np.array([3, 8, 9, 40, 69]), np.zeros(0, np.int64)):
        assert fingerprints.signatures(documents).tolist() == whole.column("signature").take(documents).to_pylist()
        hashes, offsets = fingerprints.shingles(documents)
        found = [hashes[a:b].tolist() for a, b in itertools.pairwise(offsets)]
        assert found == whole.column("shingles").take(documents).to_pylist()
    bands = np.stack([fingerprints.band(number, np.arange(70)) for number in range(25)], axis=1)
    signatures = np.array(whole.column("signature").to_pylist(), np.uint32)[:, :125].reshape(70, 25, 5)
    same = (signatures[:, None] == signatures[None]).all(axis=3)
    assert np.array_equal(bands[:, None] == bands[None], same)


def test_no_documents(write_shards: Any, tmp_path: Path) -> None:
    assert len(Fingerprints([], OPTIONS)) == 0
    assert Fingerprints([], OPTIONS).sizes().tolist() == []
    fingerprints = Fingerprints(write_shards(tmp_path, [""], OPTIONS), OPTIONS)
    assert fingerprints.sizes().tolist() == [0]


def test_damaged_and_foreign_files(write_shards: Any, tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path, TEXTS[:3], OPTIONS)
    with pytest.raises(DamagedError, match="other options"):
        Fingerprints([path], DuplicateOptions(near=None))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DamagedError, match="cannot be read"):
        Fingerprints([path], OPTIONS)
    with pytest.raises(DamagedError, match="cannot be read"):
        Fingerprints([tmp_path / "missing.arrow"], OPTIONS)
