"""The model under evaluation: texts in, likelihoods and answers out.

How a text is cut into context and continuation follows EleutherAI's lm-evaluation-harness, so that figures can be set
beside those of others: spaces at the end of a context belong to the continuation, both are encoded as one text and the
context alone says where it is cut, and what begins with nothing begins with the beginning- or end-of-text token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..engine.engine import Engine
from ..engine.requests import Completion, SamplingOptions
from ..errors import DataError, ModelError
from ..model.transformer import Transformer
from ..progress import Progress
from ..tokens.tokenizer import Tokenizer
from .likelihood import Likelihood, Request, log_likelihoods
from .scorers import Scorer

Long = Literal["skip", "cut"]


@dataclass(frozen=True, eq=False)
class Scored:
    """What was asked of likelihoods.

    Attributes:
        likelihoods: of each pair, None of one that was skipped.
        long: the pairs that were longer than the model reads, by their places: skipped, or with their beginnings cut off.
    """

    likelihoods: list[Likelihood | None]
    long: list[int]


@dataclass(eq=False)
class Subject:
    """A model with its tokenizer, as tasks use it.

    Attributes:
        name: as it stands in scores.
        hidden: shows no progress.
        scorers: what tells how toxic or how positive its texts are, by name.
    """

    model: Transformer
    tokenizer: Tokenizer
    name: str = ""
    hidden: bool = False
    scorers: Mapping[str, Scorer] = field(default_factory=dict)
    _engine: Engine | None = field(default=None, repr=False)

    @property
    def masked(self) -> bool:
        """Whether it fills gaps, rather than going on from a text."""
        return self.model.config.head == "masked"

    @property
    def writes(self) -> bool:
        """Whether it goes on from a text."""
        return self.model.config.head == "lm"

    def likelihoods(self, pairs: Sequence[tuple[str, str]], long: Long = "skip", title: str = "Scoring") -> Scored:
        """How likely each continuation is after its context.

        Args:
            pairs: contexts, which may be empty, and continuations.
            long: whether a pair longer than the model reads is skipped, or its context's beginning cut off.
            title: what the progress says.

        Raises:
            DataError: a continuation is empty, or becomes no token of its own.
            ModelError: the model writes no text.
        """
        requests = self.requests(pairs)
        most = self.model.config.max_positions + 1
        too_long = [i for i, request in enumerate(requests) if len(request.context) + len(request.continuation) > most]
        found: list[Likelihood | None] = [None] * len(requests)
        chosen = list(range(len(requests)))
        if long == "skip":
            left_out = set(too_long)
            chosen = [i for i in chosen if i not in left_out]
        else:
            for i in too_long:
                requests[i] = _cut(requests[i], most)
        for i, likelihood in zip(chosen, self.score([requests[i] for i in chosen], title), strict=True):
            found[i] = likelihood
        return Scored(found, too_long)

    def rolling(self, texts: Sequence[str], title: str = "Scoring") -> list[float]:
        """The logarithm of each whole text's probability, in nats; a longer text than the model reads in windows.

        Each token is predicted once, in windows as full as possible, whose first token stands after one token of context.
        """
        first = self.first
        requests, counts = [], []
        for ids in self.tokenizer.encode_many(texts):
            windows = list(rolling_windows(self.with_bos(ids), first, self.model.config.max_positions))
            requests += windows
            counts.append(len(windows))
        scored = iter(self.score(requests, title))
        return [sum(next(scored).logprob for _ in range(count)) for count in counts]

    def score(self, requests: Sequence[Request], title: str = "Scoring") -> list[Likelihood]:
        """``log_likelihoods`` with its progress shown, in tokens, of which shared ones count once."""
        with Progress(title, unit="tokens", hidden=self.hidden) as progress:
            return log_likelihoods(self.model, requests, progress=lambda tokens: progress.update(tokens))

    def answers(self, prompts: Sequence[str | Sequence[int]], options: SamplingOptions) -> list[Completion]:
        """What the model writes after each prompt.

        Raises:
            ModelError: it writes no text.
        """
        if self._engine is None:
            self._engine = Engine(self.model, self.tokenizer)
        return self._engine.generate(list(prompts), options)

    @property
    def first(self) -> int:
        """The token that stands before a text that begins with nothing.

        Raises:
            ModelError: the tokenizer has none.
        """
        first = self.tokenizer.eos_id if self.tokenizer.bos_id is None else self.tokenizer.bos_id
        if first is None:
            raise ModelError(
                "the tokenizer has neither a beginning- nor an end-of-text token, so nothing stands before a text",
                where=self.name or None,
            )
        return first

    def with_bos(self, ids: list[int]) -> list[int]:
        """A text's ids with the beginning-of-text token before them, where the model is meant to have one."""
        bos = self.tokenizer.bos_id
        return [bos, *ids] if self.tokenizer.adds_bos and bos is not None and ids[:1] != [bos] else ids

    def requests(self, pairs: Sequence[tuple[str, str]]) -> list[Request]:
        """Contexts and continuations as ids; arguments and errors as of ``likelihoods``."""
        moved = [_spaces_moved(*pair) for pair in pairs]
        # Contexts stand before several continuations each.
        contexts = list(dict.fromkeys(context for context, _ in moved if context))
        ids_of = dict(zip(contexts, map(self.with_bos, self.tokenizer.encode_many(contexts)), strict=True))
        wholes = self.tokenizer.encode_many([context + continuation for context, continuation in moved])
        found = []
        for place, ((context, continuation), whole) in enumerate(zip(moved, wholes, strict=True)):
            if not context:
                # Where the text brings its own first token, it is not asked for.
                ids, rest = ([self.first], whole) if whole[:1] != [self.first] else (whole[:1], whole[1:])
            else:
                ids = ids_of[context]
                rest = self.with_bos(whole)[len(ids) :]
            if not rest:
                what = (
                    "the continuation is empty"
                    if not continuation.strip()
                    else "the continuation has no token of its own"
                )
                raise DataError(f"{what}: {continuation!r} after {context[-40:]!r}", where=f"pair {place}")
            found.append(Request(ids, rest))
        return found


def rolling_windows(ids: Sequence[int], first: int, most: int) -> Iterator[Request]:
    """Requests in which each token of a text is predicted once (the harness's windows with one token of context).

    Args:
        ids: of the text.
        first: the token that stands before it.
        most: how many tokens the model reads at once.
    """
    yield from [Request([first], ids[:most])] if ids else []
    done = min(most, len(ids))
    while done < len(ids):
        end = min(done + most, len(ids))
        # The last window reaches back, so that it is full as well.
        yield Request(ids[end - most - 1 : done], ids[done:end])
        done = end


def _spaces_moved(context: str, continuation: str) -> tuple[str, str]:
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _cut(request: Request, most: int) -> Request:
    """Without as much of the beginning as it takes; of a continuation that fills all, the last tokens."""
    ids = [*request.context, *request.continuation][-most:]
    count = min(len(request.continuation), most - 1)
    return Request(ids[: len(ids) - count], ids[len(ids) - count :])
