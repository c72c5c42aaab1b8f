"""A tokenizer as llama.cpp's vocabulary: its kind, tokens and their types, merges or scores, and special tokens.

A GGUF file does not hold a tokenizer but names one that is written in llama.cpp. Which one, and with which settings, is
found by trying: the candidates are built as llama.cpp has them, and the one is taken that gives the model's own ids for
the probe conversation, some texts, and every token of the vocabulary by itself. Where none does, nothing is written.

llama.cpp puts SentencePiece's space not only before a text but after every special token, or nowhere. Where the model's
tokenizer does otherwise, a model with a chat template gets its conversations right, and another one its texts.

| tokenizer | tokenizer.ggml.model | settings that are tried |
|---|---|---|
| byte-level BPE | gpt2 | how text is split before merging (tokenizer.ggml.pre) |
| SentencePiece's BPE, with bytes for what it does not know | llama | whether a text begins with a space |
| Unigram | t5 | the same |
| WordPiece, of an encoder | bert | whether letters are made small |
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import DamagedError, ModelError, UserError
from ...tokens.template import ChatTemplate
from ...tokens.tokenizer import Tokenizer
from ..config import ModelConfig
from ..gguf_tokenizer import (
    BYTE,
    CONTROL,
    HUGGINGFACE,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    split_description,
    tokenizer_from_gguf,
)
from .check import PROBE, probe_chat

_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")

# One name of llama.cpp's for each way that we can split, the most common first.
_SPLITS = ("gpt-2", "smollm", "llama-bpe", "qwen2", "tekken")

# Texts in which tokenizers differ: runs of spaces and line ends, digits, contractions, marks, scripts, what is rare.
_TEXTS = (
    PROBE,
    "a  b   c\n\nd\r\n\te \n f",
    "12345 6  78,901.25 x2y\n 3 ½ ①",
    "It's WE'LL I'd don’t",
    "foo(bar)[0] += {'k': \"v\"}; // ok?!...",
    "你好，世界 привет мир שלום สวัสดี 🇩🇪👍🏽",
)


def vocabulary_of(tokenizer: Tokenizer, size: int, where: str) -> tuple[dict[str, Any], list[str]]:
    """The ``tokenizer.*`` keys of a file, and in a sentence each what of the tokenizer llama.cpp does differently.

    Args:
        tokenizer: the model's.
        size: the rows of the model's embedding; those that are no token get a name each.
        where: the model, for errors.

    Raises:
        ModelError: llama.cpp has no such tokenizer, or would render conversations as other ids.
    """
    shared = _special_tokens(tokenizer, where)
    best: tuple[_Fit, dict[str, Any]] | None = None
    for candidate in _candidates(tokenizer, size, where):
        keys = {f"tokenizer.ggml.{key}": value for key, value in (candidate | shared).items()}
        fit = _fit(tokenizer, _built(keys, where, as_llama_cpp=True))
        if best is None or fit.rank(tokenizer) > best[0].rank(tokenizer):
            best = fit, keys
        if not fit.problems:
            break
    assert best is not None
    fit, keys = best
    if problem := fit.fatal(tokenizer):
        hint = "write it with --to onnx or --to hf"
        raise ModelError(f"llama.cpp has no such tokenizer: {problem}", where=where, hint=hint)
    if not fit.chat:
        keys["tokenizer.chat_template"] = tokenizer.template_source()
    # What follows from llama.cpp's keys alone may be another tokenizer to those who read them otherwise, as we do.
    if _fit(tokenizer, _built(keys, where)).problems:
        keys[HUGGINGFACE] = tokenizer.backend.to_str()
    return keys, _notes(tokenizer, fit)


def wordpiece_of(tokenizer: Tokenizer, config: ModelConfig, where: str) -> dict[str, Any]:
    """The same of an encoder: its tokens are marked where they begin a word, and no conversation is rendered.

    Raises:
        ModelError: llama.cpp has no such tokenizer.
    """
    ids = {
        "bos_token_id": tokenizer.cls_id,
        "seperator_token_id": tokenizer.sep_id,
        "padding_token_id": tokenizer.pad_id,
        "unknown_token_id": tokenizer.backend.token_to_id(tokenizer.names.get("unk_token", "")),
        "mask_token_id": tokenizer.mask_id,
    }
    missing = next((name for name in ("bos", "seperator", "unknown") if ids[f"{name}_token_id"] is None), None)
    description = json.loads(tokenizer.backend.to_str())
    hint = "write it with --to onnx or --to hf"
    if description["model"]["type"] != "WordPiece" or missing is not None:
        raise ModelError("llama.cpp reads encoders with BERT's WordPiece tokenizer only", where=where, hint=hint)
    vocabulary = _tokens(tokenizer, config.vocab_size, {})
    kinds = vocabulary["token_type"]
    texts = [
        text if kind == CONTROL else text[2:] if text.startswith("##") else f"▁{text}"
        for text, kind in zip(vocabulary["tokens"], kinds, strict=True)
    ]
    lowercase = bool((description["normalizer"] or {}).get("lowercase", False))
    settings = {"model": "bert", "normalizer.lowercase": lowercase, "token_type_count": max(config.segments, 1)}
    shared = {
        **settings,
        "tokens": texts,
        "token_type": kinds,
        **{key: id for key, id in ids.items() if id is not None},
    }
    keys = {f"tokenizer.ggml.{key}": value for key, value in shared.items()}
    theirs = _built(keys, where, as_llama_cpp=True)
    if problem := _first_difference(tokenizer, theirs, [*_TEXTS, *_token_texts(tokenizer)], ""):
        raise ModelError(f"llama.cpp has no such tokenizer: {problem}", where=where, hint=hint)
    return keys


def add_bos(tokenizer: Tokenizer) -> bool:
    """Whether llama.cpp is to put the beginning-of-text token before a text.

    As a text of the model begins; but where conversations were learned without it, they decide. Where the template
    writes the token itself, llama.cpp takes care that there is one and not two.
    """
    if not tokenizer.adds_bos:
        return False
    rendered = tokenizer.render(probe_chat(tokenizer), add_generation_prompt=True)
    return rendered[:1] == [tokenizer.bos_id]


class _Fit(NamedTuple):
    """Where a candidate gives other ids than the model's tokenizer, in a few words each; empty is nowhere.

    Attributes:
        chat: the probe conversation.
        inside: a text after a special token, as in a conversation.
        plain: a text by itself.
    """

    chat: str = ""
    inside: str = ""
    plain: str = ""

    @property
    def problems(self) -> list[str]:
        """All of them."""
        return [problem for problem in self if problem]

    def fatal(self, tokenizer: Tokenizer) -> str:
        """What the model cannot do without: conversations where it has a template for them, plain texts where not."""
        return self.chat or self.inside if tokenizer.chat_template is not None else self.plain

    def rank(self, tokenizer: Tokenizer) -> tuple[bool, int]:
        """The higher the better."""
        return not self.fatal(tokenizer), -len(self.problems)


def _built(keys: Mapping[str, Any], where: str, *, as_llama_cpp: bool = False) -> Tokenizer:
    try:
        return tokenizer_from_gguf(keys, where=where, as_llama_cpp=as_llama_cpp)
    except (DamagedError, ModelError) as error:
        raise ModelError(f"llama.cpp has no such tokenizer: {error.message}", where=where) from None


def _fit(ours: Tokenizer, theirs: Tokenizer) -> _Fit:
    messages = probe_chat(ours)
    # llama.cpp takes all of a conversation's text at once.
    text = ours.render_text(messages, add_generation_prompt=True)
    chat = theirs.encode(text) == ours.render(messages, add_generation_prompt=True)
    mark = ours.names["eos_token"]
    texts = [*_TEXTS, *_token_texts(ours)]
    # Some added tokens strip the spaces beside them, which llama.cpp does not.
    added = [token.content for token in ours.backend.get_added_tokens_decoder().values()]
    inside = [mark + text for text in (*texts, *(f"a {token} b{token}c" for token in added))]
    return _Fit(
        "" if chat else "conversations would be rendered as other ids",
        _first_difference(ours, theirs, inside, mark),
        _first_difference(ours, theirs, texts, ""),
    )


def _first_difference(ours: Tokenizer, theirs: Tokenizer, texts: list[str], mark: str) -> str:
    for text, expected, found in zip(texts, ours.encode_many(texts), theirs.encode_many(texts), strict=True):
        if expected != found:
            return f"the text {text.removeprefix(mark)!r} would get other ids"
    return ""


def _notes(tokenizer: Tokenizer, fit: _Fit) -> list[str]:
    notes = []
    if fit.plain:
        notes.append("in llama.cpp a plain text gets the model's ids only if it is given with a space before it")
    if fit.chat:
        notes.append("the file has no chat template: llama.cpp would render conversations as other ids than ownlm does")
    elif fit.inside:
        notes.append("in llama.cpp a text after a special token gets a space before it, and so other ids")
    if _composes(tokenizer):
        notes.append("llama.cpp does not compose characters first: a letter and an accent written apart stay apart")
    if tokenizer.adds_bos and not add_bos(tokenizer):
        notes.append("llama.cpp puts no beginning-of-text token before a plain text, since conversations have none")
    return notes


def _special_tokens(tokenizer: Tokenizer, where: str) -> dict[str, Any]:
    if tokenizer.eos_id is None:
        # llama.cpp would take token 11 for it, and stop where that is written.
        hint = "add eos_token to the model's tokenizer_config.json"
        raise ModelError("llama.cpp needs an end-of-text token, and this tokenizer has none", where=where, hint=hint)
    _check_template(tokenizer, where)
    ids: dict[str, Any] = {
        "bos_token_id": tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "add_bos_token": add_bos(tokenizer),
        "add_eos_token": False,
    }
    if tokenizer.pad_id is not None:
        ids["padding_token_id"] = tokenizer.pad_id
    stops = sorted(tokenizer.stop_ids - {tokenizer.eos_id})
    if len(stops) > 2:
        raise ModelError(
            f"llama.cpp ends an answer at no more than 3 tokens, and here are {len(stops) + 1}", where=where
        )
    return ids | dict(zip(("eot_token_id", "eom_token_id"), stops, strict=False))


def _check_template(tokenizer: Tokenizer, where: str) -> None:
    """llama.cpp gives a template the first and the last token of a text, and no others of the tokenizer's."""
    known = {kind: text for kind, text in tokenizer.names.items() if kind in ("bos_token", "eos_token")}
    messages = probe_chat(tokenizer)
    try:
        bare = ChatTemplate(tokenizer.template_source()).render(messages, True, None, **known)
    except UserError:
        bare = None
    if bare != tokenizer.render_text(messages, add_generation_prompt=True):
        message = "the chat template writes special tokens that llama.cpp does not give it"
        raise ModelError(message, where=where, hint="write them into the template as text")


