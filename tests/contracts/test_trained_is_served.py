"""Promise 7: the token ids of a rendered chat are identical in training, in scoring, in the engine, and for other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ownlm.engine.engine import Engine
from ownlm.engine.requests import SamplingOptions
from ownlm.model.checkpoint import load_model_folder
from ownlm.tokens.prepare import tokenize_files
from ownlm.tokens.shards import TokenDataset
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer
from ownlm.train.config import read_train_config
from ownlm.train.run import run_training


def conversations(path: Path) -> list[list[dict[str, str]]]:
    rows = [json.loads(line) for line in path.read_text().split("\n") if line]
    return [
        [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}] for row in rows
    ]


@pytest.fixture
def served(chat_settings: dict[str, Any]) -> Path:
    """The model folder of a finished run."""
    return run_training(read_train_config(chat_settings | {"steps": 2}), say=lambda message: None).model


def test_the_trained_ids_are_the_prompt_that_is_served_and_the_answer_after_it(corpus: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(corpus / "base")
    prepared = tokenize_files(
        [corpus / "chats.jsonl"], tokenizer, kind="chat", length=128, cache_folder=tmp_path / "cache"
    )
    dataset = TokenDataset(prepared.folder)
    chats = conversations(corpus / "chats.jsonl")
    assert len(dataset) == len(chats)
    for number, messages in enumerate(chats):
        ids, trained = dataset.document(number)
        prompt = tokenizer.render(messages[:1], add_generation_prompt=True)
        assert ids.tolist() == tokenizer.render(messages)
        assert ids[: len(prompt)].tolist() == prompt
        assert trained.tolist() == [False] * len(prompt) + [True] * (len(ids) - len(prompt))


def test_the_engine_reads_exactly_the_trained_prompt(
    served: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_with, tokenizer = load_tokenizer(corpus / "base"), load_tokenizer(served)
    engine = Engine(load_model_folder(served), tokenizer)
    read: list[list[int]] = []
    generate = Engine.generate

    def recorded(self: Engine, prompts: Any, *options: Any) -> Any:
        read.extend(list(prompt) for prompt in prompts)
        return generate(self, prompts, *options)

    monkeypatch.setattr(Engine, "generate", recorded)
    chats = conversations(corpus / "chats.jsonl")[:5]
    for messages in chats:
        engine.chat(messages[:1], SamplingOptions(max_tokens=2, temperature=0))
    assert read == [trained_with.render(messages[:1], add_generation_prompt=True) for messages in chats]


def test_other_tools_render_the_result_s_chats_to_the_same_ids(served: Path, corpus: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(served)
    trained_with: Tokenizer = load_tokenizer(corpus / "base")
    for messages in conversations(corpus / "chats.jsonl"):
        whole = theirs.apply_chat_template(messages, tokenize=True, return_dict=False)
        prompt = theirs.apply_chat_template(messages[:1], tokenize=True, add_generation_prompt=True, return_dict=False)
        assert whole == trained_with.render(messages)
        assert prompt == trained_with.render(messages[:1], add_generation_prompt=True)
