"""Exporting: what is written is the same model, or nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ownlm.errors import OwnlmError, UserError
from ownlm.model.checkpoint import load_model_folder, random_model, save_model_folder
from ownlm.model.export import export_hf, hf
from ownlm.model.families import FAMILIES, config_from_user
from ownlm.tokens.tokenizer import Tokenizer


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


@pytest.mark.parametrize(
    ("family", "head"), [(family, head) for family, found in FAMILIES.items() for head in found.architectures]
)
def test_every_head_is_compared_with_the_public_class(
    family: str, head: str, tokenizer: Tokenizer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    shape = {"family": family, "layers": 1, "width": 32, "heads": 4, "vocab_size": 400, "max_positions": 128}
    more = {"seq2seq": {"encoder_layers": 1, "start_token": 0}, "classify": {"labels": ("a", "b", "c")}}.get(head, {})
    config = config_from_user({**shape, **more, "head": head})
    save_model_folder(random_model(config, 1), tmp_path / "model", tokenizer=tokenizer)
    result = export_hf(tmp_path / "model", tmp_path / "out")
    # The public library has no class for a Gemma's answers.
    known = not (family.startswith("gemma") and head == "span")
    assert result["compared_with"] == (["ownlm", "transformers"] if known else ["ownlm"])
    assert result["max_difference"] < 1e-4
    assert "MISSING" not in capfd.readouterr().err


def test_a_banded_gpt3_is_read_by_ourselves_alone(tokenizer: Tokenizer, tmp_path: Path) -> None:
    shape = {"family": "gpt3", "layers": 2, "width": 32, "heads": 4, "vocab_size": 400, "max_positions": 64}
    config = config_from_user({**shape, "sliding_window": 8})
    save_model_folder(random_model(config, 1), tmp_path / "model", tokenizer=tokenizer)
    assert export_hf(tmp_path / "model", tmp_path / "out")["compared_with"] == ["ownlm"]


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
    save = hf.save_model_folder

    def save_badly(model, folder, **options):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.05)
            save(model, folder, **options)
            for parameter in model.parameters():
                parameter.div_(1.05)

    monkeypatch.setattr(hf, "save_model_folder", save_badly)
    with pytest.raises(OwnlmError, match="not the same: its logits differ"):
        export_hf(corpus / "base", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
