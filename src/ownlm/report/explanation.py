"""The page of a text as a model reads it: surprise, attention, the prediction after each layer, what comes next.

What is shown is measured elsewhere (evaluate/explain.py); the page says how to read each part, and what it does not say.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..units import plural
from .charts import LineChart
from .explained import Explanation, Guess, Head, Place
from .gray_png import gray_png
from .page import BarRow, Figure, Report, part_of_room, render, visible

# Bits from which a token has the full colour: one in 65,536.
FULL_BITS = 16
# Places of which the table of layers shows the prediction.
MOST_COLUMNS = 64
# First choices that stand under each token of the table.
SAID = 3
# Up to this many points of a line are marked one by one.
MOST_MARKERS = 64
# Up to this many rows, the table of all tokens is open; of a masked model, which has no other, up to twice as many.
OPEN_ROWS = 24


def write_explanation(explanation: Explanation, path: str | Path) -> Path:
    """Writes the page whole or not at all, and returns where it is.

    Raises:
        StorageError: the disk is full or may not be written to.
    """
    explanation_report(explanation).write(Path(path))
    return Path(path)


def explanation_report(explanation: Explanation) -> Report:
    """The page, to be written."""
    config = explanation.config
    report = Report("How the model reads a text", subtitle=f"{explanation.model} · {config['family']}")
    for sentence in _summary(explanation):
        report.summary(sentence)
    report.figures(list(_figures(explanation)))
    report.contents()
    _add_text(report, explanation)
    if explanation.next:
        report.section("What comes next", "The likeliest tokens after the text, of all that the model knows.")
        _add_amounts(report, "Next token", [(shown(one.text), one.probability) for one in explanation.next])
    if explanation.classes:
        report.section("Which class", "What the model says of the whole text.")
        if explanation.probabilities:
            _add_amounts(report, "Class", list(explanation.classes.items()))
        else:
            report.table("Numbers", ["name", "value"], list(explanation.classes.items()))
    _add_attention(report, explanation)
    if explanation.layers:
        _add_layers(report, explanation)
    return report


def shown(text: str) -> str:
    """A token's text on its own: with its spaces and line ends seen."""
    return visible(text.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍")) or "∅"


def percent(share: float) -> str:
    """A probability in few characters."""
    if share >= 0.9995 or share == 0:
        return f"{100 * share:.0f}%"
    return f"{100 * share:.0f}%" if share >= 0.0995 else f"{100 * share:.1f}%" if share >= 0.0005 else "<0.1%"


def _summary(explanation: Explanation) -> Iterator[str]:
    places = [place for place in explanation.by_position.values() if place.surprisal is not None]
    if places:
        hardest = max(places, key=lambda place: place.surprisal or 0)
        how = "given those before it" if explanation.kind == "causal" else "when it alone is hidden"
        yield (
            f"A token surprises the model by {explanation.bits:.1f} bits on average, {how}; most of all "
            f"“{shown(explanation.tokens[hardest.position])}”, which it gave {percent(hardest.right or 0)}."
        )
    if explanation.next:
        first = explanation.next[0]
        yield f"After the text it would say “{shown(first.text)}” ({percent(first.probability)})."
    if explanation.classes and explanation.probabilities:
        label, score = next(iter(explanation.classes.items()))
        yield f"It takes the text for “{label}” ({percent(score)})."


def _figures(explanation: Explanation) -> Iterator[Figure]:
    config = explanation.config
    yield Figure("Tokens", f"{len(explanation.ids):,}", f"{sum(map(len, explanation.tokens)):,} characters")
    if explanation.bits is not None:
        pseudo = "pseudo-" if explanation.kind == "masked" else ""
        yield Figure("Bits per token", f"{explanation.bits:.2f}", f"{pseudo}perplexity {2**explanation.bits:,.1f}")
        ranks = [place.rank for place in explanation.by_position.values() if place.rank is not None]
        first = sum(rank == 1 for rank in ranks)
        yield Figure("Right at first guess", percent(first / len(ranks)), f"{first} of {plural(len(ranks), 'token')}")
    yield Figure("Attention", f"{config['layers']} x {config['heads']}", f"layers x heads, width {config['width']:,}")


def _add_text(report: Report, explanation: Explanation) -> None:
    report.section("The text, token by token", _ABOUT_TEXT[explanation.kind])
    places = explanation.by_position
    tokens = []
    for position, (text, number) in enumerate(zip(explanation.tokens, explanation.ids, strict=True)):
        place = places.get(position)
        about = f"position {position}, token {number}"
        bits = None if place is None else place.surprisal
        if place is not None and bits is not None:
            about += f", {bits:.1f} bits, rank {place.rank:,}, {percent(place.right or 0)}"
            about += f"; first choice {shown(place.top[0].text)} {percent(place.top[0].probability)}"
        strength = None if bits is None else min(bits / FULL_BITS, 1)
        # A line end is seen, and still ends the line.
        tokens.append({"text": text.replace("\n", "⏎\n") or "∅", "about": about, "strength": strength})
    drawn = render("surprise.html.jinja", tokens=tokens, full=FULL_BITS, scored=bool(places))
    report.markup(drawn, style=part_of_room("explanation.css"))
    scored = [(position, place.surprisal) for position, place in places.items() if place.surprisal is not None]
    if scored:
        caption = "A peak is a token that the model did not expect; higher is more surprising."
        line = {"surprise in bits": [(float(x), y) for x, y in scored]}
        few = tuple(line) if len(scored) <= MOST_MARKERS else ()
        report.chart(LineChart("Surprise by position", line, x="position", caption=caption, markers=few))
        most = {"causal": OPEN_ROWS, "masked": 2 * OPEN_ROWS}.get(explanation.kind, 0)
        with report.fold("Every token with what the model would have said", opened=len(scored) <= most):
            _add_token_table(report, explanation, places)


def _add_token_table(report: Report, explanation: Explanation, places: Mapping[int, Place]) -> None:
    most = max(place.surprisal or 0 for place in places.values())
    rows = []
    for position, text in enumerate(explanation.tokens):
        place = places.get(position)
        if place is None or place.surprisal is None:
            values, rule = ["–", "–", "–"], "nothing is predicted here"
            rows.append(BarRow(f"{position}  {shown(text)}", values=values, rule=rule))
            continue
        instead = " | ".join(f"{shown(one.text)} {percent(one.probability)}" for one in place.top[:SAID])
        bar = [("second", place.surprisal / most)] if most else []
        values = [f"{place.surprisal:.1f}", percent(place.right or 0), f"{place.rank:,}"]
        rows.append(BarRow(f"{position}  {shown(text)}", bar, values, instead))
    caption = f"The bar is the surprise. Rank 1 is the model's first choice; its first {SAID} stand under each token."
    report.bars("Tokens", ["position and token", "bits", "probability", "rank"], rows, caption=caption)


def _add_amounts(report: Report, title: str, amounts: Sequence[tuple[str, float]]) -> None:
    rows = [BarRow(name, [("first", share)], [f"{100 * share:.2f}%"]) for name, share in amounts]
    report.bars(title, [title.lower(), "probability"], rows)


def _add_attention(report: Report, explanation: Explanation) -> None:
    report.section("Attention", _ABOUT_ATTENTION)
    if explanation.shown < len(explanation.ids):
        cut = (
            f"The maps are of the first {explanation.shown} of {len(explanation.ids)} tokens; the measures are of all."
        )
        report.note(cut, warning=True)
    rows = []
    for place, pattern in enumerate(explanation.patterns):
        heads = [head for head in explanation.heads if place in head.names]
        strongest = sorted(heads, key=lambda head: -head.measures[place])[:8]
        names = ", ".join(f"{head.layer}.{head.head} ({percent(head.measures[place])})" for head in strongest)
        bar = [("first", len(heads) / len(explanation.heads))]
        values = [f"{len(heads):,}", f"{pattern.places:,}", names or "–"]
        rows.append(BarRow(f"{pattern.letter}  {pattern.name}", bar, values, pattern.meaning))
    columns = ["looks at", "heads", "places", "strongest, as layer.head"]
    report.bars("What heads look at", columns, rows, caption=_ABOUT_NAMES)
    layers = [list(heads) for _, heads in itertools.groupby(explanation.heads, key=lambda head: head.layer)]
    grid = [[(head, _head_label(head, explanation), gray_png(255 - head.weights)) for head in row] for row in layers]
    data = {
        "tokens": [shown(text) for text in explanation.tokens[: explanation.shown]],
        "patterns": [pattern.name for pattern in explanation.patterns],
        "measures": [[None if np.isnan(x) else round(x, 4) for x in head.measures] for head in explanation.heads],
        "names": [head.names for head in explanation.heads],
    }
    # A closing tag in a token must not end the block.
    content = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    drawn = render(
        "attention.html.jinja",
        grid=grid,
        heads=len(layers[0]),
        patterns=explanation.patterns,
        tokens=data["tokens"],
        data=content,
    )
    report.markup(drawn, style=part_of_room("explanation.css"), script=part_of_room("explanation.js"))


def _head_label(head: Head, explanation: Explanation) -> str:
    names = [f"{explanation.patterns[place].name} {percent(head.measures[place])}" for place in head.names]
    return f"layer {head.layer}, head {head.head}" + (f": {', '.join(names)}" if names else "")


def _add_layers(report: Report, explanation: Explanation) -> None:
    report.section("The prediction after each layer", _ABOUT_LAYERS)
    known = [[guess for guess in layer if guess.rank is not None] for layer in explanation.layers]
    if known[0]:
        ranks = [(n, statistics.median(guess.rank or 1 for guess in layer)) for n, layer in enumerate(known)]
        chances = [(n, statistics.mean(guess.right or 0 for guess in layer)) for n, layer in enumerate(known)]
        x = "layers passed"
        caption = "The median over all places; 1 is the first choice."
        report.chart(LineChart("Rank of the right token", {"median rank": ranks}, x=x, caption=caption, log=True))
        caption = "The mean over all places."
        report.chart(LineChart("Probability of the right token", {"probability": chances}, x=x, caption=caption))
    columns = list(range(len(explanation.places)))
    if len(columns) > MOST_COLUMNS:
        columns = [*columns[: MOST_COLUMNS - 1], columns[-1]]
        report.note(f"The table is of the first {MOST_COLUMNS - 1} places and the last; --json has all.", warning=True)
    heads = []
    for column in columns:
        position = explanation.places[column].position
        text = explanation.tokens[position] if position < len(explanation.ids) else None
        heads.append((position, "what follows" if text is None else shown(text)))
    rows = [
        ("embedding" if number == 0 else f"layer {number - 1}", [_cell(layer[column]) for column in columns])
        for number, layer in reversed(list(enumerate(explanation.layers)))
    ]
    drawn = render("layers.html.jinja", heads=heads, rows=rows)
    report.markup(drawn, style=part_of_room("explanation.css"))


def _cell(guess: Guess) -> dict[str, Any]:
    best = guess.best
    wrong = guess.rank is not None and guess.rank > 1
    below = f"right: no. {guess.rank:,}, {percent(guess.right or 0)}" if wrong else ""
    share = percent(best.probability)
    return {"text": shown(best.text), "first": guess.rank == 1, "p": best.probability, "share": share, "below": below}


_ABOUT_TEXT = {
    "causal": "The stronger the colour, the more a token surprised the model, given those before it. Surprise is the "
    "negative logarithm, to base 2, of the probability that the model gave the token: 1 bit is one in two, 10 bits one in "
    "1,024. Nothing stands before the first token, so it is not scored.",
    "masked": "The stronger the colour, the more a token surprised the model when that token alone was masked and all "
    "others were seen (pseudo-likelihood). Surprise is the negative logarithm, to base 2, of the probability that the model "
    "gave the token: 1 bit is one in two, 10 bits one in 1,024. The special tokens around the text are not scored.",
    "classes": "The text as the model gets it. A model of classes predicts no tokens, so there is no surprise.",
}
_ABOUT_ATTENTION = (
    "One small map for each head, layer by layer. A row is a token that looks, from the first at the top; a column is a "
    "token that is looked at; the darker (in dark mode, the brighter), the more weight. The shade is the square root of the "
    "weight, so that small weights are seen. Choose a map to see it large and to read its pairs. Weight says where a head "
    "reads from; it does not say that what stands there decided the answer (Jain and Wallace 2019)."
)
_ABOUT_NAMES = (
    "A head is named after a pattern that gets at least half of its weight on average over the places of this text where the "
    "pattern can be seen, and at least twice what it would get if weight were spread evenly, with three places or more to "
    "judge by. Names are of this text only. Layers and heads are counted from 0."
)
_ABOUT_LAYERS = (
    "What the model would say if it stopped early: the stream after each layer is sent through the last norm and the head "
    "(the “logit lens”, nostalgebraist 2020). The head was made for the last layer's stream alone, so the rows under the top "
    "one are a view of what can be read from the stream, not something that the model says; early layers often make no "
    "sense. The text enters at the bottom, and the top row is what the model says. Each cell has the first choice and its "
    "probability, with ✓ where it is the right token, and otherwise the right token's rank and probability."
)
