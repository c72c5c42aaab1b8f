"""The tokenizer inside a GGUF file: vocabulary, merges, special tokens and chat template from its metadata.

A GGUF file holds no tokenizer.json. It names the kind of vocabulary and how text was split before merging, and we
build the tokenizer of the original model from that. An unknown way of splitting is refused: another one would give
other tokens than those the model learned, and nothing would show it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from ..errors import DamagedError, ModelError, nearest

if TYPE_CHECKING:
    from ..tokens.tokenizer import Tokenizer

# The whole of a tokenizer.json, which a file may carry for readers that use the library.
HUGGINGFACE = "tokenizer.huggingface.json"

# tokenizer.ggml.token_type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

# How GPT-4, Llama 3 and Qwen split: words with one leading mark, numbers in groups, punctuation with its line ends.
_GROUPED = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBER| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# tokenizer.ggml.pre to how that model's text is split before merging.
SPLITS = {
    **dict.fromkeys(("gpt-2", "default", "phi-2", "mpt", "olmo", "jais", "trillion"), "gpt2"),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), "digits"),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "dbrx", "smaug-bpe", "lfm2"), "llama3"),
    **dict.fromkeys(("qwen2", "stablelm2", "deepseek-r1-qwen", "megrez"), "qwen2"),
    "tekken": "tekken",
}


def tokenizer_from_gguf(metadata: Mapping[str, Any], *, where: str, as_llama_cpp: bool = False) -> Tokenizer:
    """The tokenizer that a GGUF file's metadata describes, with its chat template.

    Args:
        metadata: the file's.
        where: the file, for errors.
        as_llama_cpp: as llama.cpp has it where that differs from the tokenizer that the model was made with: nothing is
            normalised, and what follows a special token begins with a space again.

    Raises:
        ModelError: a kind of vocabulary, or a way of splitting, that we do not have.
        DamagedError: a part is missing or does not fit the rest.
    """
    from ..tokens.tokenizer import Tokenizer

    values = {key.removeprefix("tokenizer.ggml."): value for key, value in metadata.items()}
    kind = values.get("model")
    if kind not in ("gpt2", "llama", "t5", "bert"):
        raise ModelError(f"its tokenizer is of the kind '{kind}', which is not supported", where=where)
    if not values.get("tokens"):
        raise DamagedError("the file does not say tokenizer.ggml.tokens", where=where, hint="fetch or copy it again")
    tokens: list[str] = values["tokens"]
    ready = HUGGINGFACE in metadata and not as_llama_cpp
    try:
        if ready:
            backend = Backend.from_str(metadata[HUGGINGFACE])
        elif kind == "gpt2":
            backend = _byte_level(values, metadata, where)
        elif kind == "llama":
            backend = _sentencepiece(values, tokens)
        elif kind == "t5":
            backend = _unigram(values, tokens, where)
        else:
            return _wordpiece(values, tokens, where)
        if as_llama_cpp:
            _behave_as_llama_cpp(backend, kind, values)
    except DamagedError:
        raise
    except Exception as error:  # the tokenizers package raises nothing more precise
        if isinstance(error, ModelError):
            raise
        raise DamagedError(f"its tokenizer's parts do not fit together: {error}", where=where) from None
    if not ready:
        _add_tokens(backend, tokens, values.get("token_type", ()))
    special = {name: _token(values, f"{name}_token_id", tokens, where) for name in ("bos", "eos", "padding")}
    if not ready and special["bos"] is not None and values.get("add_bos_token", kind == "llama"):
        _add_bos(backend, special["bos"])
    return Tokenizer.from_parts(
        backend,
        bos=special["bos"],
        eos=special["eos"],
        pad=special["padding"],
        chat_template=metadata.get("tokenizer.chat_template"),
        stop_ids=[values[key] for key in ("eot_token_id", "eom_token_id") if key in values],
    )


def _byte_level(values: Mapping[str, Any], metadata: Mapping[str, Any], where: str) -> Backend:
    """Byte-level BPE (Radford et al. 2019), with the split of the model it comes from."""
    split = _split_of(values.get("pre"), str(metadata.get("general.architecture")), where)
    vocabulary = {token: id for id, token in enumerate(values["tokens"])}
    merges = [tuple(merge.split(" ", 1)) for merge in values.get("merges", ()) if merge]
    # Llama 3's and Tekken's vocabularies hold whole words that their merges do not reach.
    whole_words = split in ("llama3", "tekken")
    backend = Backend(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole_words))
    if split == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = _pre_tokenizer(split)
    backend.decoder = decoders.ByteLevel()
    return backend


def _split_of(pre: str | None, architecture: str, where: str) -> str:
    if pre is None:
        # Files from before this key existed: by the architecture.
        return {"qwen2": "qwen2", "qwen3": "qwen2"}.get(architecture, "gpt2")
    if pre not in SPLITS:
        raise ModelError(
            f"its text is split the way '{pre}', which is not supported", where=where, hint=nearest(pre, SPLITS)
        )
    return SPLITS[pre]


def split_description(pre: str) -> Any:
    """How a tokenizer.json describes one of llama.cpp's ways to split text (``SPLITS``)."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = _pre_tokenizer(SPLITS[pre])
    return json.loads(backend.to_str())["pre_tokenizer"]


