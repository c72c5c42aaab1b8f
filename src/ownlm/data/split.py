"""Which documents are trained on, and which are held out: by hash, so that nothing alike is divided."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ..config import Config
from .duplicates.components import components
from .words import Integers

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "validation", "test")
_TRAIN, _VALIDATION, _TEST = range(3)


class SplitOptions(Config):
    """How documents are divided."""

    validation: float = Field(default=0.02, ge=0.0, lt=1.0)
    """Share of the documents to choose settings by."""

    test: float = Field(default=0.02, ge=0.0, lt=1.0)
    """Share of the documents to be looked at once, at the end."""

    salt: str = "ownlm"
    """Another word gives another division."""

    group: bool = True
    """Keep the records that share a group, such as a customer or a conversation, in one split, where they have one."""

    @model_validator(mode="after")
    def _leaves_some(self) -> SplitOptions:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave nothing to train on")
        return self


def assign(clusters: pa.Array, groups: pa.Array | None, options: SplitOptions) -> NDArray[np.uint8]:
    """The split of each document, a place in ``SPLITS``: uint8[documents].

    Documents of one cluster, or of one group, or linked through several of them, go together. Where they go is decided
    by the hash of their smallest group, or of their smallest cluster where none has a group. So a document stays where
    it is when documents are added that have nothing to do with it, or one share is raised; and it stays with its group
    whatever cluster joins.

    Args:
        clusters: string[documents], the id of each one's cluster; none may be null.
        groups: string[documents], null for a document without a group; or None.
        options: the shares, which are reached as closely as chance and the sizes of clusters allow.
    """
    cluster, cluster_names = _codes(clusters)
    keys = [b"cluster:" + name.encode() for name in cluster_names]
    labels = np.arange(len(keys))
    if groups is not None and options.group:
        group, group_names = _codes(groups)
        grouped = np.flatnonzero(group >= 0)
        # Groups are numbered before clusters, so that the smallest of a component is a group where it has one.
        cluster = cluster + len(group_names)
        keys = [b"group:" + name.encode() for name in group_names] + keys
        labels = components(len(keys), group[grouped], cluster[grouped])
    roots = np.unique(labels[cluster])
    point = np.zeros(len(keys))
    point[roots] = [_point(options.salt, keys[root]) for root in roots.tolist()]
    place = point[labels[cluster]]
    split = np.full(len(cluster), _TRAIN, np.uint8)
    # From both ends, so that raising one share leaves the other as it is.
    split[place < options.validation] = _VALIDATION
    split[place >= 1 - options.test] = _TEST
    return split


def empty_splits(split: NDArray[np.uint8], options: SplitOptions) -> list[str]:
    """The splits that were asked for and got no document, as happens with few documents or one large cluster."""
    counts = np.bincount(split, minlength=len(SPLITS))
    wanted = (True, options.validation > 0, options.test > 0)
    return [name for name, count, asked in zip(SPLITS, counts.tolist(), wanted, strict=True) if asked and not count]


def _codes(names: pa.Array) -> tuple[Integers, list[str]]:
    """Each name as its place among the sorted names, and these; -1 for null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(names, pa.ChunkedArray):
        names = names.combine_chunks()
    encoded = names.cast(pa.large_string()).dictionary_encode()
    # Sorted by bytes, which for UTF-8 is the order of code points on every machine.
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    place = np.empty(len(order) + 1, np.int64)
    place[order] = np.arange(len(order))
    place[-1] = -1
    codes = pc.fill_null(encoded.indices, len(order)).to_numpy()
    return place[codes], encoded.dictionary.take(pa.array(order)).to_pylist()


def _point(salt: str, key: bytes) -> float:
    """A number in [0, 1) that depends on nothing but the salt and the key, in this and every later version."""
    content = salt.encode() + b"\0" + key
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()[:6], "big") / 2**48
