"""Exporting: what is written is the same model, or nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ownlm.errors import OwnlmError, UserError
from ownlm.model import export
from ownlm.model.checkpoint import load_model_folder
from ownlm.model.export import export_hf


def test_the_exported_folder_is_the_same_model_for_transformers(corpus: Path, tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    result = export_hf(corpus / "base", tmp_path / "out")
    assert result["path"] == str(tmp_path / "out")
    assert result["compared_with"] == ["ownlm", "transformers"]
    assert 0 <= result["max_difference"] < 1e-4
    ids = [5, 9, 100, 42]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    expected = load_model_folder(corpus / "base").logits([ids])[0]
    assert torch.allclose(theirs(torch.tensor([ids])).logits[0], expected, atol=1e-4)


def test_exporting_again_replaces_what_ownlm_wrote(corpus: Path, tmp_path: Path):
    export_hf(corpus / "base", tmp_path / "out")
    (tmp_path / "out" / "left-over").write_text("")
    export_hf(corpus / "base", tmp_path / "out")
    assert not (tmp_path / "out" / "left-over").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_other_files_are_never_replaced(corpus: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("")
    for place in ("mine", "file"):
        with pytest.raises(UserError, match="something else stands here"):
            export_hf(corpus / "base", tmp_path / place)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_a_model_is_not_exported_over_itself(corpus: Path):
    with pytest.raises(UserError, match="the model itself"):
        export_hf(corpus / "base", corpus / "base")


def test_lineage_goes_along(corpus: Path, tmp_path: Path):
    export_hf(corpus / "base", tmp_path / "out")
    before = json.loads((corpus / "base" / "ownlm.json").read_text())
    assert json.loads((tmp_path / "out" / "ownlm.json").read_text())["lineage"] == before["lineage"]


def test_a_difference_is_an_error_and_nothing_is_left(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # The writer loses precision, as a wrong conversion would.
    save = export.save_model_folder

    def save_badly(model, folder, **options):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.05)
            save(model, folder, **options)
            for parameter in model.parameters():
                parameter.div_(1.05)

    monkeypatch.setattr(export, "save_model_folder", save_badly)
    with pytest.raises(OwnlmError, match="not the same: its logits differ"):
        export_hf(corpus / "base", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
