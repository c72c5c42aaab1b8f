"""Tokenizers in GGUF files: the ids of llama.cpp, and of our own reading of the file, are the model's."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from ownlm.errors import ModelError
from ownlm.model.checkpoint import random_model, save_model_folder
from ownlm.model.export.check import PROBE_CHAT
from ownlm.model.export.gguf import export_gguf
from ownlm.model.families import config_from_user
from ownlm.model.gguf import read_gguf
from ownlm.model.gguf_tokenizer import split_description
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer
from ownlm.tokens.train_bpe import train_tokenizer

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXTS = [
    "the quick brown fox jumps over the lazy dog, and 12 345 more; naïve café can't WE'LL",
    "  x = [1, 2]\n\n\tif (y): return {'key': 78901}  # привет мир 你好 🙂",
    "What comes next? I don't know; she'll say 2024-01-31 at 10:45. The end is the beginning of the next\n",
] * 4
INSTRUCT = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
    "{% else %}{{ '[INST] ' + m.content + ' [/INST]' }}{% endif %}{% endfor %}"
)
# Everything in which tokenizers differ, in any order.
PARTS = list("abcdeTHE  \n\n\t\r0123'’.,!?-_()[]{}éü你好мир🙂½\u00a0\u3000\u200b")
PARTS += [" the", "'s", "'LL", "\n ", "  ", "can't", "<s>", "</s>", *SPECIALS]


def drawn(count: int) -> list[str]:
    draw = random.Random(0)
    return ["".join(draw.choices(PARTS, k=draw.randint(1, 30))) for _ in range(count)]


def byte_level(pre: str, *, nfc: bool = False, whole_words: bool = False) -> Tokenizer:
    """A byte-level BPE that splits text in one of the public ways."""
    description = json.loads(Backend(models.BPE(ignore_merges=whole_words)).to_str())
    backend = Backend.from_str(json.dumps(description | {"pre_tokenizer": split_description(pre)}))
    backend.decoder = decoders.ByteLevel()
    if nfc:
        backend.normalizer = normalizers.NFC()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": SPECIALS, "initial_alphabet": alphabet, "show_progress": False}
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=500, **options))
    return Tokenizer(backend, names={"bos_token": SPECIALS[0], "eos_token": SPECIALS[2]})


def sentencepiece(*, everywhere: bool, template: str | None = None) -> Tokenizer:
    """SentencePiece's BPE as Llama 2 has it; everywhere: a space stands before a text and after each special token."""
    trained = Backend(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(Regex("▁?[^▁]+|▁"), "isolated")
    trained.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=[], show_progress=False))
    words = sorted(trained.get_vocab(), key=trained.get_vocab().__getitem__)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens + words))}
    # As the public converter lists them: every pair whose result is a token, by when that was learned.
    merges = [
        (word[:cut], word[cut:])
        for word in words
        for cut in sorted(range(1, len(word)), reverse=True)
        if word[:cut] in vocabulary and word[cut:] in vocabulary
    ]
    merges.sort(key=lambda merge: vocabulary["".join(merge)])
    model = models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    backend = Backend(model)
    if everywhere:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in ("<unk>", "<s>", "</s>")])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return Tokenizer(backend, names=names, chat_template=template)


MADE: dict[str, Callable[[], Tokenizer]] = {
    "ours": lambda: train_tokenizer(TEXTS, 400),
    "gpt-2": lambda: byte_level("gpt-2"),
    "gpt-2, composed": lambda: byte_level("gpt-2", nfc=True),
    "smollm": lambda: byte_level("smollm"),
    "llama-bpe": lambda: byte_level("llama-bpe", whole_words=True),
    "qwen2": lambda: byte_level("qwen2", nfc=True),
    "tekken": lambda: byte_level("tekken", whole_words=True),
    "llama": lambda: sentencepiece(everywhere=True, template=INSTRUCT),
    "llama, first": lambda: sentencepiece(everywhere=False, template=INSTRUCT),
    "unigram": lambda: train_tokenizer(TEXTS, 400, "unigram"),
}
# What the file says of each, and whether its texts get the same ids wherever they stand.
EXPECTED = {
    "ours": ("gpt2", "gpt-2", True),
    "gpt-2": ("gpt2", "gpt-2", True),
    "gpt-2, composed": ("gpt2", "gpt-2", True),
    "smollm": ("gpt2", "smollm", True),
    "llama-bpe": ("gpt2", "llama-bpe", True),
    "qwen2": ("gpt2", "qwen2", True),
    "tekken": ("gpt2", "tekken", True),
    "llama": ("llama", None, True),
    "llama, first": ("llama", None, False),
    "unigram": ("t5", None, False),
}


