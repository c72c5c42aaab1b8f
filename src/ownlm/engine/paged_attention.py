"""Attention of one new token of each of several sequences over keys and values in pages, of shapes that never change.

Everything that differs from step to step (how long a sequence is, where its pages lie) is read from tensors on the device,
so a pass made of this can be recorded once and replayed. Two compute it: the framework, plainly, which tests compare with
and which runs anywhere; and a kernel (triton_attention.py), which reads only the pages that a sequence has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .pages import PAGE
from .triton_ready import triton_runs


class PagedAttention(Protocol):
    """One layer's attention of a decoding pass."""

    def __call__(
        self,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        table: Tensor,
        lengths: Tensor,
        *,
        window: int | None = None,
        scale: float | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """The new tokens' attention over all of their sequences' tokens, themselves included.

        Args:
            q: [sequences, heads, head_width], each head's values side by side.
            keys: [kv_heads, slots, head_width]; a page is 32 slots one after another. Several heads share one of keys.
            values: as ``keys``.
            table: the pages of each sequence, in order: [pages, sequences], whole numbers. What stands behind a
                sequence's last page may be anything that is a page.
            lengths: how many tokens each has: [sequences], whole numbers; 0 is nobody's row, which comes out as zeros.
            window: how many tokens back a token sees, itself included; None is all.
            scale: what scores are multiplied by; None is 1 / sqrt(head_width).
            softcap: scores are bent to within it.

        Returns:
            [sequences, heads, head_width]
        """
        ...


def by_framework(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    table: Tensor,
    lengths: Tensor,
    *,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """See ``PagedAttention``; it gathers all pages that the table has room for, in float32."""
    kv_heads, _, width = keys.shape
    scale = width**-0.5 if scale is None else scale
    places = torch.arange(len(table) * PAGE, device=q.device)
    # [sequences, places]
    slots = table.long().t()[:, places // PAGE] * PAGE + places % PAGE
    hidden = places >= lengths.unsqueeze(1)
    if window is not None:
        hidden = hidden | (places < lengths.unsqueeze(1) - window)
    # [sequences, kv_heads, places, head_width]. What nobody wrote may be no number at all, and 0 times that is none.
    gathered = (x[:, slots].transpose(0, 1).float() for x in (keys, values))
    key, value = (x.masked_fill(hidden[:, None, :, None], 0) for x in gathered)
    scores = q.float().unflatten(1, (kv_heads, -1)) @ key.transpose(-2, -1) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = scores.masked_fill(hidden[:, None, None, :], float("-inf")).softmax(-1)
    out = (weights.nan_to_num(0.0) @ value).flatten(1, 2)
    return out.to(q.dtype)


def kernel_for(device: torch.device) -> PagedAttention | None:
    """The kernel where one runs: on CUDA with Triton."""
    if not triton_runs(device):
        return None
    from .triton_attention import by_kernel

    return by_kernel


@dataclass(frozen=True)
class PagedRows:
    """The attention context (model/attention.py) of a pass over one new token of each of several sequences.

    Attributes:
        keys: of all layers: [layers, kv_heads, slots, head_width].
        values: alike.
        slots: where each new token's keys and values go: [sequences].
        table: as ``PagedAttention`` has it.
        lengths: alike.
        attention: that computes.
    """

    keys: Tensor
    values: Tensor
    slots: Tensor
    table: Tensor
    lengths: Tensor
    attention: PagedAttention

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
        """See AttentionContext.attend."""
        self.keys[layer].index_copy_(1, self.slots, k.transpose(0, 1))
        self.values[layer].index_copy_(1, self.slots, v.transpose(0, 1))
        return self.look(layer, q, window, scale=scale, softcap=softcap)

    def look(
        self, layer: int, q: Tensor, window: int | None, *, scale: float | None = None, softcap: float | None = None
    ) -> Tensor:
        """The same where the new tokens' keys and values are in their places already."""
        keys, values = self.keys[layer], self.values[layer]
        return self.attention(q, keys, values, self.table, self.lengths, window=window, scale=scale, softcap=softcap)
