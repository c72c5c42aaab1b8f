"""A decoder on any device the framework knows: the model's own code over pages of keys and values.

Sequences that decode go through one pass, and each part of a prompt through one of its own, so that what a sequence gets
depends little on its neighbours; how far, engine.py says. On CUDA passes of sequences that decode are recorded and replayed
(static_step.py), and prompts that begin share one pass, since there a short one by itself leaves most of the device idle.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.packed import Packed
from ..model.transformer import Transformer
from .adapters import Adapter
from .packed_model import PackedModel, Prepared
from .pages import PAGE
from .static_step import StaticSteps, static_steps

# Sequences that decode in one pass on a CPU. Up to here bfloat16 products give each row the same bits however many
# rows there are (measured: AMX, oneDNN of torch 2.13), and the weights are read once for all of them anyway.
CPU_ROWS = 32
# Keys a pass looks at are filled up to a multiple of this, so that sequences of all lengths share a few kernels.
SMALLEST = 64

log = logging.getLogger(__name__)


def room_for(tokens: int) -> int:
    """The length that a decoding sequence's keys are filled up to: a power of two, which depends on it alone."""
    return max(SMALLEST, 1 << (tokens - 1).bit_length())


class TorchDecoder:
    """Runs passes over pages of keys and values; the model it was made from is left as it is.

    Args:
        model: any with a language-model head.
        pages: how many there are, numbered from 1.
        steps: makes the passes of fixed shapes, where they run, from the model, the keys and the values.
    """

    def __init__(
        self,
        model: Transformer,
        pages: int,
        steps: Callable[[PackedModel, Tensor, Tensor], StaticSteps | None] | None = None,
    ) -> None:
        self._model = PackedModel(model)
        config = model.config
        self.config, self.device = config, model.device
        self._rows = CPU_ROWS if model.device.type == "cpu" else 1 << 30
        # Page 0 is nobody's, and its first slot zeros: what fills keys up is taken from there.
        shape = (config.layers, config.kv_heads, (pages + 1) * PAGE, config.head_width)
        self._keys, self._values = (torch.zeros(shape, dtype=self._model.dtype, device=self.device) for _ in range(2))
        self._steps = (steps or static_steps)(self._model, self._keys, self._values)
        if self._steps is not None:
            self._rows = self._steps.most_rows
        # The framework's attention over several texts at once knows no other heads.
        self._joins = self._steps is not None and config.head_width % 8 == 0 and config.head_width <= 256

    @property
    def kind(self) -> str:
        """The dtype it computes in."""
        return str(self._model.dtype).removeprefix("torch.")

    @property
    def weight_bytes(self) -> int:
        """What a pass reads of weights."""
        return self._model.weight_bytes

    def reserve(self) -> None:
        """Takes all pages' memory now, rather than page by page as they are first used."""
        self._keys.zero_()
        self._values.zero_()

    def prepared(self, adapter: Adapter) -> Prepared:
        """The adapter in the dtype that it computes in, on its device."""
        return self._model.prepared(adapter)

    @torch.inference_mode()
    def __call__(
        self,
        ids: Sequence[int],
        places: Sequence[int],
        starts: Sequence[int],
        pages: Sequence[Sequence[int]],
        speaking: Sequence[int],
        adapters: Sequence[Any] = (),
    ) -> Tensor:
        """See ``Decoder``."""
        speaks = set(speaking)
        said: list[int] = []
        logits: list[Tensor] = []
        for work in self._passes(starts, places):
            rows = [row for s in work for row in range(starts[s], starts[s + 1])]
            tokens, positions = ([values[row] for row in rows] for values in (ids, places))
            own = [pages[s] for s in work]
            self._model.adapt([adapters[s] for s in work for _ in range(starts[s], starts[s + 1])] if adapters else [])
            hidden = self._at_fixed_shapes(tokens, positions, own, bool(adapters)) if len(rows) == len(work) else None
            if hidden is None:
                parts = [_Part(pages[s], places[starts[s]], starts[s + 1] - starts[s]) for s in work]
                together = self._joins and all(part.past == 0 and part.new > 1 for part in parts)
                context = (_Beginnings if together else _Pages)(self._keys, self._values, parts)
                hidden = self._model(
                    torch.tensor(tokens, device=self.device), torch.tensor(positions, device=self.device), context
                )
            wanted = [place for place, row in enumerate(rows) if row in speaks]
            if wanted:
                said += [rows[place] for place in wanted]
                logits.append(self._model.logits_of(hidden if len(wanted) == len(rows) else hidden[wanted]))
        if not speaking:
            return torch.empty(0, self.config.vocab_size, device=self.device)
        whole = logits[0] if len(logits) == 1 else torch.cat(logits)
        order = sorted(range(len(said)), key=said.__getitem__)
        return whole if order == list(range(len(said))) else whole[order]

    def _at_fixed_shapes(
        self, tokens: Sequence[int], positions: Sequence[int], pages: Sequence[Sequence[int]], adapted: bool
    ) -> Tensor | None:
        """A token of each of several sequences, where such passes run: [sequences, width]."""
        if self._steps is None:
            return None
        try:
            return self._steps(tokens, positions, pages, adapted)
        except torch.OutOfMemoryError:
            raise
        except Exception:
            # Written again, keys and values are the same: the pass is simply done the other way.
            log.exception("decoding passes of fixed shapes do not run on this device, so they are slower")
            self._steps = None
            return None

    def _passes(self, starts: Sequence[int], places: Sequence[int]) -> list[list[int]]:
        """Sequences by their numbers, pass by pass."""
        several = [s for s in range(len(starts) - 1) if starts[s + 1] - starts[s] > 1]
        one = [s for s in range(len(starts) - 1) if starts[s + 1] - starts[s] == 1]
        together = [s for s in several if places[starts[s]] == 0] if self._joins else []
        alone = [[s] for s in several if s not in together]
        return [
            *(one[at : at + self._rows] for at in range(0, len(one), self._rows)),
            *([together] if together else []),
            *alone,
        ]


