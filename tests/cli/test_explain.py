"""``ownlm explain``: its JSON, its page, and what it says where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ownlm.model.checkpoint import load_model_folder, read_config, save_model_folder
from ownlm.tokens.tokenizer import load_tokenizer

TEXT = "The model reads what it writes."


@pytest.fixture
def folder(encoder: Path, tmp_path: Path) -> Callable[..., Path]:
    """The tiny encoder with another head."""

    def make(head: str, **changes: Any) -> Path:
        config = read_config(encoder).model_copy(update={"head": head, **changes})
        path = tmp_path / head
        save_model_folder(load_model_folder(encoder, config=config, seed=3), path, tokenizer=load_tokenizer(encoder))
        return path

    return make


def test_a_causal_model(ownlm: Callable[..., Any], corpus: Path, tmp_path: Path) -> None:
    done = ownlm("explain", corpus / "base", "--text", TEXT, "--html", tmp_path / "page.html", "--top", "3", "--json")
    assert done.code == 0
    value = done.object
    assert {"model", "tokens", "surprisal", "top", "next", "layers", "heads", "report"} <= set(value)
    assert "".join(value["tokens"]) == TEXT
    assert len(value["tokens"]) == len(value["surprisal"]) == len(value["top"])
    assert value["surprisal"][0] is None and all(bits > 0 for bits in value["surprisal"][1:])
    assert [len(top) for top in value["top"]] == [0] + [3] * (len(value["tokens"]) - 1)
    assert set(value["next"][0]) == {"text", "id", "probability"}
    assert value["report"] == str(tmp_path / "page.html")
    assert "The prediction after each layer" in Path(value["report"]).read_text()


def test_people_read_the_surprise_and_where_the_page_is(
    ownlm: Callable[..., Any], folder: Callable[..., Path], tmp_path: Path
) -> None:
    done = ownlm("explain", folder("masked"), "--text", TEXT)
    assert done.code == 0 and done.out == ""
    assert "bits a token" in done.err and "Page: explanation.html" in done.err
    assert (tmp_path / "explanation.html").is_file()


def test_a_model_of_classes(ownlm: Callable[..., Any], folder: Callable[..., Path]) -> None:
    done = ownlm("explain", folder("classify", labels=("bad", "good")), "--text", TEXT, "--json")
    assert done.code == 0 and set(done.object["classes"]) == {"bad", "good"}
    assert set(done.object["surprisal"]) == {None} and done.object["next"] == []


def test_mistakes_are_named(ownlm: Callable[..., Any], corpus: Path, encoder: Path, tmp_path: Path) -> None:
    done = ownlm("explain", encoder, "--text", TEXT, "--json")
    assert done.code == 2 and "there is nothing to explain here" in done.object["error"]["message"]
    done = ownlm("explain", corpus / "base", "--text", " ", "--json")
    assert done.code == 2 and "is empty" in done.object["error"]["message"]
    done = ownlm("explain", corpus / "base", "--text", "word " * 300, "--json")
    assert done.code == 2 and "tokens" in done.object["error"]["message"]
    done = ownlm("explain", corpus / "base", "--json")
    assert done.code == 2 and "--text" in done.object["error"]["message"]
    done = ownlm("explain", corpus / "base", "--text", TEXT, "--html", tmp_path, "--json")
    assert done.code == 1 and done.object["error"]["type"] == "storage"