def _candidates(tokenizer: Tokenizer, size: int, where: str) -> Iterator[dict[str, Any]]:
    """The vocabularies to try, without the prefix of their keys."""
    description = json.loads(tokenizer.backend.to_str())
    model = description["model"]
    if model["type"] == "BPE" and '"ByteLevel"' in json.dumps(description["pre_tokenizer"]):
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        # llama.cpp needs the key, and the writer leaves out an empty list.
        shared = {"model": "gpt2", **_tokens(tokenizer, size, {}), "merges": merges or [""]}
        # The one that splits as this tokenizer says comes first; a text in which others differ may be in no probe.
        splits = sorted(_SPLITS, key=lambda split: split_description(split) != description["pre_tokenizer"])
        for split in splits:
            yield {**shared, "pre": split}
    elif model["type"] == "BPE" and model.get("byte_fallback"):
        scores = _scores_of_merges(model, size)
        types = {id: BYTE for token, id in model["vocab"].items() if _BYTE_TOKEN.fullmatch(token)}
        if len(types) != 256:
            raise ModelError("llama.cpp's tokenizer needs a token for each of the 256 bytes", where=where)
        types |= {model["vocab"][model["unk_token"]]: UNKNOWN} if model.get("unk_token") else {}
        yield from _with_and_without_prefix({"model": "llama", **_tokens(tokenizer, size, types), "scores": scores})
    elif model["type"] == "Unigram" and description["normalizer"] is None and model["unk_id"] is not None:
        scores = [float(score) for _, score in model["vocab"]]
        scores += [0.0] * (size - len(scores))
        unknown = {"unknown_token_id": model["unk_id"]}
        shared = {"model": "t5", **_tokens(tokenizer, size, {model["unk_id"]: UNKNOWN}), "scores": scores, **unknown}
        yield from _with_and_without_prefix(shared)
    else:
        kind = model["type"] + (" without bytes" if model["type"] == "BPE" else "")
        hint = "write it with --to onnx or --to hf"
        raise ModelError(f"llama.cpp has no tokenizer of the kind {kind}", where=where, hint=hint)


