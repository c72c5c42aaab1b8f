"""The fourth box: what the stream becomes. A language model's head is a product alone and lives in the stack itself.

| head | gives |
|---|---|
| lm | logits of the token that follows: the stream times the token embedding (or a matrix of its own) |
| seq2seq | the same with a bias, of a text made from another |
| masked | logits of a hidden token: a dense layer, its activation and a norm first, and a bias |
| classify | one vector of logits (or numbers) a document, from one of its tokens |
| span | for each token, how well an answer begins there, and ends there |
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig
from .feedforward import activate
from .layers import Linear, make_norm


class MaskedHead(nn.Module):
    """BERT's head for hidden tokens (Devlin et al. 2018): what it gives is then multiplied by the token embedding.

    Attributes:
        bias: [vocab], added to the logits.
        weight: [vocab, width] where the head is not the token embedding, else None.
        pooler, pair: the dense layer and the two logits of next-sentence prediction, where the model has it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.dense = Linear(config.width, config.width, bias=True)
        self.norm = make_norm(config.norm, config.width, config.norm_eps)
        self.bias = nn.Parameter(torch.empty(config.vocab_size))
        self.weight = None if config.tied_head else nn.Parameter(torch.empty(config.vocab_size, config.width))
        self.pooler = Linear(config.width, config.width, bias=True) if config.next_sentence else None
        self.pair = Linear(config.width, 2, bias=True) if config.next_sentence else None

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden: [tokens, width] -> [tokens, width], to be multiplied by the embedding."""
        return self.norm(activate(self.dense(hidden), self.activation))

    def pairs(self, hidden: Tensor) -> Tensor:
        """hidden: [documents, width], each document's first token -> float32 logits [documents, 2]: follows, does not."""
        assert self.pooler is not None and self.pair is not None
        return self.pair(torch.tanh(self.pooler(hidden))).float()


class SequenceHead(nn.Module):
    """The last of a decoder that looks at another text: a bias on the logits (Marian's, which the paper has not).

    Attributes:
        bias: [vocab].
        weight: [vocab, width] where the head is not the token embedding, else None.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(config.vocab_size))
        self.weight = None if config.tied_head else nn.Parameter(torch.empty(config.vocab_size, config.width))


class ClassifyHead(nn.Module):
    """Labels of a document from one of its tokens; encoders have a dense layer of their own before."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pool, self.activation, self.dropout = config.pool, config.head_activation, 0.0
        dense = config.head_activation != "none"
        self.dense = Linear(config.width, config.width, bias=True) if dense else None
        self.out = Linear(config.width, len(config.labels), bias=dense)

    def rows(self, starts: Sequence[int]) -> list[int]:
        """Which token each document is classified by; starts: [documents + 1]."""
        return list(starts[:-1]) if self.pool == "first" else [end - 1 for end in starts[1:]]

    def forward(self, pooled: Tensor) -> Tensor:
        """pooled: [documents, width] -> float32 logits: [documents, labels]."""
        if self.dense is not None:
            inner = self.dense(pooled)
            pooled = torch.tanh(inner) if self.activation == "tanh" else F.relu(inner)
        if self.dropout:
            pooled = F.dropout(pooled, self.dropout, self.training)
        return self.out(pooled).float()


class SpanHead(nn.Module):
    """Where an answer begins and ends (Devlin et al. 2018, section 4.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.out = Linear(config.width, 2, bias=True)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden: [tokens, width] -> float32 logits [tokens, 2]: begins here, ends here."""
        return self.out(hidden).float()


def make_head(config: ModelConfig) -> nn.Module | None:
    """The head a ModelConfig names; None where it has no weights of its own."""
    if config.head == "lm":
        return None if config.tied_head else Linear(config.width, config.vocab_size, bias=False)
    if config.head == "masked":
        return MaskedHead(config)
    if config.head == "seq2seq":
        return SequenceHead(config)
    if config.head == "classify":
        return ClassifyHead(config)
    return SpanHead(config) if config.head == "span" else None
