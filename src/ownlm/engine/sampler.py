"""Logits become tokens, in the order in which vLLM and Transformers apply their processors:

    constraint and ``min_tokens``, logit bias, repetition penalty, frequency and presence penalty, temperature, top-k,
    top-p, min-p, and then a draw.

Every row of a step has its own options and its own random number, so what one answer draws does not depend on the
others. Where tokens are equally likely at a limit, all of them stay.

A vocabulary is long, so what is done with all of it is little: a greedy row costs its argmax, a drawn one a softmax,
and the rest looks only at the tokens that can be drawn still, as few as their limits leave.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .draw import Draw, Step
from .requests import SamplingOptions, TokenLogprob

# Probabilities are summed in blocks, so that the running sum is looked at in one of them only.
BLOCK = 256
# A token is looked at for top-p if it may be among so many that share what top-p leaves out; if not even those of them
# reach the sum, all are looked at that can matter.
LIKELY = 4096
# What a byte of a mask adds to the logits of its eight tokens: [256, 8].
ADDED = np.where(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"), 0, -np.inf).astype(
    np.float32
)


def sample(logits: Tensor, draws: Sequence[Draw]) -> list[int]:
    """The next token of each row.

    logits: [rows, vocab] float32, of which each row must have a finite greatest one; draws: one for each row. Where a
    draw has failed afterwards, its token means nothing.
    """
    return sample_steps(logits, [draw.step() for draw in draws])


def looked_over(logits: Tensor) -> tuple[list[bool], list[int] | None]:
    """Whether each row's greatest logit is a number; and on a GPU which token has it, in the same copy from there.

    So a step waits for the device once, and greedy answers need nothing more. logits: [rows, vocab] float32.
    """
    return (logits.amax(-1).isfinite().tolist(), None) if logits.device.type == "cpu" else _in_one_copy(logits)


def _in_one_copy(logits: Tensor) -> tuple[list[bool], list[int]]:
    best = logits.max(-1)
    finite, tokens = torch.stack((best.values.isfinite().long(), best.indices)).tolist()
    return [bool(number) for number in finite], tokens


def sample_drafts(
    logits: Tensor,
    draws: Sequence[Draw],
    drafts: Sequence[Sequence[int]],
    likeliest: Sequence[int] | None = None,
) -> list[list[int]]:
    """The next tokens of each answer, where some were guessed beforehand: those that would have come one by one.

    A guess is right if it is the token that the answer's own step takes, be it the likeliest or the one that its random
    number draws, so an answer is the same with any drafts and with none. The step after the last right one comes too,
    so each answer gets at least one token.

    logits: for each answer the row after its last token, then those after each token of its draft:
    [answers + tokens of all drafts, vocab] float32. likeliest: each row's token, where that is known already.
    """
    steps: list[Step] = []
    rows: list[int] = []
    counts = []
    start = 0
    for draw, draft in zip(draws, drafts, strict=True):
        ahead = list(draw.steps(draft))
        steps += ahead
        rows += range(start, start + len(ahead))
        counts.append(len(ahead))
        start += 1 + len(draft)
    if len(rows) != len(logits):
        logits, likeliest = logits[rows], None if likeliest is None else [likeliest[row] for row in rows]
    chosen = iter(sample_steps(logits, steps, likeliest))
    taken = []
    for draft, count in zip(drafts, counts, strict=True):
        tokens = [next(chosen) for _ in range(count)]
        right = next((place for place, token in enumerate(draft[: count - 1]) if token != tokens[place]), count - 1)
        taken.append(tokens[: right + 1])
    return taken


def sample_steps(logits: Tensor, steps: Sequence[Step], likeliest: Sequence[int] | None = None) -> list[int]:
    """The token of each row; see ``sample`` and ``sample_drafts``."""
    processed = _processed(logits, steps)
    tokens = _argmax(processed) if likeliest is None or processed is not logits else list(likeliest)
    logits = processed
    drawn = [row for row, step in enumerate(steps) if step.options.temperature > 0]
    if drawn:
        chosen = logits if len(drawn) == len(steps) else logits[torch.tensor(drawn, device=logits.device)]
        for row, token in zip(drawn, _draw(chosen, [steps[row] for row in drawn]), strict=True):
            tokens[row] = token
    return tokens


def distribution(logits: Tensor, options: Sequence[SamplingOptions]) -> Tensor:
    """What is drawn from after temperature, top-k, top-p and min-p: [rows, vocab] float32 weights, 0 where excluded.

    Every row's temperature must be above 0. A row's weights need not add up to 1.
    """
    probabilities = _probabilities(logits, options)
    weights, ids = _limited(probabilities, options)
    # Places that are nobody's have no weight.
    return torch.zeros_like(probabilities).scatter_add_(1, ids, weights)


def logprobs(logits: Tensor, tokens: Sequence[int], tops: Sequence[int | None]) -> list[TokenLogprob | None]:
    """The log-probability of each row's token, with the ``tops`` likeliest; None where ``tops`` is.

    logits: [rows, vocab] float32.
    """
    result: list[TokenLogprob | None] = [None] * len(tokens)
    asked = [(row, count) for row, count in enumerate(tops) if count is not None]
    if not asked:
        return result
    rows = torch.tensor([row for row, _ in asked], device=logits.device)
    taken = torch.tensor([tokens[row] for row, _ in asked], device=logits.device)
    values = logits[rows].log_softmax(-1)
    own = values.gather(1, taken.unsqueeze(1)).squeeze(1).tolist()
    best = values.topk(max(count for _, count in asked))
    for (row, count), value, ids, likely in zip(asked, own, best.indices.tolist(), best.values.tolist(), strict=True):
        result[row] = TokenLogprob(tokens[row], value, tuple(zip(ids[:count], likely[:count], strict=True)))
    return result


def _processed(logits: Tensor, steps: Sequence[Step]) -> Tensor:
    """What stands before temperature in the order: the same tensor where nothing is to be done, else a copy."""
    masked = [(row, step.mask) for row, step in enumerate(steps) if step.mask is not None]
    biased = [row for row, step in enumerate(steps) if step.options.logit_bias]
    banned = [row for row, step in enumerate(steps) if len(step.banned)]
    penalised = [row for row, step in enumerate(steps) if len(step.seen)]
    if not (masked or biased or banned or penalised):
        return logits
    logits = logits.clone(memory_format=torch.contiguous_format)
    vocab = logits.shape[1]
    flat = logits.view(-1)

    def places(rows: Sequence[int], ids: Sequence[np.ndarray]) -> Tensor:
        return _on(np.concatenate([one + row * vocab for row, one in zip(rows, ids, strict=True)]), logits)

    if masked:
        # Adding takes a tenth of the time of filling where a mask says so; and one row's worth stays in the cache.
        added = np.empty((-(-vocab // 8), 8), np.float32)
        for row, mask in masked:
            np.take(ADDED, mask, axis=0, out=added, mode="clip")
            logits[row] += _on(added, logits).view(-1)[:vocab]
    if banned:
        flat[places(banned, [steps[row].banned for row in banned])] = -torch.inf
    if biased:
        pairs = [np.array(steps[row].options.logit_bias, np.float64) for row in biased]
        where = places(biased, [pair[:, 0].astype(np.int64) for pair in pairs])
        flat[where] += _on(np.concatenate([pair[:, 1] for pair in pairs]).astype(np.float32), logits)
    if penalised:
        where = places(penalised, [steps[row].seen for row in penalised])
        flat[where] = _penalised(flat[where], [steps[row] for row in penalised])
    return logits


def _penalised(logits: Tensor, steps: Sequence[Step]) -> Tensor:
    """The logits of the tokens that the steps have seen, one step's after the other's: [tokens]."""
    sizes = [len(step.seen) for step in steps]
    counts = _on(np.concatenate([step.counts for step in steps]).astype(np.float32), logits)

    def each(values: Sequence[float]) -> Tensor:
        return _on(np.repeat(np.array(values, np.float32), sizes), logits)

    repetition = each([step.options.repetition_penalty for step in steps])
    logits = torch.where(logits > 0, logits / repetition, logits * repetition)
    logits = logits - each([step.options.frequency_penalty for step in steps]) * counts
    return logits - each([step.options.presence_penalty for step in steps]) * (counts > 0)


def _draw(logits: Tensor, steps: Sequence[Step]) -> list[int]:
    """The token at which the running sum of probabilities passes each step's random number."""
    options = [step.options for step in steps]
    uniform = torch.tensor([step.uniform for step in steps], dtype=torch.float64, device=logits.device)
    probabilities = _probabilities(logits, options)
    free = [row for row, one in enumerate(options) if not _is_limited(one)]
    if len(free) == len(options):
        return _pick_from_all(probabilities, uniform).tolist()
    bound = [row for row, one in enumerate(options) if _is_limited(one)]
    tokens = [0] * len(options)
    for rows in filter(None, (free, bound)):
        index = torch.tensor(rows, device=logits.device)
        chosen = probabilities if len(rows) == len(options) else probabilities[index]
        if rows is free:
            found = _pick_from_all(chosen, uniform[index])
        else:
            weights, ids = _limited(chosen, [options[row] for row in rows])
            found = ids.gather(1, _pick(weights, uniform[index]).unsqueeze(1)).squeeze(1)
        for row, token in zip(rows, found.tolist(), strict=True):
            tokens[row] = token
    return tokens


