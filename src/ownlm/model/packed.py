"""Attention over packed documents: each token sees its own document, and no other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..devices import on_device
from .kernels import calls

# On a CPU the matrix library compiles, and keeps, a kernel of some 10 MB for every shape it meets. Lengths and row counts
# are therefore rounded up to a few sizes; without that, a run over texts of all lengths grows by gigabytes.
LENGTH_STEP = 64
# Short documents are many, and a sentence of 14 tokens filled up to 64 would take five times as long.
SHORT_STEP, SHORT = 16, 64
ROW_STEPS = ((512, 64), (1 << 62, 256))

# Numbers in one head's queries of a document up to which bfloat16's backward pass is slower than float32's on a CPU.
WIDE_FASTER_UP_TO = 8192


def rounded_rows(rows: int, device: torch.device) -> int:
    """How many rows a CPU should compute for so many tokens: a multiple of 64, above 512 of 256."""
    if device.type != "cpu":
        return rows
    step = next(step for limit, step in ROW_STEPS if rows <= limit)
    return -(-rows // step) * step


class _ByDocument:
    """Queries of document ``i`` over keys of document ``i``, whatever lies beside them.

    Documents are rounded up to multiples of ``LENGTH_STEP``, what is added is masked out, and those of one rounded
    shape are one call. On CUDA the framework's variable-length kernel takes all of them at once where it can.
    """

    def __init__(self, query_starts: Sequence[int], key_starts: Sequence[int], causal: bool) -> None:
        self.query_starts, self.key_starts, self.causal = list(query_starts), list(key_starts), causal
        self.query_lengths = _lengths(self.query_starts)
        self.key_lengths = _lengths(self.key_starts)
        self.longest_query, self.longest_key = max(self.query_lengths, default=0), max(self.key_lengths, default=0)
        # Rounded shape -> the documents that have it.
        self.groups: dict[tuple[int, int], list[int]] = {}
        for document, (queries, keys) in enumerate(zip(self.query_lengths, self.key_lengths, strict=True)):
            assert keys or not queries, "queries without a key to look at"
            if queries:
                self.groups.setdefault((_rounded(queries), _rounded(keys)), []).append(document)
        self._device_starts: tuple[Tensor, Tensor] | None = None

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        window: int | None,
        *,
        softcap: float | None = None,
        scale: float | None = None,
    ) -> Tensor:
        """See AttentionContext.attend; rows after the last document belong to none and come out as zeros."""
        if window is not None and window >= max(self.longest_query, self.longest_key):
            window = None
        if q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) and softcap is None:
            return self._variable_length(q, k, v, window, scale)
        if calls.usable(q, k, v):
            return _KernelAttention.apply(q, k, v, self._kernel(window, softcap, scale or q.shape[-1] ** -0.5))
        left_over = len(q) - self.query_starts[-1]
        if len(self.groups) == 1 and not left_over and not len(k) - self.key_starts[-1]:
            ((queries, keys),) = self.groups
            if queries * len(self.query_lengths) == len(q) and keys * len(self.key_lengths) == len(k):
                members = range(len(self.query_lengths))
                allowed = self._allowed(members, queries, keys, window, q.device)
                causal = self.causal and allowed is None
                return _same_length(q, k, v, len(members), causal, allowed, softcap, scale)
        # Split and joined again, not sliced: a slice's backward pass would make a whole gradient for each document.
        sizes, key_sizes = [*self.query_lengths, left_over], [*self.key_lengths, len(k) - self.key_starts[-1]]
        documents, keys_of, values_of = q.split(sizes), k.split(key_sizes), v.split(key_sizes)
        results: list[Tensor] = [q.new_zeros(0, *q.shape[1:])] * len(self.query_lengths)
        for (queries, keys), group in self.groups.items():
            joined_q = _joined([documents[i] for i in group], queries)
            joined_k, joined_v = (_joined([parts[i] for i in group], keys) for parts in (keys_of, values_of))
            allowed = self._allowed(group, queries, keys, window, q.device)
            causal = self.causal and allowed is None
            out = _same_length(joined_q, joined_k, joined_v, len(group), causal, allowed, softcap, scale)
            cuts = [size for i in group for size in (self.query_lengths[i], queries - self.query_lengths[i])]
            for document, part in zip(group, out.split(cuts)[::2], strict=True):
                results[document] = part
        if left_over:
            results.append(q.new_zeros(left_over, *q.shape[1:]))
        return torch.cat(results)

    def _kernel(self, window: int | None, softcap: float | None, scale: float) -> calls.Attention:
        return calls.Attention(self.query_starts, self.key_starts, scale, softcap, self.causal, window)

    def _allowed(
        self, members: Sequence[int], queries: int, keys: int, window: int | None, device: torch.device
    ) -> Tensor | None:
        """Which keys each query sees, [documents or 1, 1, queries, keys]; None is all of them, or all before it."""
        filled = not self.causal and any(self.key_lengths[i] < keys for i in members)
        if window is None and not filled:
            return None
        query, key = torch.arange(queries, device=device).unsqueeze(1), torch.arange(keys, device=device)
        allowed = torch.ones(1, 1, queries, keys, dtype=torch.bool, device=device)
        if window is not None:
            back = query - key
            allowed = allowed & (back < window) & ((back >= 0) if self.causal else (back > -window))
        if filled:
            # A causal query never looks at what comes after its document.
            lengths = on_device([self.key_lengths[i] for i in members], device)
            allowed = allowed & (key < lengths.view(-1, 1, 1, 1))
            if window is not None:
                # A query that was added may see nothing within the window, and no key at all would be no number.
                allowed = allowed | (query == key)
        return allowed

    def _variable_length(self, q: Tensor, k: Tensor, v: Tensor, window: int | None, scale: float | None) -> Tensor:
        # CUDA only; the module does not exist in every build.
        from torch.nn.attention.varlen import varlen_attn

        left_over = len(q) - self.query_starts[-1]
        q, k, v = q[: self.query_starts[-1]], k[: self.key_starts[-1]], v[: self.key_starts[-1]]
        if self._device_starts is None:
            queries, keys = (
                on_device(starts, q.device, torch.int32) for starts in (self.query_starts, self.key_starts)
            )
            self._device_starts = (queries, keys)
        group = q.shape[1] // k.shape[1]
        if group > 1:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        side = -1 if window is None else window - 1
        size = (side, 0 if self.causal else side)
        starts, longest = self._device_starts, (self.longest_query, self.longest_key)
        out = varlen_attn(q, k, v, *starts, *longest, window_size=size, scale=scale)
        out = out[0] if isinstance(out, tuple) else out
        return F.pad(out, (0, 0, 0, 0, 0, left_over)) if left_over else out


class _KernelAttention(torch.autograd.Function):
    """Attention where kernels run (see kernels/); scores are made again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, kernel: calls.Attention) -> Tensor:
        out, log_sums = kernel.forward(q, k, v)
        ctx.save_for_backward(q, k, v, out, log_sums)
        ctx.kernel = kernel
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.kernel.backward(*ctx.saved_tensors, grad), None