def _with_and_without_prefix(shared: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for prefix in (True, False):
        yield {**shared, "add_space_prefix": prefix}


def _tokens(tokenizer: Tokenizer, size: int, types: Mapping[int, int]) -> dict[str, Any]:
    """Every id's text and type; an id that is no token gets a text that no other has."""
    backend = tokenizer.backend
    known = {id: token for token, id in backend.get_vocab(with_added_tokens=True).items()}
    taken = set(known.values())
    kinds = [types.get(id, NORMAL if id in known else UNUSED) for id in range(size)]
    for id, added in backend.get_added_tokens_decoder().items():
        if kinds[id] == NORMAL:
            kinds[id] = CONTROL if added.special else USER_DEFINED
    texts = []
    for id in range(size):
        text = known.get(id) or f"[PAD{id}]"
        while id not in known and text in taken:
            text = f"[{text}]"
        texts.append(text)
    return {"tokens": texts, "token_type": kinds}


def _scores_of_merges(model: Mapping[str, Any], size: int) -> list[float]:
    """SentencePiece's scores that merge in the same order: a token that is merged later has a lower one."""
    scores = [-1e6] * size
    for rank, merge in enumerate(model["merges"]):
        token = "".join(merge.split(" ", 1) if isinstance(merge, str) else merge)
        id = model["vocab"][token]
        scores[id] = max(scores[id], -float(rank))
    return scores


def _token_texts(tokenizer: Tokenizer) -> Sequence[str]:
    """The text of every token that is no added one, where it is text at all and not a part of a character."""
    added = tokenizer.backend.get_added_tokens_decoder()
    texts = tokenizer.backend.decode_batch([[id] for id in range(tokenizer.vocab_size) if id not in added])
    if _composes(tokenizer):
        texts = [unicodedata.normalize("NFC", text) for text in texts]
    return [text for text in dict.fromkeys(texts) if text and "\ufffd" not in text]


def _composes(tokenizer: Tokenizer) -> bool:
    """Whether characters are composed before anything else (NFC), as Qwen's are; llama.cpp leaves that to others."""
    normalizer = json.loads(tokenizer.backend.to_str())["normalizer"]
    return normalizer is not None and normalizer["type"] == "NFC"
