"""Sequences of tokens as a tree, in which what several begin with stands once.

    The capital of France is ─┬─ Paris          12 tokens rather than 20,
                              └─ Lyon           and so much less to compute

A model that reads from left to right computes the same for a token whatever comes after it. So a prompt with four
answers, and the examples before a thousand prompts, need be read once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

# Each shared part is a step of its own in every layer's attention: one that saves fewer tokens than this is not shared.
LEAST_SAVED = 16


@dataclass(eq=False)
class Node:
    """Tokens that some sequences have in common after those of all ancestors.

    Attributes:
        tokens: at least one.
        start: the position of the first.
        parent: what comes before; None at a beginning.
        children: what comes after, for sequences that go on.
    """

    tokens: Sequence[int]
    start: int
    parent: Node | None
    children: list[Node] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The position after the last token."""
        return self.start + len(self.tokens)

    def ancestors(self) -> Iterator[Node]:
        """Those that come before, from the nearest."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def cut(self, length: int) -> Node:
        """Makes the first ``length`` tokens a node of their own, which becomes this one's parent, and returns it."""
        upper = Node(self.tokens[:length], self.start, self.parent, [self])
        if self.parent is not None:
            siblings = self.parent.children
            siblings[siblings.index(self)] = upper
        self.tokens, self.start, self.parent = self.tokens[length:], self.start + length, upper
        return upper


def prefix_tree(sequences: Sequence[Sequence[int]]) -> tuple[list[Node], list[Node]]:
    """Arranges sequences as trees.

    Args:
        sequences: at least a token each, in any order; some may be equal, or begin with others.

    Returns:
        The trees' roots in the order of their tokens, and for each sequence the node that its last token stands in,
        always at the end.
    """
    order = sorted(range(len(sequences)), key=lambda i: tuple(sequences[i]))
    roots: list[Node] = []
    ends: dict[int, Node] = {}
    path: list[Node] = []
    before: Sequence[int] = ()
    for number in order:
        sequence = sequences[number]
        shared = _common(before, sequence)
        while path and path[-1].start >= shared:
            path.pop()
        if path and path[-1].end > shared:
            node = path.pop()
            was_root = node.parent is None
            path.append(node.cut(shared - node.start))
            if was_root:
                roots[-1] = path[-1]
        if len(sequence) > shared:
            parent = path[-1] if path else None
            node = Node(sequence[shared:], shared, parent)
            (roots if parent is None else parent.children).append(node)
            path.append(node)
        ends[number] = path[-1]
        before = sequence
    needed = set(ends.values())
    return _worthwhile(roots, needed), [ends[number] for number in range(len(sequences))]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    for place, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return place
    return min(len(a), len(b))


def _worthwhile(roots: list[Node], needed: set[Node]) -> list[Node]:
    """The trees with shared parts that save too little copied into what follows them."""
    kept: list[Node] = []
    for root in roots:
        stack = [root]
        tops = [root]
        while stack:
            node = stack.pop()
            if node.children and node not in needed and (len(node.children) - 1) * len(node.tokens) < LEAST_SAVED:
                for child in node.children:
                    child.tokens, child.start = [*node.tokens, *child.tokens], node.start
                    child.parent = node.parent
                siblings = tops if node.parent is None else node.parent.children
                place = siblings.index(node)
                siblings[place : place + 1] = node.children
            stack += node.children
        kept += tops
    return kept
