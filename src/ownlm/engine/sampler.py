"""Logits become tokens, in the order in which Transformers applies its processors:

    repetition penalty, temperature, top-k, top-p, min-p, and then a draw.

Every row of a step has its own options and its own random numbers, so what one answer draws does not depend on the
others. Where tokens are equally likely at a limit, all of them stay.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from .requests import SamplingOptions, TokenLogprob

# How many of the likeliest tokens are looked at first for top-p: sorting a whole vocabulary takes far longer.
NUCLEUS = 1024


class Draw:
    """What the sampler keeps of one answer, made when it is first needed: most of a long queue only waits.

    Args:
        options: how it is drawn.
        seed: with the prompt and ``index`` it decides every random number of the answer.
        prompt: token ids.
        index: which of the request's answers.
        vocab_size: how many logits there are.
        device: where the logits are.
    """

    def __init__(
        self,
        options: SamplingOptions,
        *,
        seed: int | None,
        prompt: Sequence[int],
        index: int,
        vocab_size: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.options = options
        self._seed, self._prompt, self._index = seed, prompt, index
        self._vocab_size, self._device = vocab_size, device

    @functools.cached_property
    def generator(self) -> torch.Generator:
        """The answer's own random numbers; on the CPU whatever the device, so that every machine draws the same."""
        text = f"{self._seed}/{self._index}/{list(self._prompt)}"
        digest = hashlib.sha256(text.encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)

    @functools.cached_property
    def seen(self) -> Tensor:
        """Which tokens the prompt and the answer so far have: [vocab] bool."""
        seen = torch.zeros(self._vocab_size, dtype=torch.bool, device=self._device)
        seen[torch.tensor(list(self._prompt), device=self._device)] = True
        return seen

    @property
    def penalised(self) -> bool:
        """Whether it matters what was seen."""
        return self.options.repetition_penalty != 1

    def took(self, token: int) -> None:
        """The answer goes on with this token."""
        if self.penalised:
            self.seen[token] = True


def sample(logits: Tensor, draws: Sequence[Draw]) -> list[int]:
    """The next token of each row.

    logits: [rows, vocab] float32, of which each row must have a finite greatest one; draws: one for each row.
    """
    logits = _penalised(logits, draws)
    tokens = logits.argmax(-1).tolist()
    drawn = [row for row, draw in enumerate(draws) if draw.options.temperature > 0]
    if drawn:
        scores = limited(logits[drawn], [draws[row].options for row in drawn])
        uniform = torch.stack([_uniform(draws[row].generator) for row in drawn]).to(logits.device)
        for row, token in zip(drawn, _draw(scores, uniform), strict=True):
            tokens[row] = token
    return tokens


def limited(logits: Tensor, options: Sequence[SamplingOptions]) -> Tensor:
    """Temperature, top-k, top-p and min-p: [rows, vocab] scores whose softmax is drawn from, -inf where excluded.

    Every row's temperature must be above 0.
    """

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=logits.dtype, device=logits.device).unsqueeze(1)

    # The greatest is taken off first: a tiny temperature would make it infinite otherwise.
    scores = (logits - logits.amax(-1, keepdim=True)) / column([o.temperature for o in options])
    rows = [row for row, o in enumerate(options) if 0 < o.top_k < logits.shape[1]]
    if rows:
        sizes = [options[row].top_k for row in rows]
        best = scores[rows].topk(max(sizes)).values
        _cut(scores, rows, best.gather(1, torch.tensor(sizes, device=logits.device).unsqueeze(1) - 1))
    rows = [row for row, o in enumerate(options) if o.top_p < 1]
    if rows:
        _cut(scores, rows, _nucleus(scores[rows], column([options[row].top_p for row in rows])))
    rows = [row for row, o in enumerate(options) if o.min_p > 0]
    if rows:
        _cut(scores, rows, column([options[row].min_p for row in rows]).log())
    return scores


def logprobs(logits: Tensor, tokens: Sequence[int], tops: Sequence[int | None]) -> list[TokenLogprob | None]:
    """The log-probability of each row's token, with the ``tops`` likeliest; None where ``tops`` is.

    logits: [rows, vocab] float32.
    """
    result: list[TokenLogprob | None] = [None] * len(tokens)
    for row, count in enumerate(tops):
        if count is None:
            continue
        values = logits[row].log_softmax(-1)
        best = values.topk(count)
        top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        result[row] = TokenLogprob(tokens[row], float(values[tokens[row]]), top)
    return result


def _penalised(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Tokens seen before: a positive logit is divided by the penalty, a negative one multiplied."""
    rows = [row for row, draw in enumerate(draws) if draw.penalised]
    if not rows:
        return logits
    logits = logits.clone()
    for row in rows:
        old, penalty, seen = logits[row], draws[row].options.repetition_penalty, draws[row].seen
        logits[row] = torch.where(seen, torch.where(old > 0, old / penalty, old * penalty), old)
    return logits


def _cut(scores: Tensor, rows: Sequence[int], least: Tensor) -> None:
    """Excludes what is below ``least`` [rows, 1] from the given rows of ``scores``, in place."""
    index = torch.tensor(rows, device=scores.device)
    chosen = scores[index]
    scores[index] = chosen.masked_fill(chosen < least, float("-inf"))


def _nucleus(scores: Tensor, top_p: Tensor) -> Tensor:
    """The score of the last token that belongs to the fewest whose probabilities reach ``top_p``: [rows, 1]."""
    total = scores.logsumexp(-1, keepdim=True)
    vocab = scores.shape[1]
    for width in (min(NUCLEUS, vocab), vocab):
        best = scores.topk(width).values
        probabilities = (best - total).double().exp()
        # A token belongs while those ahead of it do not reach the sum yet.
        inside = probabilities.cumsum(-1) - probabilities < top_p
        if not inside[:, -1].any():
            break
    return best.gather(1, inside.sum(-1, keepdim=True) - 1)


def _uniform(generator: torch.Generator) -> Tensor:
    return torch.rand((), generator=generator, dtype=torch.float64)


def _draw(scores: Tensor, uniform: Tensor) -> list[int]:
    """The token at which the running sum of probabilities passes a uniform number; scores: [rows, vocab]."""
    sums = scores.double().softmax(-1).cumsum(-1)
    total = sums[:, -1:]
    # Strictly below the total, so that the sum passes it at a token that may be drawn.
    target = torch.minimum(uniform.unsqueeze(1) * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(sums, target, right=True).squeeze(1).tolist()
