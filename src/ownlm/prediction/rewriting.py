"""Texts made from others by an encoder and a decoder: greedy or beam search with length penalty (Wu et al. 2016).

Every group of sources is as large as any other and its sources are filled up to one of a few lengths, so that what is
made of a text does not depend on what is asked beside it (see passes.py).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ModelError, UserError
from ..model.cross import Source, SourceTokens
from ..model.transformer import Transformer
from ..tokens.tokenizer import Tokenizer
from .heads import check_head

# Sources that are worked on together, and the step of the lengths they are filled up to.
GROUP, LENGTH_STEP = 8, 32
# A text may become this many tokens longer than its source (Vaswani et al. 2017, section 6.1).
LONGER = 50


@dataclass(frozen=True)
class RewriteOptions:
    """How texts are made.

    Attributes:
        beams: how many beginnings are followed at a time; 1 is greedy.
        length_penalty: alpha of Wu et al. 2016, equation 14: 0 prefers the likeliest text, which tends to be short.
        max_tokens: the most tokens of a text; None is those of its source and 50.
    """

    beams: int = 4
    length_penalty: float = 0.6
    max_tokens: int | None = None

    def penalty(self, length: int) -> float:
        """What the log-probability of a text of so many tokens, its end included, is divided by."""
        return ((5 + length) / 6) ** self.length_penalty


@dataclass(frozen=True)
class Rewritten:
    """What was made of a text.

    Attributes:
        text: the source.
        output: what was made of it.
        score: its log-probability in nats, divided by the length penalty.
    """

    text: str
    output: str
    score: float


@torch.no_grad()
def rewrite(
    model: Transformer, tokenizer: Tokenizer, texts: Sequence[str], options: RewriteOptions | None = None
) -> list[Rewritten]:
    """What the model makes of each text, whatever else is asked at the same time.

    Args:
        model: with an encoder and a decoder.
        tokenizer: its own.
        texts: none empty.
        options: how.

    Raises:
        UserError: an empty or over-long text, or an option out of range.
        ModelError: the model has another head.
    """
    options = options or RewriteOptions()
    check_head(model, "seq2seq")
    _check(options)
    model.eval()
    if tokenizer.eos_id is None or model.config.start_token is None:
        what = "this model does not say which token a text begins or ends with"
        hint = "name decoder_start_token_id in config.json and eos_token in tokenizer_config.json"
        raise ModelError(what, where=None if model.source is None else str(model.source), hint=hint)
    sources = [_source(model, tokenizer, text, number) for number, text in enumerate(texts, 1)]
    result: list[Rewritten | None] = [None] * len(texts)
    for places in _groups(list(map(len, sources))):
        # Filled up with the first, whose second answer is not looked at.
        members = places + places[:1] * (GROUP - len(places))
        search = _Search(
            model, model.config.start_token, tokenizer.eos_id, [sources[place] for place in members], options
        )
        for place, (score, ids) in zip(places, search.run(), strict=False):
            result[place] = Rewritten(texts[place], tokenizer.decode(ids).strip(), score)
    return [one for one in result if one is not None]


def _check(options: RewriteOptions) -> None:
    if options.beams < 1:
        raise UserError(f"must be at least 1 (got {options.beams})", where="beams")
    if options.max_tokens is not None and options.max_tokens < 1:
        raise UserError(f"must be at least 1 (got {options.max_tokens})", where="max_tokens")
    if not 0 <= options.length_penalty < math.inf:
        raise UserError(f"must be a finite number of at least 0 (got {options.length_penalty})", where="length_penalty")


def _source(model: Transformer, tokenizer: Tokenizer, text: str, number: int) -> list[int]:
    if not isinstance(text, str):
        raise UserError(f"text {number} is two texts, and this model reads one")
    ids = tokenizer.encode(text)
    if not text.strip() or not ids:
        raise UserError(f"text {number} is empty", hint="leave it out, or give it some words")
    assert tokenizer.eos_id is not None
    ids = [*ids, tokenizer.eos_id]
    if len(ids) > model.config.max_positions:
        longest = model.config.max_positions
        raise UserError(
            f"text {number} has {len(ids):,} tokens, and the model reads at most {longest:,}",
            hint="shorten or split it",
        )
    return ids


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """The places of sources that are worked on together: those of one filled length, ``GROUP`` at a time."""
    by_length: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        by_length.setdefault(_filled(length), []).append(place)
    for places in by_length.values():
        yield from (places[first : first + GROUP] for first in range(0, len(places), GROUP))


def _filled(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP


@dataclass
class _Text:
    """The texts of one source so far.

    Attributes:
        limit: the most tokens of one.
        beams: the ids of each beginning, likeliest first, without the start token.
        ended: whole ones with their scores, best first, at most as many as there are beams.
    """

    limit: int
    beams: list[list[int]]
    ended: list[tuple[float, list[int]]] = field(default_factory=list)
    done: bool = False


class _Search:
    """Beam search over a group of sources; rows are [sources x beams], those of a source side by side."""

    def __init__(
        self, model: Transformer, start: int, end: int, sources: Sequence[list[int]], options: RewriteOptions
    ) -> None:
        self._model, self._start, self._end, self._options = model, start, end, options
        most = model.config.max_positions - 1
        limits = [min(options.max_tokens or len(source) + LONGER, most) for source in sources]
        self._texts = [_Text(limit, [[] for _ in range(options.beams)]) for limit in limits]
        starts = list(itertools.accumulate(map(len, sources), initial=0))
        tokens = torch.tensor([token for source in sources for token in source], device=model.device)
        positions = torch.cat([torch.arange(len(source), device=model.device) for source in sources])
        hidden = model.encode(SourceTokens(tokens, positions, starts))
        looks = _Looks(starts, options.beams, _filled(max(map(len, sources))))
        self._source = Source(hidden, looks, kept={})
        self._past = _Past()
        # [sources, beams]: of each beginning, its log-probability. At first all are the same, so that one counts.
        self._scores = torch.full((len(sources), options.beams), -math.inf)
        self._scores[:, 0] = 0.0

    def run(self) -> list[tuple[float, list[int]]]:
        """The best text of each source, its ids without start and end, with its score."""
        last = torch.full((self._scores.numel(),), self._start, device=self._model.device)
        for step in range(max(text.limit for text in self._texts)):
            hidden = self._model(last, torch.full_like(last, step), self._past, source=self._source)
            chances = self._model.logits_of(hidden).log_softmax(-1)
            if self._start != self._end:
                # No text holds it: it only marks where one begins.
                chances[:, self._start] = -math.inf
            tokens, parents = self._go_on(chances.cpu(), step + 1)
            if all(text.done for text in self._texts):
                break
            self._past.choose(parents.to(last.device))
            last = tokens.to(last.device)
        return [max(text.ended, key=lambda one: one[0]) for text in self._texts]

    def _go_on(self, chances: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """One token more for every beginning: the new last tokens, and which row each goes on from; each [rows].

        chances: [rows, vocab] log-probabilities of the next token; length: of the texts, with it.
        """
        beams, vocab = self._options.beams, chances.shape[-1]
        sums = (chances.view(-1, beams, vocab) + self._scores.unsqueeze(-1)).flatten(1)
        # Half of twice as many may be ends, and as many beginnings as before are left.
        values, places = sums.topk(min(2 * beams, sums.shape[-1]))
        tokens, parents = torch.zeros(len(chances), dtype=torch.int64), torch.arange(len(chances))
        for number, text in enumerate(self._texts):
            if text.done:
                continue
            going: list[tuple[float, int, int]] = []
            for rank, (value, place) in enumerate(zip(values[number].tolist(), places[number].tolist(), strict=True)):
                parent, token = divmod(place, vocab)
                ends = token == self._end or length == text.limit
                if value == -math.inf or len(going) == beams:
                    break
                if ends and rank < beams:
                    ids = [*text.beams[parent], *([] if token == self._end else [token])]
                    text.ended.append((value / self._options.penalty(length), ids))
                elif not ends:
                    going.append((value, parent, token))
            text.ended = sorted(text.ended, key=lambda one: -one[0])[:beams]
            text.done = self._is_done(text, going, length)
            text.beams = [[*text.beams[parent], token] for _, parent, token in going]
            self._scores[number] = -math.inf
            for place, (value, parent, token) in enumerate(going):
                row = number * beams + place
                self._scores[number, place], tokens[row], parents[row] = value, token, number * beams + parent
            text.beams += [[]] * (beams - len(going))
        return tokens, parents

    def _is_done(self, text: _Text, going: list[tuple[float, int, int]], length: int) -> bool:
        """Whether no beginning can become better than the worst of as many whole texts as there are beams."""
        if not going:
            return True
        # Log-probabilities only fall, and at the limit they are divided by most.
        best = going[0][0] / self._options.penalty(text.limit)
        return len(text.ended) == self._options.beams and best <= text.ended[-1][0]


class _Past:
    """Self-attention of the newest token of each row over those before it, and itself."""

    def __init__(self) -> None:
        # Of each layer: [rows, kv_heads, tokens so far, head_width].
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

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
        k, v = k.unsqueeze(2), v.unsqueeze(2)
        if layer in self._kept:
            before = self._kept[layer]
            k, v = torch.cat((before[0], k), 2), torch.cat((before[1], v), 2)
        self._kept[layer] = k, v
        return F.scaled_dot_product_attention(q.unsqueeze(2), k, v, scale=scale).squeeze(2)

    def choose(self, rows: Tensor) -> None:
        """Every row goes on from another's past; rows: [rows]."""
        self._kept = {layer: (k[rows], v[rows]) for layer, (k, v) in self._kept.items()}


