"""Which things hang together, given pairs of them."""

from __future__ import annotations

import numpy as np

from ..words import Integers


def components(count: int, first: Integers, second: Integers) -> Integers:
    """The connected components of a graph: for each of ``count`` nodes the smallest node of its component, int64[count].

    In each round every component takes the smallest label next to it, and labels are followed to their end, as Shiloach
    and Vishkin (1982) do.
    """
    labels = np.arange(count, dtype=np.int64)
    while len(first):
        a, b = labels[first], labels[second]
        apart = a != b
        first, second, a, b = first[apart], second[apart], a[apart], b[apart]
        np.minimum.at(labels, np.maximum(a, b), np.minimum(a, b))
        while True:
            further = labels[labels]
            if np.array_equal(further, labels):
                break
            labels = further
    return labels