@dataclass
class _Part:
    """Some new tokens of one sequence: its pages, how many tokens came before, how many are new."""

    pages: Sequence[int]
    past: int
    new: int

    def slots(self, start: int, end: int, length: int) -> Tensor:
        """Where its tokens from start to end lie, and zeros up to ``length``: [length] int64."""
        first = start // PAGE
        pages = torch.tensor(self.pages[first : -(-end // PAGE)])
        own = (pages.unsqueeze(1) * PAGE + torch.arange(PAGE)).flatten()[start - first * PAGE : end - first * PAGE]
        return F.pad(own, (0, length - len(own)))


@dataclass
class _Pages:
    """The attention context of one pass (model/attention.py); writes its keys and values, then attends over all."""

    keys: Tensor
    values: Tensor
    parts: Sequence[_Part]
    # What is the same in every layer, or in every layer of a window.
    _made: dict[object, Any] = field(default_factory=dict)

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
        scores = _Scores(scale, softcap)
        new = self._once("new", lambda: torch.cat([p.slots(p.past, p.past + p.new, p.new) for p in self.parts]))
        self.keys[layer].index_copy_(1, new, k.transpose(0, 1))
        self.values[layer].index_copy_(1, new, v.transpose(0, 1))
        if len(self.parts) == 1 and self.parts[0].new > 1:
            return self._several(layer, q, window, scores)
        return self._one_each(layer, q, window, scores)

    def _once(self, name: object, make: Callable[[], Any]) -> Any:
        """What ``make`` makes, on the cache's device; once for all layers."""
        if name not in self._made:
            made = make()
            self._made[name] = made.to(self.keys.device) if isinstance(made, Tensor) else made
        return self._made[name]

    def _several(self, layer: int, q: Tensor, window: int | None, scores: _Scores) -> Tensor:
        """A part of a prompt."""
        (part,) = self.parts
        end = part.past + part.new
        # With a window the first new token sees back to here, and no other further.
        first = 0 if window is None else max(0, part.past + 1 - window)
        # Rounded: queries that are nobody's come after the real ones, and keys that are nobody's are zeros that no real
        # query sees.
        first, last = first // SMALLEST * SMALLEST, -(-end // SMALLEST) * SMALLEST
        queries = last if part.past == 0 and first == 0 else -(-part.new // SMALLEST) * SMALLEST
        slots = self._once(("several", first), lambda: part.slots(first, end, last - first))
        group = q.shape[1] // self.keys.shape[1]
        keys, values = (x[layer][:, slots][None].repeat_interleave(group, 1) for x in (self.keys, self.values))
        q = F.pad(q, (0, 0, 0, 0, 0, queries - part.new)).transpose(0, 1).unsqueeze(0)
        mask = self._once(("mask", window), partial(_mask, part, first, last, queries, window))
        out = scores.attention(q, keys, values, mask)
        return out[0, :, : part.new].transpose(0, 1)

    def _one_each(self, layer: int, q: Tensor, window: int | None, scores: _Scores) -> Tensor:
        """A token of each of several sequences, those of about one length in one product."""
        out = torch.empty_like(q)
        for size, rows in self._once("sizes", self._by_size).items():
            slots = self._once(("one", size), partial(self._whole, rows, size))
            index = self._once(("rows", size), partial(torch.tensor, rows))
            bias = self._once(("bias", size, window), partial(self._bias, rows, size, window, q.dtype))
            # [sequences, kv_heads, size, head_width]
            keys, values = (x[layer][:, slots].transpose(0, 1) for x in (self.keys, self.values))
            # The query heads of a group look at the same keys, so they are the rows of one product. With one query row
            # a head the keys would be read once for every head of the group.
            grouped = q[index].unflatten(1, (keys.shape[1], -1))
            out[index] = scores.attention(grouped, keys, values, bias).flatten(1, 2)
        return out

    def _by_size(self) -> dict[int, list[int]]:
        """The parts by the length that their keys are filled up to."""
        found: dict[int, list[int]] = {}
        for row, part in enumerate(self.parts):
            found.setdefault(room_for(part.past + 1), []).append(row)
        return found

    def _whole(self, rows: Sequence[int], size: int) -> Tensor:
        """Where all tokens of these parts lie: [parts, size]."""
        return torch.stack([self.parts[row].slots(0, self.parts[row].past + 1, size) for row in rows])

    def _bias(self, rows: Sequence[int], size: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """0 for the keys a part's new token sees and -inf for the others: [parts, 1, 1, size]."""
        length = torch.tensor([self.parts[row].past + 1 for row in rows]).unsqueeze(1)
        place = torch.arange(size)
        hidden = place >= length
        if window is not None:
            hidden |= place < length - window
        return torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, float("-inf"))[:, None, None, :]


class _Beginnings:
    """The attention context of a pass over several prompts from their first token on: each sees itself alone.

    Arguments as ``_Pages``.
    """

    def __init__(self, keys: Tensor, values: Tensor, parts: Sequence[_Part]) -> None:
        self._keys, self._values = keys, values
        self._slots = torch.cat([part.slots(0, part.new, part.new) for part in parts]).to(keys.device)
        self._packed = Packed(list(itertools.accumulate((part.new for part in parts), initial=0)))

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
        self._keys[layer].index_copy_(1, self._slots, k.transpose(0, 1))
        self._values[layer].index_copy_(1, self._slots, v.transpose(0, 1))
        return self._packed.attend(layer, q, k, v, window, scale=scale, softcap=softcap)


def _mask(part: _Part, first: int, last: int, queries: int, window: int | None) -> Tensor | None:
    """Which of the keys from ``first`` to ``last`` each query sees: [queries, keys]; None for all up to itself."""
    if not part.past and (window is None or window >= part.new):
        return None
    back = torch.arange(part.past, part.past + queries).unsqueeze(1) - torch.arange(first, last)
    return back >= 0 if window is None else (back >= 0) & (back < window)


@dataclass(frozen=True)
class _Scores:
    """How a model's scores are scaled and bent before the softmax; None is the usual."""

    scale: float | None
    softcap: float | None

    def attention(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """q, keys, values: [sequences, heads, tokens, head_width]; mask: which keys a query sees, or what is added."""
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
