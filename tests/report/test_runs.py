"""Runs side by side, from folders as runs write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ownlm.errors import UserError
from ownlm.report.runs import compare_runs, comparison_report, settings_rows, table_rows


def make_run(folder: Path, lr: float, losses: list[float], **summary: Any) -> Path:
    folder.mkdir(parents=True)
    config = {"out": str(folder), "optimizer": {"lr": lr, "clip": 1.0}, "seed": 0}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [{"step": n + 1, "loss": loss, "tokens_per_second": 10.0 + n} for n, loss in enumerate(losses)]
    rows += [{"step": 0, "val_loss": 0.1}, {"step": len(losses), "val_loss": losses[-1] + 0.5}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if summary:
        (folder / "run.json").write_text(json.dumps(summary))
    return folder


SUMMARY = {"steps": 3, "loss": 1.0, "val_loss": 1.25, "tokens_per_second": 11.0, "peak_memory_bytes": 2_000_000}


def test_only_the_settings_that_differ_are_told(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / "a", 1e-3, [3, 2, 1], **SUMMARY), make_run(tmp_path / "b", 2e-3, [3, 2])]
    first, second = compare_runs(folders)
    assert first == {"run": str(folders[0]), **SUMMARY, "differs": {"optimizer.lr": 1e-3}}
    # One that has not ended, from its metrics; the validation before training is not its result.
    assert second["steps"] == 2 and second["val_loss"] == 2.5 and second["peak_memory_bytes"] is None
    assert second["differs"] == {"optimizer.lr": 2e-3}
    assert table_rows([first, second])[1][1:] == ["0.001", "3", "1.00", "1.25", "11.0", "2 MB"]


def test_many_settings_go_below_one_another(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, 1e-3, [3, 2, 1], **SUMMARY) for name in ("a", "b")]
    config = {"out": "x", "optimizer": {"lr": 1e-2, "clip": 2.0}, "seed": 1}
    (folders[1] / "config.yaml").write_text(yaml.safe_dump(config))
    rows = settings_rows(compare_runs(folders))
    assert rows[0] == ["setting", *map(str, folders)]
    assert sorted(rows[1:]) == [["optimizer.clip", "1", "2"], ["optimizer.lr", "0.001", "0.01"], ["seed", "0", "1"]]
    assert ">setting<" not in comparison_report(folders).html()
    more = {"data": {f"key{n}": ["a", "b"] for n in range(7)}}
    (folders[1] / "config.yaml").write_text(yaml.safe_dump(config | more))
    page = comparison_report(folders).html()
    assert page.index("held-out loss") < page.index(">setting<") < page.index("data.key0") and ">a, b<" in page


def test_the_page_has_a_table_and_both_curves(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, lr, [3, 2, 1], **SUMMARY) for name, lr in (("a", 1e-3), ("b", 2e-3))]
    page = comparison_report(folders, best="val_loss").html()
    assert "The best is a, with the lowest val_loss." in page and "optimizer.lr" in page
    assert page.count("<svg") == 2 and "a: 3 at step 1, 1 at step 3, lowest 1 at step 3. b: 3 at step 1" in page


def test_runs_of_one_name_go_by_the_folders_that_tell_them_apart(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / parent / "run", 1e-3, [3, 2]) for parent in ("x", "y")]
    page = comparison_report(folders).html()
    assert "x/run: 3 at step 1" in page and "y/run: 3 at step 1" in page


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run"):
        compare_runs([tmp_path])
