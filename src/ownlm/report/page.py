"""Report: one self-contained HTML page, built section by section.

The page loads nothing and runs nothing: no script, no font, no image from elsewhere. It reads well in light and dark,
on a phone, on paper, and with a screen reader. A part that needs a script of ours brings it, and the page then runs that
very script and no other.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..files import write_text
from ..units import format_number
from .charts import Chart, inline_svg


@dataclass(frozen=True)
class Figure:
    """One key figure: what it is, its value as text, and what to make of it."""

    label: str
    value: str
    note: str = ""
    good: bool | None = None
    """Whether the note is good news (True), bad news (False) or neither."""


@dataclass(frozen=True)
class Sample:
    """One prompt and what the model wrote before and after training."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class Token:
    """One token of a text: what it adds to the text, its id, its position, and whether the loss asks for it."""

    text: str
    id: int
    position: int
    trained: bool


@dataclass(frozen=True)
class Excerpt:
    """A piece of a text from elsewhere: where it stands, what explains it, and its words.

    Attributes:
        place: where it comes from.
        runs: the text in order, as (text, whether it is marked).
        facts: (name, value) that explain it.
        badge: a word or two on its corner.
        good: whether the badge is good news (True), bad news (False) or neither.
    """

    place: str
    runs: Sequence[tuple[str, bool]]
    facts: Sequence[tuple[str, str]] = ()
    badge: str = ""
    good: bool | None = None


@dataclass(frozen=True)
class BarRow:
    """One row of a table with bars.

    Attributes:
        label: what the row is about.
        bar: (colour, share of the whole width) from left to right; the colours are those of ``BAR_COLORS``.
        values: the row's other columns.
        rule: an expression or a name from a file, under the label.
        level: -1 for the heading of the rows that follow, 1 for a row that is part of the one above it.
        fold: what the folded part under the row is called.
        excerpts: what stands in it.
    """

    label: str
    bar: Sequence[tuple[str, float]] = ()
    values: Sequence[Any] = ()
    rule: str = ""
    level: int = 0
    fold: str = ""
    excerpts: Sequence[Excerpt] = ()


BAR_COLORS = ("first", "second", "third", "fourth", "lost")
"""A bar's colours; what was lost is hatched, so that it is told apart without colour too."""

Part = tuple[str, Any]
"""What stands in a section: its kind and its content."""


@dataclass
class Section:
    """A heading and what stands under it, in order: each part is (kind, content)."""

    heading: str
    text: str = ""
    parts: list[Part] = field(default_factory=list)


