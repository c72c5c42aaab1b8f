"""Keys and values of what the running sequences have read, and attention over them.

A sequence lives on a *shelf* with others of similar length: a shelf has room for so many tokens in each of its slots,
a power of two, and a sequence that outgrows its slot moves to the next shelf. A shelf's used slots are neighbours in
one tensor, so the sequences that decode together are one batched product with no copying; and since that product has
the shelf's length and not the longest neighbour's, what a sequence gets does not depend on who its neighbours are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.config import ModelConfig

SMALLEST = 64


def room_for(tokens: int) -> int:
    """The slot length of the shelf for so many tokens."""
    return max(SMALLEST, 1 << (tokens - 1).bit_length())


@dataclass(eq=False)
class Row:
    """One sequence's place in the cache; it may change with every ``begin`` and ``close``."""

    shelf: Shelf
    slot: int
    length: int = 0


class Shelf:
    """Slots of one length.

    keys, values: [layers, slots, kv_heads, capacity, head_width]; the rows use the first ``len(rows)`` slots.
    """

    def __init__(self, config: ModelConfig, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        self.capacity = capacity
        self.rows: list[Row] = []
        shape = (config.layers, 0, config.kv_heads, capacity, config.head_width)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def slots(self) -> int:
        """How many sequences the tensors have room for."""
        return self.keys.shape[1]

    def place(self, row: Row) -> None:
        """Gives a row the next slot; its tokens, if any, come with it."""
        if len(self.rows) == self.slots:
            self._grow(max(1, 2 * self.slots))
        slot, length = len(self.rows), row.length
        if length:
            self.keys[:, slot, :, :length] = row.shelf.keys[:, row.slot, :, :length]
            self.values[:, slot, :, :length] = row.shelf.values[:, row.slot, :, :length]
            row.shelf.drop(row)
        self.rows.append(row)
        row.shelf, row.slot = self, slot

    def drop(self, row: Row) -> None:
        """Frees a row's slot; the last row moves into it, so that the used ones stay neighbours.

        What lies beyond a row's length is always zero: attention gives it no weight, but no weight does not silence
        an infinity that someone else left there.
        """
        last = self.rows.pop()
        longest = max(row.length, last.length)
        for kept in (self.keys, self.values):
            if last is not row:
                kept[:, row.slot, :, :longest] = kept[:, last.slot, :, :longest]
            kept[:, last.slot, :, : last.length] = 0
        if last is not row:
            self.rows[row.slot] = last
            last.slot = row.slot
        if not self.rows:
            self._grow(0)

    def _grow(self, slots: int) -> None:
        """Room for so many sequences; both tensors or, where memory runs out, neither."""
        used = min(slots, self.slots)
        shape = (self.keys.shape[0], slots, *self.keys.shape[2:])
        keys, values = self.keys.new_zeros(shape), self.values.new_zeros(shape)
        keys[:, :used], values[:, :used] = self.keys[:, :used], self.values[:, :used]
        self.keys, self.values = keys, values


class KVCache:
    """The cache of a model's running sequences.

    Args:
        config: of the model.
        dtype: of keys and values.
        device: where they are.
    """

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        self._config, self._dtype, self._device = config, dtype, device
        self._shelves: dict[int, Shelf] = {}

    @property
    def tokens(self) -> int:
        """How many tokens are held."""
        return sum(row.length for shelf in self._shelves.values() for row in shelf.rows)

    @property
    def memory_bytes(self) -> int:
        """How much memory the shelves take."""
        return sum(2 * shelf.keys.nbytes for shelf in self._shelves.values())

    def open(self, tokens: int) -> Row:
        """An empty row with room for so many tokens at first."""
        shelf = self._shelf(room_for(tokens))
        row = Row(shelf, -1)
        shelf.place(row)
        return row

    def close(self, row: Row) -> None:
        """Forgets a sequence."""
        row.shelf.drop(row)

    def begin(self, work: Sequence[tuple[Row, int]]) -> CachePass:
        """A forward pass's attention context: so many new tokens of each row, side by side in this order.

        The rows count their new tokens from here on.
        """
        for row, new in work:
            if row.length + new > row.shelf.capacity:
                self._shelf(room_for(row.length + new)).place(row)
        parts: list[_Part] = []
        start = 0
        for row, new in work:
            past, row.length = row.length, row.length + new
            if new == 1 and parts and (run := parts[-1]) and isinstance(run, _OneEach) and run.continues(row):
                run.lengths.append(row.length)
            elif new == 1:
                parts.append(_OneEach(start, row.shelf, row.slot, [row.length]))
            else:
                parts.append(_Several(start, row.shelf, row.slot, past, new))
            start += new
        return CachePass(parts)

    def _shelf(self, capacity: int) -> Shelf:
        if capacity not in self._shelves:
            self._shelves[capacity] = Shelf(self._config, capacity, self._dtype, self._device)
        return self._shelves[capacity]


class CachePass:
    """The attention context of one forward pass (model/attention.py); writes the cache, then attends over it."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = parts

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
        bent = _Scores(scale, softcap)
        parts = [part.attend(layer, q[part.rows], k[part.rows], v[part.rows], window, bent) for part in self._parts]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


@dataclass(frozen=True)
class _Scores:
    """How a model's scores are scaled and bent before the softmax; None is the usual."""

    scale: float | None
    softcap: float | None

    def attention(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """q, keys, values: [sequences, heads, tokens, head_width]; mask: see _Several._mask and _OneEach._bias."""
        if self.softcap is None:
            causal = mask is None
            return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, is_causal=causal, scale=self.scale)
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        scores = self.softcap * torch.tanh((q @ keys.transpose(-2, -1)).float() * (scale / self.softcap))
        if mask is None:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=torch.float32).masked_fill_(~mask, float("-inf"))
        return (scores + mask).softmax(-1).to(q.dtype) @ values