def _is_limited(options: SamplingOptions) -> bool:
    return options.top_k > 0 or options.top_p < 1 or options.min_p > 0


def _probabilities(logits: Tensor, options: Sequence[SamplingOptions]) -> Tensor:
    """The softmax after temperature: [rows, vocab] float32."""
    temperatures = [max(one.temperature, torch.finfo(torch.float32).tiny) for one in options]
    # The greatest is taken off first: a tiny temperature would make it infinite otherwise.
    scores = logits - logits.amax(-1, keepdim=True)
    scores.div_(torch.tensor(temperatures, device=logits.device).unsqueeze(1))
    return torch.softmax(scores, -1, out=scores)


def _limited(probabilities: Tensor, options: Sequence[SamplingOptions]) -> tuple[Tensor, Tensor]:
    """Top-k, top-p and min-p, one after the other as Transformers has them.

    Returns:
        weights: [rows, candidates] float32, 0 for what cannot be drawn; in the vocabulary's order.
        ids: of the candidates: [rows, candidates].
    """

    def column(values: Sequence[float], kind: torch.dtype = torch.float64) -> Tensor:
        return torch.tensor(values, dtype=kind, device=probabilities.device).unsqueeze(1)

    vocab = probabilities.shape[1]
    top_p = column([one.top_p for one in options])
    weights, ids = _candidates(probabilities, options)
    ordered = _descending(weights)
    # Top-k: what is as likely as the last of them stays too.
    sizes = [min(one.top_k or vocab, ordered.shape[1]) for one in options]
    least = ordered.gather(1, column(sizes, torch.long) - 1)
    ordered = ordered.masked_fill(ordered < least, 0)
    # Top-p: a token belongs while those ahead of it do not reach the sum yet, which without top-k is a part of all,
    # also of tokens that are no candidates.
    values = ordered.double()
    sums = values.cumsum(-1)
    whole = _block_sums(probabilities).sum(-1, keepdim=True)
    total = torch.where(column([one.top_k for one in options], torch.long) > 0, sums[:, -1:], whole)
    inside = (sums - values < top_p * total) & (values > 0)
    last = ordered.gather(1, (inside.sum(-1, keepdim=True) - 1).clamp(min=0))
    least = torch.maximum(least, torch.where(top_p < 1, last, 0.0))
    least = torch.maximum(least, ordered[:, :1] * column([one.min_p for one in options], torch.float32))
    return weights.masked_fill(weights < least, 0), ids


