"""What every export is held to: the logits and the rendered conversation of what was written are the model's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...errors import OwnlmError, UserError
from ...tokens.tokenizer import Tokenizer
from ..cross import SourceTokens
from ..head import ClassifyHead, SpanHead
from ..transformer import Transformer

PROBE = (
    "The quick brown fox, 3.14 times: naïve café, 語 and 🙂.\n\tWhat comes next? I can't say; she'll know it'd be fine."
)
PROBE_CHAT = (
    {"role": "system", "content": "You are a careful assistant."},
    {"role": "user", "content": "Hello!  Is it\nopen on Sunday?"},
    {"role": "assistant", "content": "Yes, from 10 to 16 o'clock."},
    {"role": "user", "content": "Thanks 🙂"},
)
# Float32 sums in another order differ by about this share of the largest logit.
TOLERANCE = 1e-4


def probe_chat(tokenizer: Tokenizer) -> list[dict[str, str]]:
    """The probe conversation, or as much of it as the chat template accepts: some know no system message.

    Raises:
        UserError: the template accepts not even a question.
    """
    messages = [dict(message) for message in PROBE_CHAT]
    for shorter in (messages, messages[1:], messages[1:2]):
        try:
            tokenizer.render_text(shorter, add_generation_prompt=True)
        except UserError:
            if len(shorter) == 1:
                raise
        else:
            break
    return shorter


def probe_ids(tokenizer: Tokenizer, length: int) -> list[int]:
    """The probe text's ids, over and over until there are so many: positions far from the first are looked at too."""
    ids = tokenizer.encode(PROBE)
    return (ids * -(-length // len(ids)))[:length] if ids else []


@torch.no_grad()
def outputs(model: Transformer, ids: Sequence[int]) -> Tensor:
    """What a model says of one document, by its head, in float32.

    Logits over the vocabulary [length, vocab]; of a classification [1, labels]; of answers [length, 2]; without a head
    the stream itself [length, width]. A model that makes texts from others is given the document on both sides.
    """
    tokens, starts = torch.tensor(ids), [0, len(ids)]
    positions = torch.arange(len(ids))
    both = SourceTokens(tokens, positions, starts) if model.config.head == "seq2seq" else None
    hidden = model.read(tokens, positions, starts, source=both)[: len(ids)]
    if isinstance(model.head, ClassifyHead):
        found: Tensor = model.head(hidden[model.head.rows(starts)])
    elif isinstance(model.head, SpanHead):
        found = model.head(hidden)
    else:
        found = hidden.float() if model.config.head == "none" else model.logits_of(hidden)
    return found


def check_logits(found: Tensor, expected: Tensor, where: str, tolerance: float = TOLERANCE) -> float:
    """The largest difference of any logit; both: [length, vocab].

    Raises:
        OwnlmError: it is more than the tolerance, a share of the largest logit.
    """
    difference = (found - expected).abs().max().item() if expected.numel() else 0.0
    if not difference <= tolerance * max(1.0, expected.abs().max().item()):
        raise OwnlmError(f"the exported model is not the same: its logits differ by {difference:.3g}", where=where)
    return difference


def check_chat(tokenizer: Tokenizer, render: Callable[[list[dict[str, str]]], Sequence[int]], where: str) -> None:
    """Compares how what was written renders the probe conversation, with the generation prompt.

    Raises:
        OwnlmError: the ids are others.
    """
    messages = probe_chat(tokenizer)
    if list(render(messages)) != tokenizer.render(messages, add_generation_prompt=True):
        raise OwnlmError("the exported model renders conversations differently", where=where)


def divergence(expected: Tensor, found: Tensor) -> float:
    """The mean Kullback-Leibler divergence of a token, in nats; both: [length, vocab] logits."""
    if not len(expected):
        return 0.0
    ours, theirs = expected.double().log_softmax(-1), found.double().log_softmax(-1)
    return float((ours.exp() * (ours - theirs)).sum(-1).mean())
