"""Texts for an encoder: framed as the public tokenizer frames them, nothing lost, made once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
import transformers

from ownlm.errors import ConfigError, DataError
from ownlm.tokens import masked_text
from ownlm.tokens.masked_text import FOLLOWS, SECOND, frame_texts, tokenize_for_masking
from ownlm.tokens.prepare import tokenize_files
from ownlm.tokens.shards import TokenDataset
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer
from ownlm.tokens.train_bpe import train_tokenizer

# The second has no token: BERT reads over control characters.
TEXTS = [
    "The model reads.",
    "\u0001",
    "by word and by token. What it has seen before! A model. " * 9,
    "token",
    "What? It learns.",
]
CLS, SEP = 2, 3


@pytest.fixture(scope="module")
def tokenizer(encoder: Path) -> Tokenizer:
    return load_tokenizer(encoder)


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def documents(folder: Path) -> list[list[int]]:
    dataset = TokenDataset(folder)
    return [dataset.document(i)[0].tolist() for i in range(len(dataset))]


def test_short_texts_are_what_the_public_tokenizer_gives(encoder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)
    data = tokenize_for_masking(path, tokenizer, 512, cache_folder=tmp_path / "cache")
    public = transformers.AutoTokenizer.from_pretrained(encoder)
    assert documents(data.folder) == public([TEXTS[0], *TEXTS[2:]])["input_ids"]
    assert (data.documents, data.dropped) == (4, {})
    assert data.trained == data.tokens - 2 * data.documents


@pytest.mark.parametrize("length", [3, 8, 21])
def test_long_texts_become_even_pieces_and_lose_nothing(tokenizer: Tokenizer, tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)
    data = tokenize_for_masking(path, tokenizer, length, cache_folder=tmp_path / "cache")
    rows = documents(data.folder)
    assert all(row[0] == CLS and row[-1] == SEP and len(row) <= length for row in rows)
    flat = [token for row in rows for token in row[1:-1]]
    texts = [tokenizer.encode(text) for text in TEXTS]
    assert flat == [token for ids in texts for token in ids]
    # Each text is cut by itself, into as few pieces as there may be, of sizes that differ by at most one.
    sizes = iter([len(row) - 2 for row in rows])
    for ids in texts:
        own = [next(sizes) for _ in range(-(-len(ids) // (length - 2)))]
        assert sum(own) == len(ids) and (not own or max(own) - min(own) <= 1)
    assert next(sizes, None) is None


def test_a_robertas_own_ends_are_not_doubled(sample: list[str], tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer.from_str(
        train_tokenizer(sample, 400, specials=("<s>", "<pad>", "</s>", "<unk>", "<mask>")).backend.to_str()
    )
    backend.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    roberta = Tokenizer(backend, names=names)
    assert roberta.adds_bos and roberta.mask_id == 4
    path = write(tmp_path / "a.jsonl", TEXTS)
    data = tokenize_for_masking(path, roberta, 512, cache_folder=tmp_path / "cache")
    assert documents(data.folder) == [[0, *roberta.encode(text), 2] for text in TEXTS]


def test_built_texts_are_framed_alike(tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)
    texts = tokenize_files([path], tokenizer, kind="text", length=8, cache_folder=tmp_path / "other")
    direct = tokenize_for_masking(path, tokenizer, 12, cache_folder=tmp_path / "cache")
    monkeypatch.setattr(masked_text, "_BLOCK", 2)
    again = frame_texts(TokenDataset(texts.folder), tokenizer, 12, cache_folder=tmp_path / "third")
    assert documents(again.folder) == documents(direct.folder)


def test_it_is_kept_by_content(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)

    def made(length: int = 16, pairs: bool = False) -> Path:
        return tokenize_for_masking(path, tokenizer, length, cache_folder=tmp_path / "cache", pairs=pairs).folder

    first = made()
    stamp = (first / "tokens.bin").stat().st_mtime_ns
    path = path.rename(tmp_path / "renamed.jsonl")
    assert made() == first and (first / "tokens.bin").stat().st_mtime_ns == stamp
    assert len({first, made(17), made(pairs=True)}) == 3
    path.write_text(path.read_text().replace("model", "word"))
    assert made() != first


@pytest.mark.parametrize("block", [2, 4096])
def test_pairs_stand_in_their_frame(
    tokenizer: Tokenizer, tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masked_text, "_BLOCK", block)
    path = write(tmp_path / "a.jsonl", TEXTS)
    data = tokenize_for_masking(path, tokenizer, 24, cache_folder=tmp_path / "cache", pairs=True)
    dataset = TokenDataset(data.folder)
    own: list[int] = []
    for i, row in enumerate(documents(data.folder)):
        second = int(dataset.columns[SECOND][i, 0])
        assert len(row) <= 24 and row[0] == CLS and row[-1] == SEP and row[second - 1] == SEP
        assert row.count(CLS) == 1 and row.count(SEP) == 2
        own += row[1 : second - 1]
        if dataset.columns[FOLLOWS][i, 0]:
            own += row[second:-1]
    assert own == [token for text in TEXTS for token in tokenizer.encode(text)]
    assert data.trained == data.tokens - 3 * data.documents


@pytest.mark.parametrize("pairs", [False, True])
def test_documents_of_unknown_tokens_alone_are_left_out(tokenizer: Tokenizer, tmp_path: Path, pairs: bool) -> None:
    path = write(tmp_path / "a.jsonl", ["жж. жжж.", *TEXTS, "жж"])
    data = tokenize_for_masking(path, tokenizer, 24, cache_folder=tmp_path / "cache", pairs=pairs)
    unknown = tokenizer.backend.token_to_id("[UNK]")
    kept = documents(data.folder)
    assert all(set(row) - {CLS, SEP, unknown} for row in kept) and len(kept) == data.documents
    if not pairs:
        plain = tokenize_for_masking(write(tmp_path / "b.jsonl", TEXTS), tokenizer, 24, cache_folder=tmp_path / "cache")
        # "." is a token that is known.
        assert kept[1:] == documents(plain.folder)
        assert data.dropped == {"no token that the tokenizer knows": {"documents": 1, "tokens": 3}}


def test_what_cannot_be(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", TEXTS)
    for pairs, length, least in ((False, 2, 3), (True, 4, 5)):
        with pytest.raises(ConfigError, match="leave no room for text") as caught:
            tokenize_for_masking(path, tokenizer, length, cache_folder=tmp_path / "cache", pairs=pairs)
        assert caught.value.where == "data.length"
        assert tokenize_for_masking(path, tokenizer, least, cache_folder=tmp_path / "cache", pairs=pairs).documents
    empty = write(tmp_path / "b.jsonl", ["\u0001", "\u0002"])
    with pytest.raises(DataError, match="nothing to train on") as none:
        tokenize_for_masking(empty, tokenizer, 16, cache_folder=tmp_path / "cache")
    assert none.value.where == str(empty)
    with pytest.raises(DataError, match="two texts"):
        tokenize_for_masking(
            write(tmp_path / "c.jsonl", TEXTS[:1]), tokenizer, 16, cache_folder=tmp_path / "cache", pairs=True
        )