def _candidates(probabilities: Tensor, options: Sequence[SamplingOptions]) -> tuple[Tensor, Tensor]:
    """The tokens that a row's limits can leave, and perhaps others; see ``_limited``.

    Left out are only tokens that are less likely than some bound, one for each row.
    """
    rows, vocab = probabilities.shape
    if probabilities.device.type != "cpu":
        return probabilities, torch.arange(vocab, device=probabilities.device).expand(rows, -1)
    values = probabilities.numpy()
    least = np.stack([_bound(row, one) for row, one in zip(values, options, strict=True)])
    place = np.flatnonzero(values >= least[:, None])
    row, token = np.divmod(place, vocab)
    counts = np.bincount(row, minlength=rows)
    # Each row's candidates from the left; what is left over has no weight.
    column = np.arange(len(place)) - np.repeat(counts.cumsum() - counts, counts)
    weights, ids = np.zeros((rows, counts.max()), np.float32), np.zeros((rows, counts.max()), np.int64)
    weights[row, column], ids[row, column] = values.ravel()[place], token
    return torch.from_numpy(weights), torch.from_numpy(ids)


def _bound(probabilities: np.ndarray, options: SamplingOptions) -> np.float32:
    """A probability that every token has that can be drawn: [vocab] -> a number."""
    vocab = len(probabilities)
    least = np.float32(0)
    # Top-p takes its share of all that top-k leaves, also of what min-p excludes afterwards.
    if options.min_p > 0 and not (options.top_k and options.top_p < 1):
        least = max(least, np.float32(options.min_p) * probabilities.max())
    blocks = vocab // BLOCK
    if 0 < options.top_k <= blocks:
        # So many blocks have a greatest token, so at least so many tokens are as likely as the least of those.
        greatest = probabilities[: blocks * BLOCK].reshape(blocks, BLOCK).max(-1)
        least = max(least, np.partition(greatest, blocks - options.top_k)[blocks - options.top_k])
    elif options.top_p < 1 and not options.top_k:
        # What top-p leaves out cannot be shared by more tokens than there are, each less likely than this.
        for share in (min(LIKELY, vocab), vocab):
            bound = np.float32((1 - options.top_p) / share)
            if share == vocab or probabilities[probabilities >= bound].sum(dtype=np.float64) >= options.top_p:
                # By rounding, all of them might add up to a little less than 1.
                least = max(least, bound * np.float32(0.99))
                break
    return np.float32(least)


