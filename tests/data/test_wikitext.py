"""WikiText-2 from a folder, and from Parquet as the hub holds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ownlm.data.wikitext import parquet_to_text, wikitext2
from ownlm.errors import DataError


def test_the_corpus_own_split_is_preferred(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"wiki.{name}.tokens").write_text(" = A = \n")
    assert [path.name for path in wikitext2(tmp_path)] == ["wiki.train.tokens", "wiki.valid.tokens"]


def test_a_copy_without_the_training_file_is_used(shared_data: Path) -> None:
    assert [path.name for path in wikitext2(shared_data / "wikitext2")] == ["wiki.valid.tokens", "wiki.test.tokens"]


def test_a_folder_without_the_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no WikiText-2"):
        wikitext2(tmp_path)


def test_parquet_rows_become_the_text_they_were(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = ["", " = Title = \n", "", " First line . \n", " 第二 ligne . \n"]
    parquet.write_table(pyarrow.table({"text": rows}), tmp_path / "rows.parquet")
    parquet_to_text(tmp_path / "rows.parquet", tmp_path / "text.raw")
    assert (tmp_path / "text.raw").read_text() == "".join(rows)
