"""A batch as people can check it: every document's text, which tokens are trained, and where each one stands."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..report.page import Figure, Report, Token
from .batch import Batch

if TYPE_CHECKING:
    from .tokenizer import Tokenizer

# Tokens before the one being decoded that may change how it is written: a leading space, or the rest of a character.
CONTEXT = 4
COLORS = (36, 33, 35, 32, 34, 31)


@dataclass(frozen=True)
class ShownDocument:
    """One document of a batch.

    Attributes:
        index: which document of the dataset it is, or its place in the batch where the batch does not say.
        tokens: its tokens with their text, in order; ``trained`` says whether the loss asks for that token.
        following: where the document goes on in another piece, the token that its last one has to predict.
        hidden: where tokens are asked for that stand in the document itself, what each of the trained ones was.
    """

    index: int
    tokens: tuple[Token, ...]
    following: Token | None = None
    hidden: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The document's text, special tokens and all."""
        return "".join(token.text for token in self.tokens)

    @property
    def trained_tokens(self) -> int:
        """How many of its tokens the loss asks for."""
        return sum(token.trained for token in self.tokens) + (self.following is not None)

    def as_json(self) -> dict[str, Any]:
        """The document for scripts."""
        counts = {"document": self.index, "tokens": len(self.tokens), "trained_tokens": self.trained_tokens}
        hidden = {"hidden": list(self.hidden)} if self.hidden else {}
        return counts | {"text": self.text, "trained": [token.trained for token in self.tokens]} | hidden

    @property
    def answers(self) -> str:
        """What was hidden, each with its position."""
        asked = (token for token in self.tokens if token.trained)
        return ", ".join(f"{token.position} {text}" for token, text in zip(asked, self.hidden, strict=True))


def show_batch(batch: Batch, tokenizer: Tokenizer, shifted: bool = True) -> list[ShownDocument]:
    """The documents of a batch, read back from the numbers that the model gets; a source stands before its target.

    Args:
        batch: as the model gets it.
        tokenizer: whose tokens.
        shifted: whether a target is the token after the one that it belongs to, and not that one itself.
    """
    shown = _documents(batch, tokenizer, shifted)
    if batch.source is None:
        return shown
    sources = _documents(batch.source, tokenizer, shifted)
    return [document for pair in zip(sources, shown, strict=True) for document in pair]


def _documents(batch: Batch, tokenizer: Tokenizer, shifted: bool) -> list[ShownDocument]:
    ids, positions, weights = batch.tokens.tolist(), batch.positions.tolist(), batch.weights.tolist()
    targets, starts = batch.targets.tolist(), batch.document_starts
    shown = []
    for place, (start, end) in enumerate(itertools.pairwise(starts)):
        # Weight i belongs to the target of token i, which is token i + 1; nothing asks for a document's first token.
        asked = [weight != 0 for weight in weights[start:end]]
        trained = [False, *asked] if shifted else [*asked, False]
        texts = token_texts([*ids[start:end], targets[end - 1]], tokenizer)
        places = [*positions[start:end], positions[end - 1] + 1]
        rows = zip(texts, [*ids[start:end], targets[end - 1]], places, trained, strict=True)
        *tokens, following = [Token(*row) for row in rows]
        index = batch.documents[place] if batch.documents else place
        # In its own place, so that each text has what stood before it.
        hidden = [] if shifted else itertools.compress(token_texts(targets[start:end], tokenizer), asked)
        shown.append(
            ShownDocument(index, tuple(tokens), following if following.trained else None, tuple(map(str.strip, hidden)))
        )
    return shown


def token_texts(ids: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    """What each token adds to the text; a character made of several tokens stands with the last of them."""
    texts = []
    begun = 0
    for end in range(1, len(ids) + 1):
        context = ids[max(0, begun - CONTEXT) : begun]
        known = tokenizer.decode(context, skip_special=False) if context else ""
        text = tokenizer.decode([*context, *ids[begun:end]], skip_special=False)[len(known) :]
        if text.endswith("\ufffd") and end < len(ids) and end - begun < CONTEXT:
            texts.append("")
            continue
        texts.append(text)
        begun = end
    return texts


def as_terminal_text(documents: Sequence[ShownDocument], *, colored: bool) -> str:
    """The documents as lines, each with the position of its first token.

    Colored, every document has a hue, trained tokens are bright and the others dim; otherwise trained spans stand
    between ``«`` and ``»``.
    """
    return "\n\n".join(_document_text(d, COLORS[i % len(COLORS)] if colored else None) for i, d in enumerate(documents))


def _document_text(document: ShownDocument, color: int | None) -> str:
    lines = [f"document {document.index}: {len(document.tokens):,} tokens, {document.trained_tokens:,} trained"]
    line, first = "", 0
    was_trained = False
    for token in document.tokens:
        pieces = token.text.split("\n")
        for number, piece in enumerate(pieces):
            if number:
                lines.append(_numbered(first, line + _close(was_trained, color)))
                line, first, was_trained = "", token.position, False
            if piece:
                if not line:
                    first = token.position
                line += _styled(piece, token.trained, was_trained, color)
                was_trained = token.trained
    lines.append(_numbered(first, line + _close(was_trained, color)))
    if document.following is not None:
        text = _styled(document.following.text, True, False, color) + _close(True, color)
        lines.append(f"{document.following.position:>6} → {text}  (goes on in another piece)")
    if document.hidden:
        lines.append(f"hidden │ {_printable(document.answers)}")
    return "\n".join(lines)


def _numbered(position: int, line: str) -> str:
    return f"{position:>6} │ {line}".rstrip()


def _styled(text: str, trained: bool, was_trained: bool, color: int | None) -> str:
    text = _printable(text)
    if color is not None:
        return f"\033[{f'1;{color}' if trained else '2'}m{text}\033[0m"
    mark = ("«" if trained else "»") if trained != was_trained else ""
    return mark + text


def _printable(text: str) -> str:
    # Control characters of a text must not steer the terminal.
    return "".join(c if c.isprintable() else "·" for c in text)


def _close(was_trained: bool, color: int | None) -> str:
    return "»" if was_trained and color is None else ""


def write_batch_page(documents: Sequence[ShownDocument], path: Path, source: str) -> None:
    """Writes the documents as an HTML page; each token tells its position and id when pointed at."""
    tokens = sum(len(d.tokens) for d in documents)
    trained = sum(d.trained_tokens for d in documents)
    report = Report("One batch, as the model gets it", subtitle=source)
    report.summary(
        "Each document has its own colour. Marked tokens are trained: the loss asks the model for them. Grey ones are "
        "only read. The small numbers are positions, which begin again in every document."
    )
    report.figures(
        [
            Figure("Documents", f"{len(documents):,}"),
            Figure("Tokens", f"{tokens:,}"),
            Figure("Trained tokens", f"{trained:,}", f"{100 * trained / max(1, tokens):.0f}% of all"),
        ]
    )
    for document in documents:
        report.section(
            f"Document {document.index}", f"{len(document.tokens):,} tokens, {document.trained_tokens:,} trained"
        )
        report.tokens(document.tokens)
        if document.following is not None:
            report.note(
                f"The document goes on in another piece; the last token here has to predict {document.following.text!r}."
            )
        if document.hidden:
            report.note(f"Hidden, by position: {document.answers}.")
    report.write(path)
