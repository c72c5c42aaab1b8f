"""How likely a model finds texts: continuations after contexts, all prefixes that they share read once.

Sequences become a tree (prefix_tree.py), which is read in passes of one size (branches.py); logits are computed only
where a token is scored. Nothing is padded but the last pass, and nothing is cut: what is too long is an error here, and
who asks decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..engine.decoder import check_writes
from ..errors import DataError, ModelError
from ..model.transformer import Transformer
from .branches import Branches
from .prefix_tree import Node, prefix_tree

# Tokens of a pass: enough to keep the device busy.
CPU_TOKENS, DEVICE_TOKENS = 512, 8192
# Rows whose logits are held at a time.
LOGIT_ROWS = 128


@dataclass(frozen=True)
class Request:
    """A continuation to score after a context; both are ids, and neither is empty."""

    context: Sequence[int]
    continuation: Sequence[int]


@dataclass(frozen=True, eq=False)
class Likelihood:
    """How likely a continuation is.

    Attributes:
        logprobs: the logarithm of each token's probability, in nats: float64[tokens].
        greedy: whether each of its tokens is the one that the model finds likeliest.
    """

    logprobs: NDArray[np.float64]
    greedy: bool

    @property
    def logprob(self) -> float:
        """Of the whole continuation, in nats."""
        return float(self.logprobs.sum())


@torch.inference_mode()
def log_likelihoods(
    model: Transformer,
    requests: Sequence[Request],
    *,
    pass_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Likelihood]:
    """Scores continuations, in the order of the requests.

    Args:
        model: with a language-model head; runs in its ``compute_dtype``.
        requests: what is scored.
        pass_tokens: how many tokens the model reads at once.
        progress: called with the number of tokens read so far.

    Raises:
        ModelError: the model writes no text, or gave a logit that is no number.
        DataError: a request is empty, or longer than the model reads.
    """
    check_writes(model)
    model.eval()
    most = model.config.max_positions
    for number, request in enumerate(requests):
        if not request.context or not request.continuation:
            raise DataError("a context and a continuation have at least a token each", where=f"request {number}")
        if len(request.context) + len(request.continuation) > most + 1:
            length = len(request.context) + len(request.continuation)
            raise DataError(
                f"{length} tokens are more than the {most + 1} that the model scores", where=f"request {number}"
            )
    size = pass_tokens or (CPU_TOKENS if model.device.type == "cpu" else DEVICE_TOKENS)
    # The last token is predicted and not read.
    roots, ends = prefix_tree([[*request.context, *request.continuation[:-1]] for request in requests])
    plan = list(_passes(roots, size))
    questions = _questions(requests, ends)
    found = [np.empty(len(request.continuation)) for request in requests]
    greedy = [True] * len(requests)
    branches, read = Branches(), 0
    for nodes, later in plan:
        tokens = [token for node in nodes for token in node.tokens]
        places = [place for node in nodes for place in range(node.start, node.end)]
        more = [0] * (size - len(tokens)) if model.device.type == "cpu" else []
        positions = torch.tensor(places + more, device=model.device)
        branches.begin(nodes, later, positions)
        hidden = model(torch.tensor(tokens + more, device=model.device), positions, branches)
        asked: list[_Question] = []
        row = 0
        for node in nodes:
            asked += [question._replace(row=question.row + row) for question in questions.get(node, ())]
            row += len(node.tokens)
        for question, logprob, first in _answers(model, hidden, asked):
            found[question.request][question.place] = logprob
            greedy[question.request] &= first
        read += len(tokens)
        if progress is not None:
            progress(read)
    return [Likelihood(logprobs, first) for logprobs, first in zip(found, greedy, strict=True)]


class _Question(NamedTuple):
    """A token to score: the row that predicts it (of its node, or of its pass), and where its probability belongs."""

    row: int
    target: int
    request: int
    place: int


def _passes(roots: Sequence[Node], size: int) -> Iterator[tuple[list[Node], set[Node]]]:
    """Nodes in preorder, at most ``size`` tokens at a time, and those that are looked at after each pass.

    A node that does not fit is cut, so that every pass but the last is full.
    """
    unread = list(reversed(roots))
    nodes: list[Node] = []
    room = size
    while unread:
        node = unread.pop()
        if len(node.tokens) > room:
            unread.append(node)
            node = node.cut(room)
        else:
            unread += reversed(node.children)
        nodes.append(node)
        room -= len(node.tokens)
        if not room:
            yield nodes, _above(unread)
            nodes, room = [], size
    if nodes:
        yield nodes, set()


def _above(unread: Sequence[Node]) -> set[Node]:
    """All that stands before some of these nodes."""
    found: set[Node] = set()
    for parent in {node.parent for node in unread}:
        while parent is not None and parent not in found:
            found.add(parent)
            parent = parent.parent
    return found


def _questions(requests: Sequence[Request], ends: Sequence[Node]) -> dict[Node, list[_Question]]:
    """What is asked of each node's rows."""
    found: dict[Node, list[_Question]] = {}
    for number, (request, end) in enumerate(zip(requests, ends, strict=True)):
        first = len(request.context) - 1
        node: Node | None = end
        while node is not None and node.end > first:
            places = range(max(node.start, first), min(node.end, first + len(request.continuation)))
            found.setdefault(node, []).extend(
                _Question(place - node.start, request.continuation[place - first], number, place - first)
                for place in places
            )
            node = node.parent
    return found


def _answers(model: Transformer, hidden: Tensor, asked: Sequence[_Question]) -> Iterator[tuple[_Question, float, bool]]:
    """The logarithm of each asked token's probability, and whether no other is likelier."""
    rows = sorted({question.row for question in asked})
    for start in range(0, len(rows), LOGIT_ROWS):
        part = rows[start : start + LOGIT_ROWS]
        places = {row: place for place, row in enumerate(part)}
        here = [question for question in asked if question.row in places]
        # Filled up, so that a row's products are added up in one order whatever is asked beside it.
        index = torch.tensor(part + [part[-1]] * (LOGIT_ROWS - len(part)), device=hidden.device)
        logits = model.logits_of(hidden[index])
        which = torch.tensor([[places[question.row], question.target] for question in here], device=hidden.device)
        sums, first = logits.logsumexp(-1), logits.argmax(-1)
        logprobs = logits[which[:, 0], which[:, 1]].double() - sums[which[:, 0]].double()
        if not logprobs.isfinite().all():
            raise ModelError("the model gave logits that are no numbers", where=str(model.source or "model"))
        for question, logprob, best in zip(here, logprobs.tolist(), first[which[:, 0]].tolist(), strict=True):
            yield question, logprob, best == question.target