class Report:
    """A page that grows from top to bottom.

        report = Report("Training report")
        report.summary("The loss on unseen text fell by 38%.")
        report.figures([Figure("Held-out loss", "1.186", "38% lower", good=True)])
        report.section("Curves")
        report.chart(LineChart("Loss", {"training": points}))
        report.write(Path("report.html"))

    Args:
        title: the page's title.
        subtitle: a line under it, such as the run's folder.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._summary: list[str] = []
        self._figures: list[Figure] = []
        self._sections: list[Section] = []
        self._charts = 0
        self._folds: list[list[Part]] = []
        self._contents = False
        self._styles: list[str] = []
        self._script = ""

    def summary(self, text: str) -> None:
        """A paragraph in plain language at the top of the page."""
        self._summary.append(text)

    def figures(self, figures: Sequence[Figure]) -> None:
        """The key figures, under the summary."""
        self._figures.extend(figures)

    def contents(self) -> None:
        """Links to the sections, under the key figures."""
        self._contents = True

    def section(self, heading: str, text: str = "") -> None:
        """Begins a section; what is added next stands in it."""
        self._sections.append(Section(heading, text))

    def chart(self, chart: Chart) -> None:
        """A chart; several in a row stand side by side where there is room."""
        self._charts += 1
        svg = inline_svg(chart.svg(), f"chart-{self._charts}")
        drawn = {"title": chart.title, "caption": chart.caption, "svg": svg}
        parts = self._parts()
        if parts and parts[-1][0] == "charts":
            parts[-1][1].append(drawn)
        else:
            parts.append(("charts", [drawn]))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> None:
        """A table; numbers are set to the right. The first column names the row."""
        numeric = [bool(i) and _is_numeric([row[i] for row in rows]) for i in range(len(columns))]
        shown = [[_cell(value) for value in row] for row in rows]
        content = {"title": title, "columns": list(zip(columns, numeric, strict=True)), "rows": shown, "note": note}
        self._parts().append(("table", content))

    def compare(self, samples: Sequence[Sample], before: str = "before", after: str = "after") -> None:
        """Prompts with the answers before and after, side by side."""
        self._parts().append(("compare", {"samples": list(samples), "before": before, "after": after}))

    def tokens(self, tokens: Sequence[Token]) -> None:
        """A text token by token, the trained ones marked."""
        self._parts().append(("tokens", {"tokens": list(tokens), "hue": len(self._sections) % 6 + 1}))

    def bars(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[BarRow],
        legend: Sequence[tuple[str, str]] = (),
        caption: str = "",
        narrow: bool = False,
    ) -> None:
        """A table whose rows carry a bar: a chart that needs no description, since every number stands beside its bar.

        Args:
            title: what is shown.
            columns: the names of all columns, the labels' first.
            rows: from top to bottom.
            legend: what each colour means, as (colour, meaning).
            caption: one sentence that tells a reader what to see.
            narrow: set close; several in a row stand side by side where there is room.
        """
        values = [row.values for row in rows if row.values]
        numeric = [False, *(_is_numeric([row[i] for row in values]) for i in range(len(columns) - 1))]
        content = {
            "title": title,
            "columns": list(zip(columns, numeric, strict=True)),
            "rows": [(row, [_cell(value) for value in row.values]) for row in rows],
            "legend": list(legend),
            "caption": caption,
            "narrow": narrow,
        }
        parts = self._parts()
        if narrow and parts and parts[-1][0] == "bars" and parts[-1][1][-1]["narrow"]:
            parts[-1][1].append(content)
        else:
            parts.append(("bars", [content]))

    def side_by_side(self, title: str, excerpts: Sequence[Excerpt], about: str = "") -> None:
        """Texts to compare, in columns where there is room."""
        content = {"title": title, "excerpts": list(excerpts), "about": about, "level": 3 + bool(self._folds)}
        self._parts().append(("side_by_side", content))

    @contextmanager
    def fold(self, heading: str, *, opened: bool = False) -> Iterator[None]:
        """What is added inside stands under a heading that opens and closes it."""
        inner: list[Part] = []
        self._parts().append(("fold", {"heading": heading, "parts": inner, "opened": opened}))
        self._folds.append(inner)
        try:
            yield
        finally:
            self._folds.pop()

    def note(self, text: str, *, warning: bool = False) -> None:
        """A remark, or a warning the reader should not miss."""
        self._parts().append(("note", {"text": text, "warning": warning}))

    def markup(self, markup: str, *, style: str = "", script: str = "") -> None:
        """A part drawn elsewhere in this room, with what it needs beside the page's own style.

        Args:
            markup: HTML of ours, in which every text was escaped (``render``); its images stand in it as data.
            style: CSS.
            script: the page's only one; the page must say all it has to say without it, too.
        """
        assert not (script and self._script), "a page has one script"
        self._parts().append(("markup", markup))
        self._styles.append(style)
        self._script = self._script or script

    def html(self) -> str:
        """The page."""
        allowed = "default-src 'none'; style-src 'unsafe-inline'"
        if self._script:
            digest = base64.b64encode(hashlib.sha256(self._script.encode()).digest()).decode()
            allowed += f"; img-src data:; script-src 'sha256-{digest}'"
        return render(
            "page.html.jinja",
            allowed=allowed,
            script=self._script,
            title=self.title,
            subtitle=self.subtitle,
            summary=self._summary,
            figures=self._figures,
            sections=self._sections,
            contents=self._contents,
            style="\n".join([part_of_room("page.css"), *dict.fromkeys(filter(None, self._styles))]),
        )

    def write(self, path: Path) -> None:
        """Writes the page whole or not at all.

        Raises:
            StorageError: the disk is full or may not be written to.
        """
        write_text(path, self.html())

    def _parts(self) -> list[Part]:
        """Where the next part goes: the innermost open fold, or the last section."""
        if self._folds:
            return self._folds[-1]
        if not self._sections:
            self._sections.append(Section(""))
        return self._sections[-1].parts


def part_of_room(name: str) -> str:
    """The text of a file that lies in this room: a template, a style, a script."""
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def render(name: str, **values: Any) -> str:
    """A template of this room, filled: what is not marked as safe is escaped, and made visible."""
    from jinja2 import Environment, StrictUndefined

    return (
        Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_visible)
        .from_string(part_of_room(name))
        .render(**values)
    )


def visible(text: str) -> str:
    """The text with what cannot be seen made visible: control characters, and those that turn the line around.

    A file name that reads backwards from its middle, or a NUL in a text, is then seen for what it is, and neither
    spoils the page.
    """
    return _HIDDEN.sub(_named, text)


# Control characters but tab and line ends, marks that override or embed a direction, halves of surrogate pairs, and
# the two code points that are never characters.
_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_NUMERIC = re.compile(r"[<>+-]?[\d.,]+(%|[kMBT]| [kMGT]?B)?\*?|–|")


def _named(match: re.Match[str]) -> str:
    return f"⟨U+{ord(match[0]):04X}⟩"


def _visible(value: Any) -> Any:
    # What is marked as safe is our own markup, not a text.
    return value if hasattr(value, "__html__") or not isinstance(value, str) else visible(value)


def _is_numeric(values: Sequence[Any]) -> bool:
    """Whether a column holds numbers, or shares and counts written out."""
    return bool(values) and all(
        isinstance(value, (int, float)) or value is None or (isinstance(value, str) and _NUMERIC.fullmatch(value))
        for value in values
    )


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return format_number(value)
    return str(value)
