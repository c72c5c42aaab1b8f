"""Files to shards: the right tokens, counted, and only once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers

from ownlm.data.read import Kind, Record
from ownlm.errors import ConfigError, DataError
from ownlm.tokens import fast, flat, prepare
from ownlm.tokens.chat import render_for_training
from ownlm.tokens.prepare import tokenize_files
from ownlm.tokens.shards import ShardWriter, TokenDataset
from ownlm.tokens.tokenizer import Tokenizer

CHATS = [
    [{"role": "user", "content": f"Question {n}?"}, {"role": "assistant", "content": "Answer " * n}]
    for n in range(1, 6)
]


def write_chats(path: Path) -> Path:
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in CHATS))
    return path


def documents(folder: Path) -> list[tuple[list[int], list[bool]]]:
    dataset = TokenDataset(folder)
    return [(ids.tolist(), flags.tolist()) for ids, flags in map(dataset.document, range(len(dataset)))]


def test_texts_end_with_the_end_token(bpe: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The quick fox.")
    (tmp_path / "b.jsonl").write_text('{"text": "A dog."}\n{"text": "Another."}\n')
    seen: list[int] = []
    data = tokenize_files(
        [tmp_path / "a.txt", tmp_path / "b.jsonl"],
        bpe,
        kind="text",
        length=8,
        cache_folder=tmp_path / "cache",
        progress=seen.append,
    )
    expected = [[*bpe.encode(text), bpe.eos_id] for text in ("The quick fox.", "A dog.", "Another.")]
    assert [ids for ids, _ in documents(data.folder)] == expected
    assert (data.documents, data.tokens) == (3, sum(map(len, expected)))
    assert data.trained == data.tokens - 3
    assert data.dropped == {}
    assert seen == [3]
    info = TokenDataset(data.folder).info
    assert info["tokenizer"] == bpe.fingerprint


def test_texts_begin_as_the_tokenizer_is_made_to(llama_backend: str, tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer.from_str(llama_backend)
    backend.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = Tokenizer.from_parts(backend, bos="<s>", eos="</s>")
    (tmp_path / "a.txt").write_text("The quick fox.")
    data = tokenize_files([tmp_path / "a.txt"], tokenizer, kind="text", length=8, cache_folder=tmp_path / "cache")
    ((ids, _),) = documents(data.folder)
    assert ids == [1, *tokenizer.encode("The quick fox."), 2]


@pytest.mark.parametrize("fixture", ["bpe", "llama_backend"])
def test_a_huge_text_gives_the_ids_it_would_at_once(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = request.getfixturevalue(fixture)
    tokenizer = value if fixture == "bpe" else Tokenizer.from_parts(tokenizers.Tokenizer.from_str(value), eos="</s>")
    text = "The quick brown\n  fox\n\n\njumps over 123 dogs.\n\tÄpfel 🙂\nAnd so on.\n" * 30
    (tmp_path / "a.txt").write_text(text)
    monkeypatch.setattr(prepare, "BLOCK", 100)
    monkeypatch.setattr(prepare, "BATCH", 300)
    data = tokenize_files([tmp_path / "a.txt"], tokenizer, kind="text", length=8, cache_folder=tmp_path / "cache")
    assert documents(data.folder)[0][0] == [*tokenizer.encode(text), tokenizer.eos_id]


def test_chats_are_what_render_for_training_says(bpe: Tokenizer, tmp_path: Path) -> None:
    path = write_chats(tmp_path / "x.jsonl")
    data = tokenize_files([path], bpe, kind="chat", length=100, cache_folder=tmp_path / "cache")
    rendered = [chat for messages in CHATS for chat in render_for_training(bpe, messages)]
    assert documents(data.folder) == [(chat.ids, chat.trained) for chat in rendered]
    assert data.trained == sum(sum(chat.trained) for chat in rendered)


def test_too_long(bpe: Tokenizer, tmp_path: Path) -> None:
    path = write_chats(tmp_path / "x.jsonl")
    lengths = [len(bpe.render(messages)) for messages in CHATS]
    limit = lengths[2]

    def run(kind: str, policy: str | None, source: Path = path, length: int = limit):
        return tokenize_files(
            [source],
            bpe,
            kind=kind,
            length=length,
            cache_folder=tmp_path / "cache",
            too_long=policy,  # type: ignore[arg-type]
        )

    with pytest.raises(DataError, match=f"conversation has {lengths[3]} tokens, more than the {limit}") as caught:
        run("chat", None)
    assert caught.value.where == f"{path}:4"
    assert list((tmp_path / "cache").iterdir()) == []
    for _ in ("made", "found"):
        data = run("chat", "drop")
        assert data.documents == 3
        assert data.dropped == {f"longer than {limit} tokens": {"documents": 2, "tokens": sum(lengths[3:])}}
    with pytest.raises(DataError, match="every document is longer than 3 tokens"):
        run("chat", "drop", length=3)
    with pytest.raises(ConfigError, match="cannot be split"):
        run("chat", "split")
    (tmp_path / "a.txt").write_text("The quick brown fox. " * 20)
    assert run("text", None, tmp_path / "a.txt").documents == 1
    with pytest.raises(DataError, match="text has"):
        run("text", "refuse", tmp_path / "a.txt")


def test_cached_by_content(bpe: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_chats(tmp_path / "x.jsonl")
    runs = []

    def run(tokenizer: Tokenizer = bpe, length: int = 100, source: Path = path) -> Path:
        data = tokenize_files([source], tokenizer, kind="chat", length=length, cache_folder=tmp_path / "cache")
        runs.append(data)
        return data.folder

    first = run()
    made = (first / "tokens.bin").stat().st_mtime_ns
    path.rename(tmp_path / "renamed.jsonl")
    path = tmp_path / "renamed.jsonl"
    assert run(source=path) == first
    assert (first / "tokens.bin").stat().st_mtime_ns == made
    assert runs[0] == runs[1]
    assert run(length=99, source=path) != first
    backend = tokenizers.Tokenizer.from_str(bpe.backend.to_str())
    other = Tokenizer(backend, names=bpe.names, chat_template="{# another #}" + (bpe.chat_template or ""))
    assert run(other, source=path) != first
    path.write_text(path.read_text().replace("Question 1", "Question 9"))
    assert run(source=path) != first


def test_a_damaged_cache_is_made_again(bpe: Tokenizer, tmp_path: Path) -> None:
    path = write_chats(tmp_path / "x.jsonl")
    first = tokenize_files([path], bpe, kind="chat", length=100, cache_folder=tmp_path / "cache")
    expected = documents(first.folder)
    tokens = first.folder / "tokens.bin"
    tokens.write_bytes(bytes(len(tokens.read_bytes())))
    assert documents(first.folder) != expected
    again = tokenize_files([path], bpe, kind="chat", length=100, cache_folder=tmp_path / "cache")
    assert again == first
    assert documents(again.folder) == expected


def test_a_refused_conversation_is_named(bpe: Tokenizer, tmp_path: Path) -> None:
    path = write_chats(tmp_path / "x.jsonl")
    with path.open("a") as file:
        file.write(json.dumps({"messages": [{"role": "human", "content": "a"}, CHATS[0][1]]}) + "\n")
    with pytest.raises(DataError, match="unknown role 'human'") as caught:
        tokenize_files([path], bpe, kind="chat", length=100, cache_folder=tmp_path / "cache")
    assert caught.value.where == f"{path}:6"


def test_a_text_among_huge_ones_keeps_its_place(
    bpe: Tokenizer, llama_backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "BLOCK", 40)
    monkeypatch.setattr(prepare, "BATCH", 200)
    llama = Tokenizer.from_parts(tokenizers.Tokenizer.from_str(llama_backend), eos="</s>")
    texts = ["The quick brown fox.\n" * times for times in (1, 30, 2, 1, 9, 30, 1)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    for tokenizer in (bpe, llama):
        data = tokenize_files([tmp_path / "a.jsonl"], tokenizer, kind="text", length=8, cache_folder=tmp_path / "cache")
        expected = [[*tokenizer.encode(text), tokenizer.eos_id] for text in texts]
        assert [ids for ids, _ in documents(data.folder)] == expected


def test_what_is_dropped_leaves_the_others_whole(bpe: Tokenizer, tmp_path: Path) -> None:
    texts = ["A dog.", "The quick brown fox. " * 9, "Another."]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    cache = tmp_path / "cache"
    data = tokenize_files([tmp_path / "a.jsonl"], bpe, kind="text", length=12, cache_folder=cache, too_long="drop")
    expected = [[*bpe.encode(text), bpe.eos_id] for text in (texts[0], texts[2])]
    assert [ids for ids, _ in documents(data.folder)] == expected
    assert data.trained == sum(map(len, expected)) - 2
    dropped = {"documents": 1, "tokens": len(bpe.encode(texts[1])) + 1}
    assert data.dropped == {"longer than 12 tokens": dropped}


def test_a_refused_conversation_may_be_left_out(bpe: Tokenizer, tmp_path: Path) -> None:
    refused = [{"role": "human", "content": "a"}, CHATS[0][1]]
    records = [
        Record(None, messages, "x.jsonl", line) for line, messages in enumerate([CHATS[0], refused, CHATS[4]], 1)
    ]
    limit = len(bpe.render(CHATS[4])) - 1
    preparation = prepare.Preparation(bpe, "chat", limit, "drop", going_on=True)
    with ShardWriter(tmp_path / "data", bpe.vocab_size) as writer:
        preparation.add(writer, records)
    assert writer.documents == 1
    assert {record.line: reason for record, reason in preparation.left_out} == {2: "refused", 3: "too-long"}
    assert preparation.dropped == {f"longer than {limit} tokens": {"documents": 1, "tokens": limit + 1}}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def fast_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gigatoken")
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(flat, "FAST_FROM", 0)
    monkeypatch.setattr(prepare, "BATCH", 200)


def anew(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer, with nothing remembered."""
    return Tokenizer(tokenizers.Tokenizer.from_str(tokenizer.backend.to_str()), names=tokenizer.names)


