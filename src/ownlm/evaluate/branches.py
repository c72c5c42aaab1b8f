"""Attention over a part of a prefix tree: each token sees what stands before it on its own branch, and no other.

In preorder all that follows a node lies side by side, so a node's keys meet the queries of everything below it in one
product. What a query gets from its own node and from each ancestor is put together by the parts' log-sums, as attention
in pieces is (Milakov and Gimelshein 2018; Dao et al. 2022).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .prefix_tree import Node


class Span(NamedTuple):
    """Rows of a node in a pass, from ``start`` to ``end``, and of all below it, up to ``last``."""

    start: int
    end: int
    last: int


class Branches:
    """The attention context (model/attention.py) of one pass after another over a tree.

    Keys and values of nodes that later passes look at are kept as long as they do.
    """

    def __init__(self) -> None:
        self._kept: dict[Node, dict[int, tuple[Tensor, Tensor]]] = {}
        self._spans: dict[Node, Span] = {}
        self._nodes: list[Node] = []
        self._later: list[Node] = []
        self._positions = torch.empty(0)

    def begin(self, nodes: Sequence[Node], later: Collection[Node], positions: Tensor) -> None:
        """Starts a pass.

        Args:
            nodes: what is read, in preorder; ancestors that are not among them were read before.
            later: of these and of those kept, the ones that passes after this one look at.
            positions: of each row's token in its sequence: [rows].
        """
        self._spans, self._nodes, self._positions = spans(nodes), list(nodes), positions
        needed = self._spans.keys() | set(later)
        self._kept = {node: kept for node, kept in self._kept.items() if node in needed}
        self._later = [node for node in nodes if node in later]
        self._kept |= {node: {} for node in self._later}

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        window: int | None,
        *,
        scale: float | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """See AttentionContext.attend; rows after the last node belong to none and come out as zeros."""
        scores = _Scores(q.shape[-1] ** -0.5 if scale is None else scale, softcap)
        out, log_sums = torch.zeros_like(q), q.new_full(q.shape[:2], -torch.inf, dtype=torch.float32)
        for node in self._nodes:
            start, end, _ = self._spans[node]
            mask = None if window is None or window >= end - start else _near(end - start, window, q.device)
            out[start:end], log_sums[start:end] = scores.attend(q[start:end], k[start:end], v[start:end], mask, True)
        for node in self._later:
            start, end, _ = self._spans[node]
            self._kept[node][layer] = (k[start:end].clone(), v[start:end].clone())
        for node, (start, end, last) in self._spans.items():
            if last == end:
                continue
            keys, values = self._kept[node][layer] if start == end else (k[start:end], v[start:end])
            mask = None if window is None else self._within(node, end, last, window)
            more, sums = scores.attend(q[end:last], keys, values, mask, False)
            _add(out[end:last], log_sums[end:last], more, sums)
        return out

    def _within(self, node: Node, start: int, end: int, window: int) -> Tensor | None:
        """Which of a node's keys the rows below it still see: [rows, keys]; None is all."""
        places = self._positions[start:end].unsqueeze(1) - torch.arange(
            node.start, node.end, device=self._positions.device
        )
        near = places < window
        return None if bool(near.all()) else near


def spans(nodes: Sequence[Node]) -> dict[Node, Span]:
    """Where the nodes of a pass lie, in preorder, and what is below their ancestors that were read before."""
    found: dict[Node, Span] = {}
    row = 0
    for node in nodes:
        end = row + len(node.tokens)
        found[node] = Span(row, end, end)
        for above in node.ancestors():
            # What lies above and was read before has no rows of its own here.
            start, own_end, _ = found.get(above, Span(row, row, row))
            found[above] = Span(start, own_end, end)
        row = end
    return found


class _Scores(NamedTuple):
    """How scores are scaled and bent before the softmax; softcap None is not at all."""

    scale: float
    softcap: float | None

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> tuple[Tensor, Tensor]:
        """What queries get of these keys alone, and the logarithm of their scores' sum.

        q: [queries, heads, head_width]; k, v: [keys, kv_heads, head_width]; mask: [queries, keys], which ones are seen;
        causal: query i sees keys up to i; with a mask, that says all. Returns [queries, heads, head_width], [queries, heads].
        """
        group = q.shape[1] // k.shape[1]
        if group > 1:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        # [1, heads, tokens, head_width]
        queries, keys, values = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        if q.device.type == "cpu" and self.softcap is None and mask is None:
            flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            out, sums = flash(queries, keys, values, 0.0, causal, scale=self.scale)
            return out[0].transpose(0, 1), sums[0].transpose(0, 1)
        scores = (queries @ keys.transpose(-2, -1)).float() * self.scale
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        if mask is None and causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        sums = scores.logsumexp(-1)
        # A query that sees none of these keys takes nothing from them.
        shares = (scores - sums.nan_to_num(neginf=0.0).unsqueeze(-1)).exp().to(q.dtype)
        return (shares @ values)[0].transpose(0, 1), sums[0].transpose(0, 1)


def _near(count: int, window: int, device: torch.device) -> Tensor:
    """A causal window: [count, count]."""
    back = torch.arange(count, device=device).unsqueeze(1) - torch.arange(count, device=device)
    return (back >= 0) & (back < window)


def _add(out: Tensor, log_sums: Tensor, more: Tensor, sums: Tensor) -> None:
    """Puts what queries get of further keys to what they have, in place; there is always something of their own."""
    highest = torch.maximum(log_sums, sums)
    have, new = (log_sums - highest).exp(), (sums - highest).exp()
    total = have + new
    out.copy_(out * (have / total).unsqueeze(-1) + more * (new / total).unsqueeze(-1))
    log_sums.copy_(highest + total.log())
