"""Attention weights as they are, and what can be measured of them.

The model hands queries, keys and values to an attention context (model/attention.py); the one here computes weights
plainly in float32 and shows them to whoever asks, layer by layer, so that no layer's weights need be kept.

Heads are named by where their weight falls on this text, and by nothing else: a head that is named here may do something
else on another text, and weight on a token is no proof that the token mattered (Jain and Wallace 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..report.explained import Pattern

# A head is named after a pattern that gets at least this share of its weight, on average over the places ...
NAMED_FROM = 0.5
# ... and at least this many times what it would get if the weight were spread evenly over all that may be seen ...
TIMES_EVEN = 2.0
# ... where there are at least so many places to judge by.
LEAST_PLACES = 3

Seen = Callable[[int, Tensor, Tensor], None]
"""Called with a layer's number, its weights [heads, tokens, tokens], and which keys each query may see [tokens, tokens]."""


@dataclass(frozen=True)
class WatchedAttention:
    """An attention context of one document, which shows the weights of each layer before it goes on.

    Attributes:
        causal: whether a token sees only what stands before it and itself.
        seen: called once a layer. The weights of a layer take 4 x heads x tokens x tokens bytes.
    """

    causal: bool
    seen: Seen

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
        group = q.shape[1] // k.shape[1]
        # [heads, tokens, head_width]
        queries, keys, values = (x.float().transpose(0, 1) for x in (q, k, v))
        keys, values = keys.repeat_interleave(group, 0), values.repeat_interleave(group, 0)
        scores = queries @ keys.transpose(1, 2) * (q.shape[-1] ** -0.5 if scale is None else scale)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        visible = visible_keys(len(q), self.causal, window).to(q.device)
        weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
        self.seen(layer, weights, visible)
        return (weights @ values).transpose(0, 1).to(q.dtype)


def visible_keys(tokens: int, causal: bool, window: int | None) -> Tensor:
    """Which keys each query may see: bool[tokens, tokens]; a window is as in AttentionContext.attend."""
    place = torch.arange(tokens)
    back = place.unsqueeze(1) - place
    visible = back >= 0 if causal else torch.ones(tokens, tokens, dtype=torch.bool)
    if window is not None:
        visible = visible & (back < window) & (back > -window)
    return visible


@dataclass(frozen=True, eq=False)
class Targets:
    """What is looked for in a text's weights.

    Attributes:
        patterns: what each is called, and at how many places it can be seen.
        wanted: which keys belong to a pattern at each query: bool[patterns, tokens, tokens].
    """

    patterns: list[Pattern]
    wanted: Tensor

    def measure(self, weights: Tensor) -> Tensor:
        """The share of weight on each pattern, the mean over its places: [..., tokens, tokens] -> [..., patterns].

        A pattern with no place in this text is not a number.
        """
        wanted = self.wanted.to(weights.device)
        at = wanted.any(-1).to(weights.dtype)
        return torch.einsum("...qk,pqk->...p", weights, wanted.to(weights.dtype)) / at.sum(-1)

    def names(self, measured: Tensor, visible: Tensor) -> list[list[int]]:
        """The patterns that each head is named after, the strongest first.

        Args:
            measured: of each head: [heads, patterns].
            visible: which keys its queries may see: [tokens, tokens].
        """
        even = self.measure(visible.float() / visible.sum(-1, keepdim=True))
        enough = torch.tensor([pattern.places >= LEAST_PLACES for pattern in self.patterns], device=measured.device)
        named = (measured >= NAMED_FROM) & (measured >= TIMES_EVEN * even) & enough
        strongest = measured.argsort(dim=-1, descending=True).tolist()
        return [[place for place in order if row[place]] for order, row in zip(strongest, named.tolist(), strict=True)]


def find_targets(ids: Sequence[int], causal: bool, framed: Sequence[int] = ()) -> Targets:
    """The patterns that are looked for.

    Where two would be the same key (the token before is also the first) that place counts for neither.

    Args:
        ids: the text's.
        causal: whether the model sees only what stands before.
        framed: places of the special tokens after an encoder's text.
    """
    count = len(ids)
    tokens = torch.tensor(list(ids))
    query, key = torch.arange(count).unsqueeze(1), torch.arange(count)
    same = (tokens.unsqueeze(1) == tokens) & (key > 0) & ((query - key).abs() > 1)
    inside = torch.ones(count, dtype=torch.bool)
    inside[list(framed)] = False
    same = same & inside & inside.unsqueeze(1)
    follows = torch.zeros(count, count, dtype=torch.bool)
    follows[:, 1:] = tokens.unsqueeze(1) == tokens[:-1]
    earlier = key < query
    wanted = {
        ("F", "first token", "the text's first token, from the third on"): (key == 0) & (query > 1),
        ("P", "previous token", "the token right before, from the third on"): (key == query - 1) & (query > 1),
        ("I", "itself", "the token itself, from the second on"): (key == query) & (query > 0),
        ("S", "same token", "the same token elsewhere in the text, neither first nor next to it"): same
        & (earlier if causal else torch.ones_like(same)),
    }
    if causal:
        meaning = "what followed the same token earlier, as an induction head does, neither first nor right before"
        wanted["A", "after the same token", meaning] = follows & (key < query - 1) & (key > 0)
    else:
        wanted["N", "next token", "the token right after"] = (key == query + 1) & (query > 0)
        if framed:
            wanted["E", "end token", "the special token after the text"] = torch.isin(key, torch.tensor(framed)) & (
                query < min(framed) - 1
            )
    masks = torch.stack([mask.expand(count, count) for mask in wanted.values()])
    places = masks.any(-1).sum(-1).tolist()
    patterns = [Pattern(*names, number) for names, number in zip(wanted, places, strict=True)]
    return Targets(patterns, masks)