def model_with(tokenizer: Tokenizer, folder: Path) -> Path:
    shape = {"family": "llama", "layers": 1, "width": 32, "heads": 2, "max_positions": 512}
    config = config_from_user({**shape, "vocab_size": tokenizer.vocab_size + 3})
    save_model_folder(random_model(config, 1), folder, tokenizer=tokenizer)
    return folder


def metadata(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


@pytest.mark.parametrize("name", MADE)
def test_the_file_says_which_tokenizer_it_is_and_is_read_as_it(name: str, tmp_path: Path) -> None:
    tokenizer, (model, pre, everywhere) = MADE[name](), EXPECTED[name]
    result = export_gguf(model_with(tokenizer, tmp_path / "model"), tmp_path / "model.gguf")
    keys = metadata(tmp_path / "model.gguf")
    assert (keys["tokenizer.ggml.model"], keys.get("tokenizer.ggml.pre")) == (model, pre)
    notes = [note for note in result["notes"] if "compose" not in note]
    assert bool(notes) is not everywhere
    assert (len(notes) < len(result["notes"])) is (name in ("gpt-2, composed", "qwen2"))
    _, _, read = read_gguf(tmp_path / "model.gguf")
    assert [read.encode(text) for text in drawn(300)] == [tokenizer.encode(text) for text in drawn(300)]
    chat = list(PROBE_CHAT)
    assert read.render(chat, add_generation_prompt=True) == tokenizer.render(chat, add_generation_prompt=True)
    assert read.stop_ids == tokenizer.stop_ids


@pytest.mark.parametrize("name", MADE)
def test_llama_cpp_gives_the_same_ids(name: str, llama: Callable[..., Any], tmp_path: Path) -> None:
    tokenizer, (_, _, everywhere) = MADE[name](), EXPECTED[name]
    export_gguf(model_with(tokenizer, tmp_path / "model"), tmp_path / "model.gguf")
    theirs = llama(tmp_path / "model.gguf", vocab_only=True)
    # As in a conversation, after a special token; and by themselves where the file promises it.
    mark = tokenizer.names["eos_token"]
    texts = [mark + text for text in drawn(1000)] + (drawn(1000) if everywhere else [])
    for text in texts:
        assert theirs.tokenize(text.encode(), add_bos=False, special=True) == tokenizer.encode(text), ascii(text)
    rendered = tokenizer.render_text(list(PROBE_CHAT), add_generation_prompt=True)
    found = theirs.tokenize(rendered.encode(), add_bos=False, special=True)
    assert found == tokenizer.render(list(PROBE_CHAT), add_generation_prompt=True)


def test_without_a_template_plain_texts_decide(llama: Callable[..., Any], tmp_path: Path) -> None:
    tokenizer = sentencepiece(everywhere=False)
    result = export_gguf(model_with(tokenizer, tmp_path / "model"), tmp_path / "model.gguf")
    assert any("no chat template" in note for note in result["notes"])
    theirs = llama(tmp_path / "model.gguf", vocab_only=True)
    assert "tokenizer.chat_template" not in theirs.metadata
    for text in ("the quick fox", "12 more\n  x"):
        assert theirs.tokenize(text.encode(), add_bos=False, special=True) == tokenizer.encode(text)
    # Its own beginning-of-text token, once.
    assert theirs.tokenize(b"the", add_bos=True) == [tokenizer.bos_id, *tokenizer.encode("the")]


@pytest.mark.parametrize(
    ("template", "added"), [(INSTRUCT, True), (INSTRUCT.removeprefix("{{ bos_token }}"), False), (None, True)]
)
def test_the_first_token_is_added_where_conversations_begin_with_it(
    template: str | None, added: bool, tmp_path: Path
) -> None:
    tokenizer = sentencepiece(everywhere=True, template=template)
    assert tokenizer.adds_bos
    result = export_gguf(model_with(tokenizer, tmp_path / "model"), tmp_path / "model.gguf")
    keys = metadata(tmp_path / "model.gguf")
    assert keys["tokenizer.ggml.add_bos_token"] is added
    assert keys["tokenizer.ggml.add_eos_token"] is False
    assert any("beginning-of-text" in note for note in result["notes"]) is not added


def test_types_and_special_tokens(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 400)
    tokenizer.backend.add_tokens([AddedToken("[tool]", special=False)])
    tokenizer = Tokenizer(tokenizer.backend, names=tokenizer.names, chat_template=tokenizer.chat_template)
    export_gguf(model_with(tokenizer, tmp_path / "model"), tmp_path / "model.gguf")
    keys = metadata(tmp_path / "model.gguf")
    tokens, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    assert len(tokens) == len(set(tokens)) == tokenizer.vocab_size + 3
    assert [types[tokens.index(token)] for token in SPECIALS] == [gguf.TokenType.CONTROL] * 3
    assert types[tokens.index("[tool]")] == gguf.TokenType.USER_DEFINED
    assert types[-3:] == [gguf.TokenType.UNUSED] * 3
    assert types.count(gguf.TokenType.NORMAL) == len(types) - 7
    ids = {name: keys[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "padding", "eot")}
    assert ids == {"bos": 0, "eos": 0, "padding": 0, "eot": tokenizer.backend.token_to_id("<|im_end|>")}


def test_a_model_without_a_template_gets_the_plain_one(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 400, specials=["<|endoftext|>"])
    assert tokenizer.chat_template is None
    export_gguf(model_with(tokenizer, tmp_path / "model"), tmp_path / "model.gguf")
    assert metadata(tmp_path / "model.gguf")["tokenizer.chat_template"] == tokenizer.template_source()


def test_a_template_that_knows_no_system_message(tmp_path: Path) -> None:
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system message') }}{% endif %}"
    tokenizer = sentencepiece(everywhere=True, template=refuses + INSTRUCT)
    export_gguf(model_with(tokenizer, tmp_path / "model"), tmp_path / "model.gguf")
    chat = list(PROBE_CHAT[1:])
    _, _, read = read_gguf(tmp_path / "model.gguf")
    assert read.render(chat, add_generation_prompt=True) == tokenizer.render(chat, add_generation_prompt=True)


def stripping() -> Tokenizer:
    tokenizer = train_tokenizer(TEXTS, 400)
    tokenizer.backend.add_tokens([AddedToken("<cut>", lstrip=True, special=True)])
    return Tokenizer(tokenizer.backend, names=tokenizer.names, chat_template=tokenizer.chat_template)


def lowercase() -> Tokenizer:
    tokenizer = train_tokenizer(TEXTS, 400)
    tokenizer.backend.normalizer = normalizers.Lowercase()
    return tokenizer


REFUSED = {
    "wordpiece": (lambda: train_tokenizer(TEXTS, 400, "wordpiece"), "no tokenizer of the kind WordPiece"),
    "a token that strips": (stripping, "would get other ids"),
    "lower case": (lowercase, "rendered as other ids"),
    "no end": (lambda: Tokenizer(byte_level("gpt-2").backend, names={}, chat_template=INSTRUCT), "end-of-text token"),
    "another token in the template": (
        lambda: Tokenizer(
            byte_level("gpt-2").backend,
            names={"eos_token": SPECIALS[0], "pad_token": SPECIALS[1]},
            chat_template="{% for m in messages %}{{ pad_token + m.content }}{% endfor %}",
        ),
        "special tokens that llama.cpp does not give it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_tokenizer_that_llama_cpp_has_not_is_refused(name: str, tmp_path: Path) -> None:
    make, said = REFUSED[name]
    with pytest.raises(ModelError, match=said) as caught:
        export_gguf(model_with(make(), tmp_path / "model"), tmp_path / "model.gguf")
    assert caught.value.where == str(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_reading_such_a_file_as_a_model_folder(tmp_path: Path) -> None:
    # What llama.cpp's keys leave open is in the file for those who can read it.
    tokenizer = MADE["unigram"]()
    export_gguf(model_with(tokenizer, tmp_path / "model"), tmp_path / "model.gguf")
    _, _, read = read_gguf(tmp_path / "model.gguf")
    read.save(tmp_path)
    text = "  The quick\n fox 123 <|im_end|> jumps"
    assert load_tokenizer(tmp_path).encode(text) == tokenizer.encode(text)