def _pick(weights: Tensor, uniform: Tensor) -> Tensor:
    """Where the running sum of each row passes its random number: [rows, candidates] -> [rows]."""
    sums = weights.double().cumsum(-1)
    total = sums[:, -1]
    # Strictly below the total, so that the sum passes it at a token that may be drawn.
    target = torch.minimum(uniform * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(sums, target.unsqueeze(1), right=True).squeeze(1)


def _pick_from_all(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """``_pick`` over a whole vocabulary, of which a running sum would take long: [rows, vocab] -> [rows]."""
    vocab = probabilities.shape[1]
    sums = _block_sums(probabilities)
    block = _pick(sums, uniform)
    before = sums.cumsum(-1).gather(1, block.unsqueeze(1)) - (own := sums.gather(1, block.unsqueeze(1)))
    # What is left of the random number, as a share of its block.
    rest = ((uniform * sums.sum(-1)).unsqueeze(1) - before) / own
    ids = block.unsqueeze(1) * BLOCK + torch.arange(BLOCK, device=probabilities.device)
    inside = probabilities.gather(1, ids.clamp(max=vocab - 1)).masked_fill(ids >= vocab, 0)
    return block * BLOCK + _pick(inside, rest.squeeze(1).clamp(0, 1))


def _block_sums(probabilities: Tensor) -> Tensor:
    """[rows, vocab] float32 -> [rows, blocks] float64; the last block is a shorter one, perhaps an empty one."""
    rows, vocab = probabilities.shape
    blocks = vocab // BLOCK
    whole = probabilities[:, : blocks * BLOCK].reshape(rows, blocks, BLOCK).sum(-1)
    return torch.cat((whole, probabilities[:, blocks * BLOCK :].sum(-1, keepdim=True)), 1).double()


def _argmax(logits: Tensor) -> list[int]:
    # On a CPU numpy's takes a tenth of the time of torch's.
    return (logits.numpy() if logits.device.type == "cpu" else logits).argmax(-1).tolist()


def _descending(values: Tensor) -> Tensor:
    # Here as well.
    if values.device.type == "cpu":
        return torch.from_numpy(-np.sort(-values.numpy(), axis=-1))
    return values.sort(-1, descending=True).values


def _on(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.device)