class _Looks:
    """Attention of every row over its own source, which those of one source share."""

    def __init__(self, starts: Sequence[int], beams: int, longest: int) -> None:
        self._starts, self._beams, self._longest = starts, beams, longest
        # Of each layer: [sources, kv_heads, longest, head_width].
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._mask: Tensor | None = None

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
        if self._mask is None:
            lengths = torch.tensor(self._starts, device=q.device).diff()
            self._mask = torch.arange(self._longest, device=q.device) < lengths.view(-1, 1, 1, 1)
        if layer not in self._kept:
            self._kept[layer] = self._by_source(k), self._by_source(v)
        keys, values = self._kept[layer]
        rows = q.unflatten(0, (-1, self._beams)).transpose(1, 2)
        out = F.scaled_dot_product_attention(rows, keys, values, attn_mask=self._mask, scale=scale)
        return out.transpose(1, 2).flatten(0, 1)

    def _by_source(self, x: Tensor) -> Tensor:
        """x: [source tokens, kv_heads, head_width] -> [sources, kv_heads, longest, head_width], zeros at the end."""
        parts = [F.pad(x[a:b], (0, 0, 0, 0, 0, self._longest - (b - a))) for a, b in itertools.pairwise(self._starts)]
        return torch.stack(parts).transpose(1, 2).contiguous()
