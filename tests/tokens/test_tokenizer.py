"""Tokenizers in and out, against Transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, GPT2TokenizerFast

from ownlm.errors import ModelError
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer
from ownlm.tokens.train_bpe import train_tokenizer

ODD = [
    "",
    " ",
    "\n\n\t \r\n",
    "a\u0301e\u0308",  # combining marks
    "👩‍👩‍👧‍👦 🇫🇷 🏳️‍🌈",
    "\u202eright to left\u202c \u200bzero\u200dwidth\ufeff",
    "ﬁ ㎏ Ⅷ ½ \u00a0\u2003x",
    "नमस्ते สวัสดี 안녕 שלום مرحبا",
    "\x00\x07\x1b[0m\x7f\x85\u2028\u2029",
    "<|endoftext|><|im_start|> <|im_end|>x<|endoftext|",
    "I'll we've it's 12345 3.14 x²+y² ____ ---- ....",
    "𝕏 \U0010ffff \ue000",
]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(ODD)


def test_gpt2_files_equal_transformers(gpt2: Tokenizer, shared_data: Path) -> None:
    source = shared_data / "tokenizers"
    reference = GPT2TokenizerFast(vocab=str(source / "gpt2_encoder.json"), merges=str(source / "gpt2_vocab.bpe"))
    sample = (shared_data / "wikitext2" / "wiki.test.tokens").read_text()[:20_000]
    for text in [*ODD, sample, sample.upper(), sample.replace(" ", "  ")]:
        assert gpt2.encode(text) == reference(text, add_special_tokens=False)["input_ids"]
    assert gpt2.encode("Hello world<|endoftext|>") == [15496, 995, 50256]  # as published with the model
    assert (gpt2.bos_id, gpt2.eos_id, gpt2.vocab_size) == (50256, 50256, 50257)
    assert not gpt2.adds_bos


@given(texts)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_come_back(bpe: Tokenizer, text: str) -> None:
    ids = bpe.encode(text, special=False)
    assert bpe.decode(ids, skip_special=False) == text
    assert not set(ids) & bpe.stop_ids
    assert bpe.encode_many([text, text]) == [bpe.encode(text)] * 2


@pytest.mark.parametrize("fixture", ["bpe", "chat_backend", "llama_backend"])
def test_a_saved_folder_is_the_same_to_transformers(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    given_fixture = request.getfixturevalue(fixture)
    tokenizer = given_fixture
    if isinstance(given_fixture, str):
        backend = tokenizers.Tokenizer.from_str(given_fixture)
        eos = "</s>" if fixture == "llama_backend" else "<|eot_id|>"
        tokenizer = Tokenizer.from_parts(backend, eos=eos).with_explicit_template()
    tokenizer.save(tmp_path)
    reference = AutoTokenizer.from_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert (reference.bos_token_id, reference.eos_token_id) == (tokenizer.bos_id, tokenizer.eos_id)
    assert len(reference) == tokenizer.vocab_size == again.vocab_size
    assert again.fingerprint == tokenizer.fingerprint
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "There"}]
    assert reference.apply_chat_template(messages, tokenize=False) == tokenizer.render_text(messages)

    @given(texts)
    @settings(max_examples=100, deadline=None)
    def equal(text: str) -> None:
        ids = tokenizer.encode(text)
        assert ids == reference(text, add_special_tokens=False)["input_ids"] == again.encode(text)
        assert tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=True)

    equal()


def test_folder_as_models_carry_it(chat_backend: str, tmp_path: Path) -> None:
    # tokenizer.json of a published model may hold a truncation; following it would cut texts in silence.
    backend = tokenizers.Tokenizer.from_str(chat_backend)
    backend.enable_truncation(4)
    backend.enable_padding(length=8)
    backend.save(str(tmp_path / "tokenizer.json"))
    config = {
        "bos_token": {"content": "<|begin_of_text|>", "lstrip": False},
        "eos_token": "<|endoftext|>",
        "pad_token": "<not in the vocabulary>",
        "added_tokens_decoder": {"700": {"content": "<|extra|>", "special": True}},
        "chat_template": [{"name": "tools", "template": "T"}, {"name": "default", "template": "D"}],
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 6]}))
    tokenizer = load_tokenizer(tmp_path)
    text = "The quick brown fox jumps over the lazy dog."
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (3, 0, None)
    assert tokenizer.stop_ids == {0, 6}
    assert tokenizer.chat_template == "D"
    assert len(tokenizer.encode("<|extra|>")) == 1
    (tmp_path / "chat_template.jinja").write_text("J")
    assert load_tokenizer(tmp_path).chat_template == "J"


def test_the_end_of_turn_stops_an_answer(bpe: Tokenizer) -> None:
    # Neither generation settings nor eos_token name it; the template writes it.
    assert bpe.names["eos_token"] == "<|endoftext|>"
    assert bpe.stop_ids == {bpe.backend.token_to_id("<|endoftext|>"), bpe.backend.token_to_id("<|im_end|>")}


def test_lone_tokenizer_file(bpe: Tokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path)
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    assert tokenizer.encode("Hello") == bpe.encode("Hello")
    assert tokenizer.eos_id == bpe.eos_id


def test_special_tokens_written_in_a_text(bpe: Tokenizer) -> None:
    assert bpe.encode("<|im_end|>") == [2]
    plain = bpe.encode("<|im_end|>", special=False)
    assert len(plain) > 1
    assert bpe.decode(plain) == "<|im_end|>"
    assert bpe.decode([2, *plain]) == "<|im_end|>"
    assert bpe.decode([2, *plain], skip_special=False) == "<|im_end|><|im_end|>"


def test_fingerprint_sees_what_decides_ids(bpe: Tokenizer) -> None:
    def copy(**changes: object) -> Tokenizer:
        backend = tokenizers.Tokenizer.from_str(bpe.backend.to_str())
        return Tokenizer(backend, **{"names": bpe.names, "chat_template": bpe.chat_template, **changes})

    assert copy().fingerprint == bpe.fingerprint
    assert copy(chat_template="{{ messages }}").fingerprint != bpe.fingerprint
    assert copy(names={"eos_token": "<|im_end|>"}).fingerprint != bpe.fingerprint


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no tokenizer"),
        ({"tokenizer.model": "x"}, "only tokenizer.model"),
        ({"tokenizer.json": "{"}, "not a tokenizer"),
        ({"tokenizer.json": "{}", "tokenizer_config.json": "["}, "not valid JSON"),
        ({"vocab.json": "{}", "merges.txt": "a b"}, "not GPT-2's files"),
    ],
)
def test_broken_folders(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_an_end_token_outside_the_vocabulary(bpe: Tokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<gone>"}')
    with pytest.raises(ModelError, match="eos_token '<gone>' is not in the tokenizer's vocabulary"):
        load_tokenizer(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        load_tokenizer(tmp_path)


def test_a_model_that_is_too_small(bpe: Tokenizer) -> None:
    bpe.check_fits(bpe.vocab_size)
    bpe.check_fits(50_304)
    with pytest.raises(ModelError, match="model's vocabulary only 100"):
        bpe.check_fits(100, where="model")


def test_an_encoders_special_tokens_have_their_ids(sample: list[str], tmp_path: Path) -> None:
    tokenizer = train_tokenizer(sample, 400, "wordpiece")
    expected = [tokenizer.backend.token_to_id(token) for token in ("[CLS]", "[SEP]", "[MASK]", "[PAD]")]
    assert expected == [2, 3, 4, 0]
    tokenizer.save(tmp_path)
    # A lone tokenizer.json does not say what its tokens are for; their usual names do.
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        again = load_tokenizer(path)
        assert [again.cls_id, again.sep_id, again.mask_id] == expected[:3]
    assert train_tokenizer(sample, 400).mask_id is None
