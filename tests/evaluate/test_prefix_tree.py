"""Every sequence is the path to its node, nothing stands twice that is worth sharing, and cutting changes neither."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ownlm.evaluate.prefix_tree import LEAST_SAVED, Node, prefix_tree

SEQUENCES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=40), min_size=1, max_size=12)


def path_of(node: Node) -> list[int]:
    parts = [node, *node.ancestors()]
    return [token for part in reversed(parts) for token in part.tokens]


def all_nodes(roots: list[Node]) -> list[Node]:
    found, stack = [], list(roots)
    while stack:
        found.append(stack.pop())
        stack += found[-1].children
    return found


@given(SEQUENCES, st.integers(0, 2**32))
def test_each_sequence_is_the_path_to_its_end(sequences: list[list[int]], seed: int) -> None:
    roots, ends = prefix_tree(sequences)
    rng = random.Random(seed)
    for _ in range(2):
        assert [path_of(end) for end in ends] == sequences
        nodes = all_nodes(roots)
        assert set(ends) <= set(nodes) and all(node.tokens for node in nodes)
        assert all(child.parent is node and child.start == node.end for node in nodes for child in node.children)
        assert all(root.parent is None and root.start == 0 for root in roots)
        # Once more with some of them cut.
        for node in nodes:
            if len(node.tokens) > 1 and rng.random() < 0.3:
                upper = node.cut(rng.randrange(1, len(node.tokens)))
                roots = [upper if root is node else root for root in roots]


@given(SEQUENCES)
def test_what_is_worth_sharing_stands_once(sequences: list[list[int]]) -> None:
    roots, _ = prefix_tree(sequences)
    for siblings in [roots, *(node.children for node in all_nodes(roots))]:
        first = {}
        for node in siblings:
            first.setdefault(node.tokens[0], []).append(node)
        for alike in first.values():
            common = 0
            while (
                all(len(node.tokens) > common for node in alike) and len({node.tokens[common] for node in alike}) == 1
            ):
                common += 1
            assert len(alike) == 1 or common * (len(alike) - 1) < LEAST_SAVED


def test_a_prompt_with_four_answers_is_read_once() -> None:
    prompt = list(range(50))
    roots, ends = prefix_tree([[*prompt, 100 + n, 7] for n in range(4)] + [prompt])
    assert [root.tokens for root in roots] == [prompt] and ends[4] is roots[0]
    assert [node.tokens for node in roots[0].children] == [[100 + n, 7] for n in range(4)]
