"""The texts that a scorer learns from and is measured on, from public files as their authors publish them.

| scorer | files in the folder | the positive class |
|---|---|---|
| toxicity | davidson_labeled_data.csv or labeled_data.csv (Davidson et al. 2017), surge_toxicity_en.csv or toxicity_en.csv (Surge AI 2022) | "toxic": hate speech or offensive language, as most annotators saw it |
| sentiment | train.tsv, and dev.tsv and test.tsv where they are there (SST-2: Socher et al. 2013) | "positive" |

What is held out is decided by the text itself, so that no text, and no retweet of it, stands on both sides.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.read import Row, read_rows
from ..errors import DataError
from ..files import sha256_file
from .scorers import Source

# Of a hundred texts, so many are held out for the report, and so many to choose the best weights by.
TESTED, CHOSEN_BY = 15, 5
# Davidson's data is three quarters offensive, found by a list of slurs; more of it would teach that nearly all is toxic.
MOST_OFFENSIVE = 3000


@dataclass(frozen=True)
class Example:
    """A text and its class."""

    text: str
    label: str

    @property
    def key(self) -> str:
        """What it is but for case, punctuation and spaces: texts with one key never stand on two sides."""
        return hashlib.sha256(" ".join(re.findall(r"\w+", self.text.casefold())).encode()).hexdigest()


@dataclass(frozen=True)
class Parts:
    """Examples by what they are for.

    Attributes:
        train: learned from.
        validation: to choose the best weights by.
        test: held out for the report.
        sources: the files.
    """

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]
    sources: tuple[Source, ...]


def read_parts(name: str, folder: Path, most: int | None = None) -> Parts:
    """The examples of a scorer.

    Args:
        name: toxicity or sentiment.
        folder: that holds the files.
        most: the most texts to learn from.

    Raises:
        DataError: a file is not there, or has other columns or labels.
    """
    if not folder.is_dir():
        raise DataError("there is no such folder", where=str(folder))
    return READERS[name](folder, most)


def clean_tweet(text: str) -> str:
    """A tweet as a text of anywhere: without the marks of a retweet, links, names and HTML's entities."""
    plain = html.unescape(html.unescape(text))
    plain = re.sub(r"https?://\S*|@\w+:?", " ", plain)
    plain = re.sub(r"\bRT\b|&#?\w+;?", " ", plain)
    # What a retweet begins with in this data.
    plain = re.sub(r"^[\s!:\"'“”.,]+", "", plain)
    return " ".join(plain.split())


def _toxicity(folder: Path, most: int | None) -> Parts:
    davidson = _one_of(folder, "davidson_labeled_data.csv", "labeled_data.csv")
    surge = _one_of(folder, "surge_toxicity_en.csv", "toxicity_en.csv")
    if davidson is None and surge is None:
        names = "davidson_labeled_data.csv or surge_toxicity_en.csv"
        raise DataError(f"the data of the scorer 'toxicity' is not in this folder: {names}", where=str(folder))
    examples: list[Example] = []
    sources: list[Source] = []
    if davidson is not None:
        kinds = {"0": "hate", "1": "offensive", "2": "neither"}
        rows = [
            Example(clean_tweet(row.values["tweet"]), _label(row, "class", kinds))
            for row in _rows(davidson, "tweet", "class")
        ]
        offensive = _sorted(row for row in rows if row.label == "offensive")[:MOST_OFFENSIVE]
        taken = [row for row in rows if row.label != "offensive"] + offensive
        examples += [Example(row.text, "harmless" if row.label == "neither" else "toxic") for row in taken]
        about = (
            "Davidson et al. 2017: tweets found by a list of slurs; hate speech and offensive language are toxic here, "
        )
        about += (
            f"and of the offensive ones {len(offensive):,} of {sum(r.label == 'offensive' for r in rows):,} are taken"
        )
        sources.append(_source(davidson, "MIT", about))
    if surge is not None:
        kinds = {"Toxic": "toxic", "Not Toxic": "harmless"}
        comments = _rows(surge, "text", "is_toxic")
        examples += [Example(" ".join(row.values["text"].split()), _label(row, "is_toxic", kinds)) for row in comments]
        sources.append(_source(surge, "MIT", "Surge AI 2022: comments from several social media"))
    return _divided(_unique(examples), most, tuple(sources))


