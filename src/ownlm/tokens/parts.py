"""The parts of a tokenizer, read from a model's folder as Hugging Face models carry them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from ..errors import DataError, ModelError
from ..files import read_json, read_text

SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token", "cls_token", "sep_token", "mask_token")

# Where a folder names no such token: the first of these that the vocabulary holds.
USUAL = {
    "bos_token": ("<s>", "<|begin_of_text|>", "<bos>", "<|endoftext|>"),
    "eos_token": ("</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>"),
    "cls_token": ("[CLS]",),
    "sep_token": ("[SEP]",),
    "mask_token": ("[MASK]", "<mask>"),
}


@dataclass(frozen=True)
class TokenizerParts:
    """What a tokenizer is made of.

    Attributes:
        backend: text to ids.
        names: special tokens by their Hugging Face names.
        chat_template: the jinja2 text, or None.
        stop_ids: ids that the model's generation settings name as ends.
    """

    backend: tokenizers.Tokenizer
    names: dict[str, str]
    chat_template: str | None
    stop_ids: tuple[int, ...]


def read_parts(path: Path) -> TokenizerParts:
    """Reads a model folder, or a lone tokenizer.json.

    A folder's tokenizer.json (or GPT-2's vocab.json and merges.txt) is the program; tokenizer_config.json,
    special_tokens_map.json, chat_template.jinja and generation_config.json say the rest.

    Raises:
        ModelError: there is no tokenizer, or one of its files is broken.
    """
    if not path.exists():
        raise ModelError("there is no such folder or file", where=str(path), hint="check the path")
    if path.is_file():
        backend = _read_backend(path)
        return TokenizerParts(backend, _special_names(backend, {}), None, ())
    config = _optional_json(path / "tokenizer_config.json")
    named = _optional_json(path / "special_tokens_map.json") | config
    backend = _folder_backend(path)
    _add_tokens(backend, config.get("added_tokens_decoder", {}))
    names = _special_names(backend, named)
    # A special token is always read as one, even where tokenizer.json only lists it among ordinary words.
    added = {token.content for token in backend.get_added_tokens_decoder().values()}
    missing = [
        text for text in dict.fromkeys(names.values()) if text not in added and backend.token_to_id(text) is not None
    ]
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in missing])
    return TokenizerParts(backend, names, _chat_template(path, config), _stop_ids(path))


def _read_backend(path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(read_text(path))
    except DataError as error:
        raise ModelError(error.message, where=error.where, hint=error.hint) from None
    # The library raises a bare Exception for everything that is wrong with the file.
    except Exception as error:
        raise ModelError(f"this is not a tokenizer: {error}", where=str(path)) from None


def _folder_backend(folder: Path) -> tokenizers.Tokenizer:
    if (folder / "tokenizer.json").is_file():
        return _read_backend(folder / "tokenizer.json")
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if vocabulary.is_file() and merges.is_file():
        return _gpt2_backend(vocabulary, merges)
    if not folder.is_dir():
        raise ModelError("this is not a folder", where=str(folder))
    hint = "a tokenizer.json is needed, or vocab.json with merges.txt"
    if (folder / "tokenizer.model").is_file():
        hint = "it has only tokenizer.model; load and save it once with Transformers, which writes a tokenizer.json"
    raise ModelError("this folder has no tokenizer", where=str(folder), hint=hint)


def _gpt2_backend(vocabulary: Path, merges: Path) -> tokenizers.Tokenizer:
    """Byte-level BPE from the two files that GPT-2 was published with (Radford et al. 2019)."""
    try:
        backend = tokenizers.Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    # The library raises a bare Exception for everything that is wrong with the files.
    except Exception as error:
        raise ModelError(f"these are not GPT-2's files: {error}", where=f"{vocabulary}, {merges.name}") from None
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    backend.add_special_tokens(["<|endoftext|>"])
    added = _optional_json(vocabulary.with_name("added_tokens.json"))
    _add_tokens(backend, {str(number): {"content": text} for text, number in added.items()})
    return backend


def _add_tokens(backend: tokenizers.Tokenizer, decoder: Mapping[str, Any]) -> None:
    """Adds what tokenizer_config.json's added_tokens_decoder lists beyond tokenizer.json, in the order of the ids."""
    options = ("single_word", "lstrip", "rstrip", "normalized", "special")
    for number in sorted(decoder, key=int):
        token = decoder[number]
        if backend.token_to_id(token["content"]) is None:
            backend.add_tokens(
                [AddedToken(token["content"], **{name: token[name] for name in options if name in token})]
            )


def _special_names(backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> dict[str, str]:
    names: dict[str, str] = {}
    for kind in SPECIAL:
        token = config.get(kind)
        text = token.get("content") if isinstance(token, Mapping) else token
        if kind not in config:
            text = next((usual for usual in USUAL.get(kind, ()) if backend.token_to_id(usual) is not None), None)
        # Some folders name a padding token that no vocabulary holds; nothing here pads.
        known = kind in ("bos_token", "eos_token") or (text is not None and backend.token_to_id(text) is not None)
        if text is not None and known:
            names[kind] = text
    return names


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return read_text(file)
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        return named.get("default", next(iter(named.values()), None))
    return template


def _stop_ids(folder: Path) -> tuple[int, ...]:
    ids = _optional_json(folder / "generation_config.json").get("eos_token_id")
    if ids is None:
        return ()
    return tuple(ids) if isinstance(ids, list) else (ids,)


def _optional_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = read_json(path)
    except DataError as error:
        raise ModelError(error.message, where=error.where) from None
    if not isinstance(value, dict):
        raise ModelError("a JSON object was expected", where=str(path))
    return value
