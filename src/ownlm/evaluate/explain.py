"""How a model reads one text: where it is surprised, where each head looks, and what each layer would already say.

| model | surprise is of | and what it would say |
|---|---|---|
| causal | each token, given those before it | after the text |
| masked | each token, when it alone is masked (pseudo-likelihood: Salazar et al. 2020) | at each place |
| of classes | nothing | which class the text has |

The prediction after each layer sends the stream after that layer through the final norm and the head, which were made for
the last layer's alone (the "logit lens", nostalgebraist 2020): a view, and not what the model says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..engine.token_bytes import byte_letters, decoders_of
from ..errors import ModelError, UserError
from ..model.transformer import Transformer
from ..prediction.classes import classify
from ..prediction.heads import USE
from ..prediction.passes import Document, passes
from ..prediction.texts import text_document
from ..progress import Progress
from ..report.explained import Candidate, Explanation, Guess, Head, Place
from ..tokens.frame import frame_of
from ..tokens.show import token_texts
from ..tokens.tokenizer import Tokenizer
from .attention_maps import Targets, WatchedAttention, find_targets

MOST_TOKENS = 256
"""A longer text is refused: a masked model reads it once for each of its tokens."""
MAP_CELLS = 2_000_000
"""Weights that are kept of all heads together, a byte each; of a longer text the first tokens' are."""
LEAST_SHOWN = 16
CANDIDATES = 10
# Rows whose logits are held at a time: 4 bytes x the vocabulary each, three times over.
LOGIT_ROWS = 32

Kind = Literal["causal", "masked", "classes"]
_KINDS: dict[str, Kind] = {"lm": "causal", "masked": "masked", "classify": "classes"}


@torch.inference_mode()
def explain(
    model: Transformer, tokenizer: Tokenizer, text: str, *, name: str = "", count: int = CANDIDATES, quiet: bool = True
) -> Explanation:
    """How the model reads a text.

    Beside the model it takes 4 x heads x tokens x tokens bytes for one layer's weights, 2 MB for the maps that are kept,
    and 8 x layers x tokens x width bytes for the stream.

    Args:
        model: causal, masked, or of classes; float32 gives the figures to the last digits.
        tokenizer: its own.
        text: at most ``MOST_TOKENS`` tokens.
        name: of the model, as the page says it.
        count: how many tokens it would say are named.
        quiet: shows no progress.

    Raises:
        UserError: the text is empty or too long.
        ModelError: the model has another head, or its numbers are none.
    """
    kind = _kind_of(model, name)
    model.eval()
    ids = _ids_of(model, tokenizer, text)
    frame = frame_of(tokenizer, pair=False, causal=model.config.causal)
    places = range(len(frame.before), len(ids) - len(frame.after))
    targets = find_targets(ids, model.config.causal, range(places.stop, len(ids)))
    shown = _shown(model, len(ids))
    heads, stream = _read(model, ids, targets, shown)
    if not stream.isfinite().all():
        raise ModelError("the model's stream holds values that are no numbers", where=name or None)
    writer = _Writer(tokenizer)
    found = _Found([], [])
    if kind == "causal":
        # The row of a token predicts the one after it.
        asked = [_Asked(place + 1, right) for place, right in enumerate([*ids[1:], None])]
        found = _predictions(model, stream, asked, writer, count)
    elif kind == "masked":
        rows = _masked_streams(model, tokenizer, ids, places, quiet)
        found = _predictions(model, rows, [_Asked(place, ids[place]) for place in places], writer, count)
    return Explanation(
        model=name,
        config=model.config.model_dump(include={"family", "layers", "heads", "kv_heads", "width"}),
        kind=kind,
        tokens=token_texts(ids, tokenizer),
        ids=ids,
        places=found.places,
        layers=found.layers,
        patterns=targets.patterns,
        heads=heads,
        shown=shown,
        classes=classify(model, tokenizer, [text])[0].scores if kind == "classes" else {},
        probabilities=model.config.problem != "regression",
    )


def as_bytes(weights: Tensor) -> NDArray[np.uint8]:
    """Weights as square roots in 255 steps, so that small ones are told apart; off by 0.004 at most."""
    return (weights.sqrt() * 255).round().to(torch.uint8).cpu().numpy()


@contextmanager
def streams(model: Transformer) -> Iterator[list[Tensor]]:
    """The stream after the embedding and after each block, of the pass that was read last: each [rows, width]."""
    taken: list[Tensor] = []

    def begin(module: Any, arguments: Any, output: Tensor) -> None:
        taken.clear()
        taken.append(output)

    def keep(module: Any, arguments: Any, output: Tensor) -> None:
        taken.append(output)

    handles = [model.embedding.register_forward_hook(begin)]
    handles += [block.register_forward_hook(keep) for block in model.layers]
    try:
        yield taken
    finally:
        for handle in handles:
            handle.remove()


class _Asked(NamedTuple):
    """A place of the text, and the token that stands there; None after its end."""

    position: int
    right: int | None


class _Found(NamedTuple):
    places: list[Place]
    layers: list[list[Guess]]


def _kind_of(model: Transformer, name: str) -> Kind:
    head = model.config.head
    if head not in _KINDS:
        hint = "give a model that continues texts, fills gaps, or tells classes"
        raise ModelError(f"there is nothing to explain here: {USE[head]}", where=name or None, hint=hint)
    return _KINDS[head]