def _sentiment(folder: Path, most: int | None) -> Parts:
    train = _one_of(folder, "train.tsv")
    if train is None:
        raise DataError("the data of the scorer 'sentiment' is not in this folder: train.tsv", where=str(folder))
    kinds = {"0": "negative", "1": "positive"}
    about = "SST-2 (Socher et al. 2013): phrases and sentences of film reviews"
    read: dict[str, list[Example]] = {}
    sources: list[Source] = []
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        path = folder / name
        # GLUE's own test.tsv has no labels.
        if path.is_file() and "label" in path.open(encoding="utf-8").readline().split():
            rows = _rows(path, "sentence", "label")
            read[name] = _unique(Example(row.values["sentence"].strip(), _label(row, "label", kinds)) for row in rows)
            sources.append(_source(path, "none stated; research use", about))
    if "test.tsv" in read:
        test, rest = read["test.tsv"], read.get("dev.tsv")
    else:
        test, rest = read.get("dev.tsv", []), None
    if not test:
        return _divided(read["train.tsv"], most, tuple(sources))
    known = {one.key for one in test}
    others = _sorted(one for one in read["train.tsv"] if one.key not in known)
    chosen_by = _sorted(one for one in rest or [] if one.key not in known)[:500]
    if not chosen_by:
        chosen_by, others = others[: len(others) // 50], others[len(others) // 50 :]
    apart = {one.key for one in chosen_by}
    return Parts([one for one in others if one.key not in apart][:most], chosen_by, test, tuple(sources))


READERS: dict[str, Callable[[Path, int | None], Parts]] = {"sentiment": _sentiment, "toxicity": _toxicity}


def _divided(examples: Iterable[Example], most: int | None, sources: tuple[Source, ...]) -> Parts:
    parts: tuple[list[Example], ...] = ([], [], [])
    for one in _sorted(examples):
        place = int(one.key[:8], 16) % 100
        parts[2 if place < TESTED else 1 if place < TESTED + CHOSEN_BY else 0].append(one)
    train, validation, test = parts
    if not (train and validation and test):
        raise DataError("there are too few texts to hold some out", where=", ".join(one.file for one in sources))
    return Parts(train[:most], validation, test, sources)


def _sorted(examples: Iterable[Example]) -> list[Example]:
    """In an order that has nothing to do with how they came, and is the same every time."""
    return sorted(examples, key=lambda one: hashlib.sha256(one.key.encode()).digest())


def _unique(examples: Iterable[Example]) -> list[Example]:
    """Each text once; one that is empty, or has two classes, not at all."""
    labels: dict[str, set[str]] = {}
    first: dict[str, Example] = {}
    for one in examples:
        if re.search(r"\w", one.text):
            labels.setdefault(one.key, set()).add(one.label)
            first.setdefault(one.key, one)
    return [one for key, one in first.items() if len(labels[key]) == 1]


def _rows(path: Path, *columns: str) -> list[Row]:
    rows = list(read_rows([path]))
    for row in rows:
        if missing := next((name for name in columns if not isinstance(row.values.get(name), str)), None):
            raise DataError(f"there is no column '{missing}'", where=row.where)
    return rows


def _label(row: Row, column: str, kinds: dict[str, str]) -> str:
    value = row.values[column].strip()
    if value not in kinds:
        raise DataError(f"'{column}' must be one of {', '.join(kinds)}, not '{value}'", where=row.where)
    return kinds[value]


def _one_of(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _source(path: Path, licence: str, about: str) -> Source:
    return Source(file=path.name, licence=licence, sha256=sha256_file(path), about=about)
