"""Which files of a data set's folder belong to a subset and a split, as the hub lays them out.

The card (README.md) may say so in its front matter, under ``configs``; otherwise the names of files and folders do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ...errors import DataError, nearest
from .options import SourceOptions
from .patterns import matches
from .sniff import COMPRESSED, inner_name, kind_of_name

CARD = "README.md"
# Other words for the hub's three splits that its documentation lists.
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_RECORDS = ("jsonl", "json", "csv", "tsv", "parquet", "text", "warc", "arc", "zip", "tar")
# What describes a data set, and is none of it.
_ABOUT = ("dataset_infos.json", "dataset_info.json", "state.json", "license", "license.txt")


def choose_files(files: Mapping[str, str], source: SourceOptions) -> set[str]:
    """The names of the data files of a subset and a split; of all where they are not given.

    Args:
        files: name to path; only the card is opened.
        source: says which.

    Raises:
        DataError: there is no such subset or split, or no data file at all.
    """
    where = source.dataset or ", ".join(source.paths)
    names = sorted(name for name in files if _is_data(name))
    configs = _configs(files.get(CARD))
    if configs:
        chosen = _by_card(names, configs, source, where)
    else:
        chosen = _by_names(names, source, where)
    if not chosen:
        hint = "data sets made by a script have files at the revision 'refs/convert/parquet'"
        raise DataError("this data set has no file that can be read", where=where, hint=hint)
    return set(chosen)


def _is_data(name: str) -> bool:
    kind = kind_of_name(name)
    kind = kind_of_name(inner_name(name)) if kind in COMPRESSED else kind
    return kind in _RECORDS and name.rpartition("/")[2].lower() not in _ABOUT


def _configs(card: str | None) -> list[dict[str, Any]]:
    """The ``configs`` of a card's front matter that name files."""
    if card is None:
        return []
    found = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", Path(card).read_text(errors="replace"), re.S)
    try:
        front = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return []
    configs = front.get("configs") if isinstance(front, dict) else None
    return [c for c in configs or [] if isinstance(c, dict) and c.get("data_files")]


def _by_card(names: list[str], configs: list[dict[str, Any]], source: SourceOptions, where: str) -> list[str]:
    known = {str(config.get("config_name", "default")): config for config in configs}
    subset = source.subset
    if subset is None and len(known) > 1 and source.split:
        subset = next((name for name, config in known.items() if config.get("default") or name == "default"), None)
    if subset is not None and subset not in known:
        raise DataError(f"this data set has no subset '{subset}'", where=where, hint=nearest(subset, known))
    chosen: list[str] = []
    splits: set[str] = set()
    for name, config in known.items():
        if subset in (None, name):
            for split, patterns in _patterns(config["data_files"]):
                splits.add(split)
                if source.split in (None, split):
                    chosen += [name for name in names if matches(name, tuple(f"/{p.lstrip('/')}" for p in patterns))]
    if source.split is not None and source.split not in splits:
        raise DataError(f"this data set has no split '{source.split}'", where=where, hint=nearest(source.split, splits))
    return chosen


def _patterns(data_files: Any) -> list[tuple[str, list[str]]]:
    """Each split with its patterns: the card may give one, a list, a mapping, or a list of splits with paths."""
    if isinstance(data_files, Mapping):
        return [(str(split), _listed(path)) for split, path in data_files.items()]
    if isinstance(data_files, list) and all(isinstance(item, Mapping) for item in data_files):
        return [(str(item.get("split", "train")), _listed(item.get("path", []))) for item in data_files]
    return [("train", _listed(data_files))]


def _listed(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _by_names(names: list[str], source: SourceOptions, where: str) -> list[str]:
    chosen = names
    if source.subset:
        chosen = [name for name in chosen if source.subset in _folders(name)]
        if not chosen:
            known = {folder for name in names for folder in _folders(name)} - {"data"}
            hint = nearest(source.subset, known) if known else "it has none"
            raise DataError(f"this data set has no subset '{source.subset}'", where=where, hint=hint)
    if source.split:
        within, words = chosen, _SPLITS.get(source.split, (source.split.lower(),))
        chosen = [name for name in within if _words(name, source.subset) & {*words}]
        if not chosen:
            known = {split for split, other in _SPLITS.items() for n in within if _words(n, source.subset) & {*other}}
            hint = nearest(source.split, known) if known else "its files name no split"
            raise DataError(f"this data set has no split '{source.split}'", where=where, hint=hint)
    return chosen


def _folders(name: str) -> list[str]:
    """What may be a subset's name: a folder, or the beginning of a file's name before its number or its suffix."""
    *folders, last = name.split("/")
    return [*folders, re.split(r"[.]|-\d+-of-\d+", last)[0]]


def _words(name: str, subset: str | None) -> set[str]:
    """The words of a path, those of the subset's name left out."""
    parts: Iterable[str] = (part for part in name.split("/") if part != subset)
    return {word for part in parts for word in re.split(r"[^a-z0-9]+", part.lower())}