def _pre_tokenizer(split: str) -> pre_tokenizers.PreTokenizer:
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if split == "gpt2":
        return plain
    if split == "digits":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain])
    grouped = {"llama3": r"\p{N}{1,3}", "qwen2": r"\p{N}"}
    pattern = _TEKKEN if split == "tekken" else _GROUPED.replace("NUMBER", grouped[split])
    pieces = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _sentencepiece(values: Mapping[str, Any], tokens: Sequence[str]) -> Backend:
    """SentencePiece's BPE (Kudo and Richardson 2018) with byte fallback, as the public Llama tokenizer has it."""
    vocabulary = {token: id for id, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in values.get("merges", ())]
    types = values.get("token_type") or [NORMAL] * len(tokens)
    merges = merges or _merges_by_score(vocabulary, values["scores"], types)
    unknown = values.get("unknown_token_id")
    backend = Backend(
        models.BPE(
            vocab=vocabulary,
            merges=merges,
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    prefix = values.get("add_space_prefix", True)
    scheme = "first" if prefix else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return backend


def _unigram(values: Mapping[str, Any], tokens: Sequence[str], where: str) -> Backend:
    """SentencePiece's Unigram (Kudo 2018)."""
    if values.get("precompiled_charsmap") or values.get("remove_extra_whitespaces"):
        raise ModelError("a Unigram tokenizer that rewrites its text first is not supported", where=where)
    rows = list(zip(tokens, map(float, values["scores"]), strict=True))
    backend = Backend(models.Unigram(rows, values["unknown_token_id"], False))
    scheme = "first" if values.get("add_space_prefix", True) else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme=scheme)
    return backend


def _wordpiece(values: Mapping[str, Any], tokens: Sequence[str], where: str) -> Tokenizer:
    """BERT's WordPiece (Devlin et al. 2018); the file marks what begins a word and not, as BERT does, what goes on."""
    from ..tokens.tokenizer import Tokenizer

    types = values.get("token_type") or [NORMAL] * len(tokens)
    whole = [token if type in (CONTROL, UNKNOWN) else _marked(token) for token, type in zip(tokens, types, strict=True)]
    keys = {"cls": "bos", "sep": "seperator", "pad": "padding", "unk": "unknown", "mask": "mask"}
    names = {f"{ours}_token": _token(values, f"{theirs}_token_id", whole, where) for ours, theirs in keys.items()}
    first, last, unknown = (names[f"{kind}_token"] for kind in ("cls", "sep", "unk"))
    if first is None or last is None or unknown is None:
        raise DamagedError("its tokenizer lacks [CLS], [SEP] or [UNK]", where=where)
    lowercase = bool(values.get("normalizer.lowercase", True))
    backend = Backend(models.WordPiece({token: id for id, token in enumerate(whole)}, unk_token=unknown))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    _add_tokens(backend, whole, types)
    ids = [(token, backend.token_to_id(token)) for token in (first, last)]
    frame = {"single": f"{first} $A {last}", "pair": f"{first} $A {last} $B:1 {last}:1"}
    backend.post_processor = processors.TemplateProcessing(**frame, special_tokens=ids)
    return Tokenizer(backend, names={kind: token for kind, token in names.items() if token is not None})


def _marked(token: str) -> str:
    """As BERT's vocabulary has a token that begins a word, or goes on in one."""
    return token[1:] if token.startswith("▁") else f"##{token}"


def _behave_as_llama_cpp(backend: Backend, kind: str, values: Mapping[str, Any]) -> None:
    """What llama.cpp does otherwise than the tokenizers that it stands for (see ``tokenizer_from_gguf``)."""
    if kind == "gpt2":
        backend.normalizer = None
        return
    replaced = normalizers.Replace(" ", "▁")
    prefix = values.get("add_space_prefix", True)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replaced]) if prefix else replaced
    backend.pre_tokenizer = None


def _merges_by_score(
    vocabulary: Mapping[str, int], scores: Sequence[float], types: Sequence[int]
) -> list[tuple[str, str]]:
    """The merges that SentencePiece's scores stand for: it joins the pair whose result has the highest score."""
    found = []
    for token, id in vocabulary.items():
        if types[id] != NORMAL:
            continue
        pairs = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        pairs = [(left, right) for left, right in pairs if left in vocabulary and right in vocabulary]
        for left, right in sorted(pairs, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]])):
            found.append((left, right, scores[id]))
    # Equal scores: the longest first part, as the public converter orders them.
    found.sort(key=lambda merge: (-merge[2], -len(merge[0]), -len(merge[1])))
    return [(left, right) for left, right, _ in found]


def _add_tokens(backend: Backend, tokens: Sequence[str], types: Sequence[int]) -> None:
    """Marks the tokens that are found whole in text: control ones are special, user-defined ones are plain."""
    typed = list(zip(tokens, types, strict=False))
    special = [token for token, type in typed if type in (UNKNOWN, CONTROL)]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    plain = [token for token, type in typed if type == USER_DEFINED]
    backend.add_tokens([AddedToken(token, normalized=False, special=False) for token in plain])


def _token(values: Mapping[str, Any], key: str, tokens: Sequence[str], where: str) -> str | None:
    id = values.get(key)
    if id is None:
        return None
    if not 0 <= id < len(tokens):
        raise DamagedError(f"{key} is {id}, and there are {len(tokens)} tokens", where=where)
    return tokens[id]


def _add_bos(backend: Backend, token: str) -> None:
    backend.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, backend.token_to_id(token))]
    )
