"""Attention over packed documents: each token sees its own document, and no other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# On a CPU the matrix library compiles, and keeps, a kernel of some 10 MB for every shape it meets. Lengths and row counts
# are therefore rounded up to a few sizes; without that, a run over texts of all lengths grows by gigabytes.
LENGTH_STEP = 64
ROW_STEPS = ((512, 64), (1 << 62, 256))


def rounded_rows(rows: int, device: torch.device) -> int:
    """How many rows a CPU should compute for so many tokens: a multiple of 64, above 512 of 256."""
    if device.type != "cpu":
        return rows
    step = next(step for limit, step in ROW_STEPS if rows <= limit)
    return -(-rows // step) * step


class Packed:
    """Causal attention inside each document of a packed batch; no token sees another document.

    On a CPU, documents are rounded up to a multiple of ``LENGTH_STEP`` (what is added comes after the document, where a
    causal query never looks) and those of one rounded length are one call. On CUDA the framework's variable-length
    kernel takes all of them at once.

    Args:
        document_starts: where each document begins, and the end of the last: [documents + 1], rising from 0.
        rows: how many rows queries will have; those after the last document belong to none and come out as zeros.
    """

    def __init__(self, document_starts: Sequence[int], rows: int | None = None) -> None:
        self.starts = list(document_starts)
        self.lengths = [end - start for start, end in itertools.pairwise(self.starts)]
        self.longest = max(self.lengths, default=0)
        self.rows = self.starts[-1] if rows is None else rows
        self.left_over = self.rows - self.starts[-1]
        self.uniform = len(set(self.lengths)) == 1 and not self.left_over
        self.groups: dict[int, list[int]] = {}
        for document, length in enumerate(self.lengths):
            self.groups.setdefault(-(-length // LENGTH_STEP) * LENGTH_STEP, []).append(document)
        self._device_starts: Tensor | None = None

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        """See AttentionContext.attend."""
        if window is not None and window >= self.longest:
            window = None
        if q.is_cuda and q.dtype in (torch.bfloat16, torch.float16):
            return self._variable_length(q, k, v, window)
        if self.uniform:
            return _same_length(q, k, v, len(self.lengths), window)
        # Split and joined again, not sliced: a slice's backward pass would make a whole gradient for each document.
        sizes = [*self.lengths, self.left_over]
        documents = [x.split(sizes) for x in (q, k, v)]
        results: list[Tensor] = [q.new_zeros(0)] * len(self.lengths)
        for length, members in self.groups.items():
            joined = [_joined([parts[i] for i in members], length) for parts in documents]
            out = _same_length(joined[0], joined[1], joined[2], len(members), window)
            cuts = [size for i in members for size in (self.lengths[i], length - self.lengths[i])]
            for document, part in zip(members, out.split(cuts)[::2], strict=True):
                results[document] = part
        if self.left_over:
            results.append(q.new_zeros(self.left_over, *q.shape[1:]))
        return torch.cat(results)

    def _variable_length(self, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        # CUDA only; the module does not exist in every build.
        from torch.nn.attention.varlen import varlen_attn

        if self.left_over:
            q, k, v = (x[: self.starts[-1]] for x in (q, k, v))
        if self._device_starts is None:
            self._device_starts = torch.tensor(self.starts, dtype=torch.int32, device=q.device)
        group = q.shape[1] // k.shape[1]
        if group > 1:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        starts, longest = self._device_starts, self.longest
        size = (-1 if window is None else window - 1, 0)
        out = varlen_attn(q, k, v, starts, starts, longest, longest, window_size=size)
        out = out[0] if isinstance(out, tuple) else out
        return F.pad(out, (0, 0, 0, 0, 0, self.left_over)) if self.left_over else out


def _joined(documents: Sequence[Tensor], length: int) -> Tensor:
    """Documents one after another, each filled with zeros to ``length``."""
    pieces = []
    for document in documents:
        pieces.append(document)
        if len(document) < length:
            pieces.append(document.new_zeros(length - len(document), *document.shape[1:]))
    return torch.cat(pieces)


def _same_length(q: Tensor, k: Tensor, v: Tensor, documents: int, window: int | None) -> Tensor:
    """Causal attention of documents of one length; q: [documents * length, heads, head_width]."""
    length = q.shape[0] // documents
    group = q.shape[1] // k.shape[1]
    # [documents, heads, length, head_width]
    q, k, v = (x.unflatten(0, (documents, length)).transpose(1, 2) for x in (q, k, v))
    if group > 1:
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    if window is None:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        place = torch.arange(length, device=q.device)
        back = place.unsqueeze(1) - place
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=(back >= 0) & (back < window))
    return out.transpose(1, 2).flatten(0, 1)
