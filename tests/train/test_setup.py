"""A run's parts held against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ownlm.errors import ConfigError, ModelError, UserError
from ownlm.model.checkpoint import load_model_folder, random_model, save_model_folder
from ownlm.tokens.train_bpe import train_tokenizer
from ownlm.train.config import read_train_config
from ownlm.train.setup import set_up

SHAPE = {"family": "roberta", "layers": 2, "width": 32, "heads": 2, "vocab_size": 320, "max_positions": 32}


@pytest.fixture
def wordpiece(tmp_path: Path) -> Path:
    """A tokenizer of our own, whose padding is token 0 and whose token 1 stands in texts."""
    tokenizer = train_tokenizer(["the model reads text", "a model learns"] * 5, 300, "wordpiece")
    (tmp_path / "tokenizer").mkdir()
    tokenizer.save(tmp_path / "tokenizer")
    assert tokenizer.pad_id == 0
    return tmp_path / "tokenizer"


def config(tokenizer: Path, **changes: Any) -> Any:
    values = {"model": SHAPE, "tokenizer": str(tokenizer), "objective": {"kind": "masked"}, "data": {"train": "t.txt"}}
    return read_train_config(values | changes)


def test_a_roberta_counts_its_positions_from_its_own_tokenizers_padding(wordpiece: Path, tmp_path: Path) -> None:
    setup = set_up(config(wordpiece))
    assert (setup.shape.position_offset, setup.shape.max_positions) == (1, 32)
    model = random_model(setup.shape, 1)
    save_model_folder(model, tmp_path / "model", tokenizer=setup.tokenizer)
    assert load_model_folder(tmp_path / "model").config.position_offset == 1
    # The public class numbers a text's tokens by counting those that are no padding.
    public = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
    for ids in ([2, 1, 5, 1, 3], [2, 6, 3]):
        with torch.no_grad():
            theirs = public(torch.tensor([ids])).logits[0]
        torch.testing.assert_close(model.logits([ids])[0].float(), theirs, atol=1e-4, rtol=1e-4)


def test_another_place_to_count_from_is_refused(wordpiece: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"from 5.*asks for 1") as caught:
        set_up(config(wordpiece, model=SHAPE | {"position_offset": 5}))
    assert caught.value.where == "model.position_offset"
    with pytest.raises(ConfigError, match="no padding token of its own"):
        set_up(config(corpus / "tokenizer", objective={"kind": "classify", "labels": ["a", "b"]}))
    # A base that counts as the public ones do, with a tokenizer of ours.
    base = set_up(config(wordpiece)).shape.model_copy(update={"position_offset": 2})
    save_model_folder(random_model(base, 1), tmp_path / "base", tokenizer=set_up(config(wordpiece)).tokenizer)
    with pytest.raises(ConfigError, match="from 2") as caught:
        set_up(config(wordpiece, model=None, base=str(tmp_path / "base")))
    assert caught.value.where == "tokenizer"


@pytest.mark.parametrize("key", ["tokenizer", "base"])
def test_a_name_that_is_not_known_says_its_key(wordpiece: Path, key: str) -> None:
    named = config(Path("nope")) if key == "tokenizer" else config(wordpiece, model=None, base="nope")
    with pytest.raises(UserError, match="unknown model 'nope'") as caught:
        set_up(named)
    assert caught.value.where == key


def test_an_adapter_is_no_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="this is an adapter, not a whole model") as caught:
        set_up(read_train_config({"base": str(tmp_path), "data": {"train": "a.txt"}, "steps": 1}))
    assert caught.value.where == str(tmp_path)
