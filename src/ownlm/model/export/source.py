"""What is exported: a model's weights, tokenizer and lineage; an adapter's folder stands for its base with it merged in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ...files import read_json
from ...tokens.tokenizer import Tokenizer, load_tokenizer
from ..adapters import load_adapter, merge
from ..adapters.peft import CONFIG as ADAPTER_CONFIG
from ..checkpoint import LINEAGE, load_model_folder
from ..registry import find_model, find_named_model
from ..transformer import Transformer


@dataclass(frozen=True)
class Source:
    """A model to export.

    Attributes:
        name: what the user called it.
        folder: where it was read from.
        model: its weights as they are stored, to be computed in float32.
        tokenizer: its tokenizer.
        lineage: where it comes from, to go along.
    """

    name: str
    folder: Path
    model: Transformer
    tokenizer: Tokenizer
    lineage: Mapping[str, Any]


def read_source(name: str | Path) -> Source:
    """The model that a command's argument names.

    Raises:
        UserError: there is no such model, it has fewer rows than its tokenizer ids, or the adapter is for another or
            does not name its base.
    """
    folder = find_model(str(name))
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file():
        return _merged(str(name), folder)
    found = read_json(folder / LINEAGE).get("lineage") if (folder / LINEAGE).is_file() else None
    lineage = {"parents": [str(name)]} if found is None else found
    return _checked(Source(str(name), folder, load_model_folder(folder), load_tokenizer(folder), lineage))


def _checked(source: Source) -> Source:
    source.tokenizer.check_fits(source.model.config.vocab_size, where=str(source.folder))
    return source


def _merged(name: str, folder: Path) -> Source:
    where = str(folder / ADAPTER_CONFIG)
    named = read_json(folder / ADAPTER_CONFIG)
    base = named.get("base_model_name_or_path") if isinstance(named, dict) else None
    if not isinstance(base, str) or not base:
        hint = "put the base model's name there as base_model_name_or_path"
        raise ModelError("this adapter does not say which model it is for", where=where, hint=hint)
    parent = find_named_model(base, f"{where}: base_model_name_or_path")
    model = load_model_folder(parent)
    load_adapter(model, folder)
    merge(model)
    with_tokenizer = (folder / "tokenizer.json").is_file()
    lineage: dict[str, Any] = {"parents": [base, name], "merged": True}
    if (folder / LINEAGE).is_file():
        lineage["adapter"] = read_json(folder / LINEAGE).get("lineage")
    return _checked(Source(name, folder, model, load_tokenizer(folder if with_tokenizer else parent), lineage))