class Packed(_ByDocument):
    """Attention inside each document of a packed batch; no token sees another document.

    Args:
        document_starts: where each document begins, and the end of the last: [documents + 1], rising from 0.
        rows: how many rows queries will have; those after the last document belong to none and come out as zeros.
        causal: whether a token sees only what stands before it and itself, or the whole document. With a ``window``
            and not causal it sees those fewer than ``window`` places away on either side.
    """

    def __init__(self, document_starts: Sequence[int], rows: int | None = None, *, causal: bool = True) -> None:
        super().__init__(document_starts, document_starts, causal)
        self.starts, self.lengths = self.query_starts, self.query_lengths
        self.rows = self.starts[-1] if rows is None else rows


class Cross(_ByDocument):
    """Every token of a packed target document sees the whole of its own source document (an encoder's output).

    Args:
        query_starts: where each target document begins, and the end of the last: [documents + 1], rising from 0.
        key_starts: the same of the source documents.
    """

    def __init__(self, query_starts: Sequence[int], key_starts: Sequence[int]) -> None:
        super().__init__(query_starts, key_starts, causal=False)


def _lengths(starts: Sequence[int]) -> list[int]:
    return [end - start for start, end in itertools.pairwise(starts)]


def _rounded(length: int) -> int:
    step = SHORT_STEP if length <= SHORT else LENGTH_STEP
    return -(-length // step) * step


def _joined(documents: Sequence[Tensor], length: int) -> Tensor:
    """Documents one after another, each filled with zeros to ``length``."""
    pieces = []
    for document in documents:
        pieces.append(document)
        if len(document) < length:
            pieces.append(document.new_zeros(length - len(document), *document.shape[1:]))
    return torch.cat(pieces)


def _is_faster_wide(q: Tensor) -> bool:
    """Whether attention over documents this short trains faster in float32; q: [documents, heads, length, head_width].

    The framework's bfloat16 backward pass on a CPU takes as long for 16 tokens as for 128: six times float32's time.
    """
    small = q.shape[-2] * q.shape[-1] <= WIDE_FASTER_UP_TO
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad and small


def _same_length(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    documents: int,
    causal: bool,
    allowed: Tensor | None,
    softcap: float | None,
    scale: float | None,
) -> Tensor:
    """Attention of documents of one length; q: [documents * queries, heads, head_width], k and v alike.

    allowed: [documents or 1, 1, queries, keys], or None, where ``causal`` alone decides.
    """
    group = q.shape[1] // k.shape[1]
    # [documents, heads, length, head_width]
    q, k, v = (x.unflatten(0, (documents, len(x) // documents)).transpose(1, 2) for x in (q, k, v))
    if group > 1:
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    if softcap is None:
        dtype = q.dtype
        if _is_faster_wide(q):
            q, k, v = q.float(), k.float(), v.float()
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, is_causal=causal, scale=scale).to(dtype)
    else:
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        scores = softcap * torch.tanh((q @ k.transpose(-2, -1)).float() * (scale / softcap))
        if causal:
            allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -torch.inf)
        out = scores.softmax(-1).to(q.dtype) @ v
    return out.transpose(1, 2).flatten(0, 1)