@pytest.mark.parametrize("kind", ["text", "chat"])
def test_the_fast_library_changes_no_byte(
    bpe: Tokenizer, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast_from_the_start: None
) -> None:
    path = write_chats(tmp_path / "x.jsonl")
    if kind == "text":
        texts = ["The quick brown fox <|im_end|> jumps.\n" * times for times in (1, 30, 2, 1, 9)]
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    made = []
    for name in ("fast", "slow"):
        monkeypatch.setattr(flat, "FAST_FROM", 0 if name == "fast" else 10**12)
        tokenizer = anew(bpe)
        data = tokenize_files([path], tokenizer, kind=kind, length=100, cache_folder=tmp_path / name)
        assert (tokenizer._flat._fast is not None) == (name == "fast")
        made.append(contents(data.folder))
    assert made[0] == made[1]


def test_a_dataset_that_an_erring_library_began_is_written_again(
    bpe: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast_from_the_start: None
) -> None:
    path = tmp_path / "x.jsonl"
    texts = ["The quick brown fox jumps.\n" * times for times in (9, 2, 8, 9, 1)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    expected = [[*bpe.encode(text), bpe.eos_id] for text in texts]
    tokenizer = anew(bpe)
    tokenizer.encode_flat(["a"])
    right = fast.FastEncoder.encode

    def wrong(self: fast.FastEncoder, texts: flat.Texts) -> flat.Rows:
        ids, offsets = right(self, texts)
        return ids + 1, offsets

    monkeypatch.setattr(fast.FastEncoder, "encode", wrong)
    # The first batch is not compared; the second is.
    compared = iter([True, False])
    monkeypatch.setattr(flat.FlatEncoder, "_spot_check", lambda *_: next(compared))
    seen: list[int] = []
    data = tokenize_files(
        [path], tokenizer, kind="text", length=99, cache_folder=tmp_path / "cache", progress=seen.append
    )
    assert tokenizer.mistrusted
    assert [ids for ids, _ in documents(data.folder)] == expected
    assert seen.count(len(texts)) == 2