@dataclass
class _Several:
    """Several new tokens of one sequence: a part of a prompt."""

    start: int
    shelf: Shelf
    slot: int
    past: int
    new: int
    masks: dict[int | None, Tensor | None] = field(default_factory=dict)

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.new)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None, scores: _Scores) -> Tensor:
        end = self.past + self.new
        keys, values = self.shelf.keys[layer, self.slot], self.shelf.values[layer, self.slot]
        keys[:, self.past : end] = k.transpose(0, 1)
        values[:, self.past : end] = v.transpose(0, 1)
        # With a window the first new token sees back to here, and no other further.
        first = 0 if window is None else max(0, self.past + 1 - window)
        # Rounded, so that prompts of all lengths share a few compiled kernels: queries that are nobody's come after the
        # real ones, and keys that are nobody's are zeros that no real query sees.
        first, end = first // SMALLEST * SMALLEST, -(-end // SMALLEST) * SMALLEST
        queries = end if self.past == 0 and first == 0 else -(-self.new // SMALLEST) * SMALLEST
        if window not in self.masks:
            self.masks[window] = self._mask(first, end, queries, window, q.device)
        mask = self.masks[window]
        # Each key head serves a group of query heads; all are [1, heads, tokens, head_width].
        group = q.shape[1] // k.shape[1]
        keys, values = (x[None, :, first:end].repeat_interleave(group, 1) for x in (keys, values))
        q = F.pad(q, (0, 0, 0, 0, 0, queries - self.new)).transpose(0, 1).unsqueeze(0)
        out = scores.attention(q, keys, values, mask)
        return out[0, :, : self.new].transpose(0, 1)

    def _mask(self, first: int, end: int, queries: int, window: int | None, device: torch.device) -> Tensor | None:
        """Which of the keys from ``first`` to ``end`` each query sees: [queries, keys]; None for all up to itself."""
        if self.past == 0 and (window is None or window >= self.new):
            return None
        place = torch.arange(self.past, self.past + queries, device=device).unsqueeze(1)
        back = place - torch.arange(first, end, device=device)
        return back >= 0 if window is None else (back >= 0) & (back < window)


@dataclass
class _OneEach:
    """One new token of each of several sequences in neighbouring slots of one shelf."""

    start: int
    shelf: Shelf
    slot: int
    lengths: list[int]
    places: tuple[Tensor, Tensor] | None = None
    biases: dict[int | None, Tensor] = field(default_factory=dict)

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + len(self.lengths))

    def continues(self, row: Row) -> bool:
        return row.shelf is self.shelf and row.slot == self.slot + len(self.lengths)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, window: int | None, scores: _Scores) -> Tensor:
        if self.places is None:
            lengths = torch.tensor(self.lengths, device=q.device)
            self.places = torch.arange(len(lengths), device=q.device), lengths - 1
        if window not in self.biases:
            self.biases[window] = self._bias(window, q)
        slots = slice(self.slot, self.slot + len(self.lengths))
        keys, values = self.shelf.keys[layer, slots], self.shelf.values[layer, slots]
        # [sequences, kv_heads, capacity, head_width], at each sequence's last place.
        order, place = self.places
        keys[order, :, place] = k
        values[order, :, place] = v
        # The query heads of a group look at the same keys, so they are the rows of one product. With one query row a
        # head the keys would be read once for every head of the group.
        grouped = q.unflatten(1, (k.shape[1], -1))
        out = scores.attention(grouped, keys, values, self.biases[window])
        return out.flatten(1, 2)

    def _bias(self, window: int | None, q: Tensor) -> Tensor:
        """0 for the keys a sequence's new token sees and -inf for the others: [sequences, 1, 1, capacity]."""
        lengths = torch.tensor(self.lengths, device=q.device).unsqueeze(1)
        place = torch.arange(self.shelf.capacity, device=q.device)
        hidden = place >= lengths
        if window is not None:
            hidden |= place < lengths - window
        return q.new_zeros(hidden.shape).masked_fill_(hidden, float("-inf"))[:, None, None, :]


_Part = _Several | _OneEach