def _ids_of(model: Transformer, tokenizer: Tokenizer, text: str) -> list[int]:
    """The text as the model gets it."""
    ids = list(text_document(model, tokenizer, text, 1).tokens)
    if len(ids) > MOST_TOKENS:
        raise UserError(
            f"the text has {len(ids):,} tokens, and at most {MOST_TOKENS} are explained",
            where="--text",
            hint="give a sentence or a paragraph of it",
        )
    return ids


def _read(model: Transformer, ids: Sequence[int], targets: Targets, shown: int) -> tuple[list[Head], Tensor]:
    """Where every head looks, and the stream: [layers + 1, tokens, width]."""
    heads: list[Head] = []

    def seen(layer: int, weights: Tensor, visible: Tensor) -> None:
        measured = targets.measure(weights)
        names = targets.names(measured, visible)
        maps = as_bytes(weights[:, :shown, :shown])
        for number, (row, own) in enumerate(zip(measured.tolist(), names, strict=True)):
            heads.append(Head(layer, number, tuple(row), tuple(own), maps[number]))

    positions = torch.arange(len(ids), device=model.device)
    with streams(model) as taken:
        model(torch.tensor(ids, device=model.device), positions, WatchedAttention(model.config.causal, seen))
        return heads, torch.stack(taken)


def _shown(model: Transformer, tokens: int) -> int:
    """How many tokens' weights are kept."""
    fits = int((MAP_CELLS / (model.config.layers * model.config.heads)) ** 0.5)
    return min(tokens, max(LEAST_SHOWN, fits))


def _masked_streams(
    model: Transformer, tokenizer: Tokenizer, ids: Sequence[int], places: Sequence[int], quiet: bool
) -> Tensor:
    """The stream at each place when its token alone is masked: [layers + 1, places, width]."""
    mask = tokenizer.mask_id
    if mask is None:
        raise ModelError("this model's tokenizer has no mask token", hint="name it in its tokenizer_config.json")
    documents = [Document([*ids[:place], mask, *ids[place + 1 :]], len(ids)) for place in places]
    size = (model.config.layers + 1, len(places), model.config.width)
    rows = torch.zeros(size, dtype=model.compute_dtype, device=model.device)
    done = 0
    with streams(model) as taken, Progress("Masking", total=len(places), unit="tokens", hidden=quiet) as progress:
        for each in passes(model, documents):
            index = torch.tensor(
                [start + places[number] for number, start in zip(each.documents, each.starts, strict=False)],
                device=model.device,
            )
            rows[:, each.documents] = torch.stack(taken)[:, index]
            done += len(each.documents)
            progress.update(done)
    return rows


def _predictions(model: Transformer, stream: Tensor, asked: Sequence[_Asked], writer: _Writer, count: int) -> _Found:
    """What is said at each place, and after each layer; stream: [layers + 1, places, width]."""
    layers: list[list[Guess]] = []
    places: list[Place] = []
    for number, rows in enumerate(stream):
        last = number == len(stream) - 1
        guesses: list[Guess] = []
        for start in range(0, len(asked), LOGIT_ROWS):
            here = asked[start : start + LOGIT_ROWS]
            hidden = rows[start : start + len(here)]
            normed = hidden if model.final_norm is None else model.final_norm(hidden)
            logprobs = model.logits_of(normed).double().log_softmax(-1)
            if not logprobs.isfinite().all():
                raise ModelError("the model gave logits that are no numbers", where=str(model.source or "model"))
            rights = torch.tensor([one.right or 0 for one in here], device=logprobs.device)
            right = logprobs.gather(-1, rights.unsqueeze(-1))
            ranks = (logprobs > right).sum(-1) + 1
            top = logprobs.topk(min(count if last else 1, logprobs.shape[-1]))
            best = [
                [Candidate(writer.text(token), token, float(np.exp(value))) for token, value in zip(*row, strict=True)]
                for row in zip(top.indices.tolist(), top.values.tolist(), strict=True)
            ]
            for one, first, rank, logprob in zip(here, best, ranks.tolist(), right.flatten().tolist(), strict=True):
                known = one.right is not None
                guess = Guess(first[0], rank if known else None, float(np.exp(logprob)) if known else None)
                guesses.append(guess)
                if last:
                    surprisal = -logprob / np.log(2) if known else None
                    places.append(Place(one.position, surprisal, guess.rank, guess.right, first))
        layers.append(guesses)
    return _Found(places, layers)


class _Writer:
    """What tokens add to a text; each is looked up once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        # A word before it, or the space that a token begins with would not be written.
        self.before = tokenizer.encode("a")
        self.known = tokenizer.decode(self.before, skip_special=False)
        self.texts: dict[int, str] = {}
        self.letters = byte_letters() if "ByteLevel" in decoders_of(tokenizer.backend) else {}

    def text(self, token: int) -> str:
        if token not in self.texts:
            whole = self.tokenizer.decode([*self.before, token], skip_special=False)
            text = whole[len(self.known) :]
            self.texts[token] = self._spelled(token) if not text or "\ufffd" in text else text
        return self.texts[token]

    def _spelled(self, token: int) -> str:
        """A token that is no text on its own: a part of a character as its bytes, any other as the vocabulary has it."""
        spelled = self.tokenizer.backend.id_to_token(token)
        if spelled is None:
            # Some models have more rows than tokens.
            return f"<{token}>"
        if self.letters and all(letter in self.letters for letter in spelled):
            return bytes(self.letters[letter] for letter in spelled).decode(errors="backslashreplace")
        return spelled
