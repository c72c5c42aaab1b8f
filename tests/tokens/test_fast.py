"""The fast library is used where it gives the ids of tokenizers, and nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from ownlm.tokens import fast, trial
from ownlm.tokens.fast import FastEncoder, trusted_encoder
from ownlm.tokens.tokenizer import Tokenizer

gigatoken = pytest.importorskip("gigatoken")


def changed(backend: tokenizers.Tokenizer, **parts: Any) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(json.dumps(json.loads(backend.to_str()) | parts))


def with_tokens(backend: tokenizers.Tokenizer, *texts: str, **options: Any) -> tokenizers.Tokenizer:
    copy = tokenizers.Tokenizer.from_str(backend.to_str())
    copy.add_tokens([tokenizers.AddedToken(text, **options) for text in texts])
    return copy


def verdicts(cache: Path) -> list[bool]:
    return [json.loads(file.read_text())["equal"] for file in sorted(cache.glob("*.json"))]


def test_equal_ids_on_real_text(gpt2: Tokenizer, shared_data: Path, tmp_path: Path) -> None:
    files = [
        *sorted((shared_data / "peps").glob("*.rst"))[::12],
        *sorted((shared_data / "dirty_web").rglob("*.html"))[:20],
    ]
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    encoder = trusted_encoder(gpt2.backend, tmp_path)
    assert encoder is not None
    ids, offsets = encoder.encode(texts)
    expected = gpt2.encode_many(texts)
    assert ids.tolist() == [token for row in expected for token in row]
    assert np.diff(offsets).tolist() == [len(row) for row in expected]


def test_it_is_tried_once_and_remembered(bpe: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(trial, "trial_texts", lambda backend: tried.append("once") or ["a few", "words"])
    for _ in range(2):
        assert trusted_encoder(bpe.backend, tmp_path) is not None
    assert (len(tried), verdicts(tmp_path)) == (1, [True])
    (file,) = tmp_path.glob("*.json")
    noted = json.loads(file.read_text())["conditions"]
    assert {noted["gigatoken"], noted["tokenizers"]} == {fast._version("gigatoken"), tokenizers.__version__}
    # Another version of either is another library; a damaged note is none.
    for content in (
        json.dumps({"conditions": noted | {"gigatoken": "0.1"}, "equal": True}),
        "{",
        "[]",
        '{"equal": true}',
    ):
        file.write_text(content)
        assert trusted_encoder(bpe.backend, tmp_path) is not None
    assert (len(tried), verdicts(tmp_path)) == (5, [True])
    file.write_text(json.dumps({"conditions": noted, "equal": False}))
    assert trusted_encoder(bpe.backend, tmp_path) is None
    assert len(tried) == 5


def test_another_tokenizer_is_tried_for_itself(bpe: Tokenizer, tmp_path: Path) -> None:
    prefix = changed(bpe.backend, normalizer={"type": "NFC"})
    assert trusted_encoder(bpe.backend, tmp_path) is not None
    assert trusted_encoder(prefix, tmp_path) is not None
    assert verdicts(tmp_path) == [True, True]


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "WhitespaceSplit"}},
        {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}, "added_tokens": []},
    ],
)
def test_a_kind_it_cannot_read_is_left_to_tokenizers(bpe: Tokenizer, parts: dict[str, Any], tmp_path: Path) -> None:
    assert trusted_encoder(changed(bpe.backend, **parts), tmp_path) is None
    assert verdicts(tmp_path) == [False]


def test_a_tokenizer_that_it_reads_otherwise_is_left_to_tokenizers(bpe: Tokenizer, tmp_path: Path) -> None:
    # It finds a word that must stand alone inside other words as well.
    backend = with_tokens(bpe.backend, "foo", single_word=True)
    encoder = FastEncoder(gigatoken, backend.to_str())
    assert encoder.encode(["food"])[0].tolist() != backend.encode("food", add_special_tokens=False).ids
    assert trusted_encoder(backend, tmp_path) is None
    assert verdicts(tmp_path) == [False]


def test_what_a_description_does_not_say_is_left_to_tokenizers(bpe: Tokenizer, tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer.from_str(bpe.backend.to_str())
    backend.encode_special_tokens = True
    assert trusted_encoder(backend, tmp_path) is None
    model = json.loads(bpe.backend.to_str())["model"]
    assert trusted_encoder(changed(bpe.backend, model=model | {"dropout": 0.5}), tmp_path) is None


def test_without_the_library(bpe: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    assert trusted_encoder(bpe.backend, tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_without_a_place_for_the_verdict(bpe: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert trusted_encoder(bpe.backend, tmp_path / "file" / "cache") is not None


def test_a_panic_of_the_library_is_a_refusal(bpe: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        pass

    def panic(description: str) -> None:
        raise Panic

    monkeypatch.setattr(gigatoken.Tokenizer, "from_json", panic)
    assert trusted_encoder(bpe.backend, tmp_path) is None


@pytest.mark.parametrize("resident", ["known", "unknown"])
def test_its_memory_of_words_is_begun_anew(
    bpe: Tokenizer, resident: str, monkeypatch: pytest.MonkeyPatch, sample: list[str]
) -> None:
    if resident == "known":
        held = iter(range(0, 10**9, 10**6))
        monkeypatch.setattr(fast, "_resident_bytes", lambda: next(held))
        monkeypatch.setattr(fast, "MOST_GROWTH", 10**6)
    else:
        monkeypatch.setattr(fast, "_resident_bytes", lambda: None)
        monkeypatch.setattr(fast, "MOST_TOKENS", 1.5 * sum(map(len, bpe.encode_many(sample))))
    encoder = FastEncoder(gigatoken, bpe.backend.to_str())
    used = []
    for _ in range(6):
        used.append(encoder._encoder)
        ids, _ = encoder.encode(sample)
        assert ids.tolist() == [token for row in bpe.encode_many(sample) for token in row]
    assert 1 < len({id(inner) for inner in used}) < 6


def test_the_trial_depends_on_the_tokenizer_alone(bpe: Tokenizer) -> None:
    texts = trial.trial_texts(bpe.backend)
    assert texts[0] == ""
    assert any("<|im_start|>" in text for text in texts)
    assert max(map(len, texts)) > 5000
    command = (
        "import hashlib, sys, tokenizers; from ownlm.tokens.trial import trial_texts;"
        "texts = trial_texts(tokenizers.Tokenizer.from_str(sys.stdin.read()));"
        "print(hashlib.sha256('\\n'.join(texts).encode()).hexdigest())"
    )
    done = [
        subprocess.run(
            [sys.executable, "-c", command], input=bpe.backend.to_str(), capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    assert done[0].stdout == done[1].stdout
