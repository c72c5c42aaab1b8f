"""Report: one self-contained HTML page, built section by section.

The page loads nothing and runs nothing: no script, no font, no image from elsewhere. It reads well in light and dark,
on a phone, on paper, and with a screen reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..files import write_text
from ..units import format_number
from .charts import BarChart, LineChart, inline_svg


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


@dataclass
class Section:
    """A heading and what stands under it, in order: each part is (kind, content)."""

    heading: str
    text: str = ""
    parts: list[tuple[str, Any]] = field(default_factory=list)


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

    def summary(self, text: str) -> None:
        """A paragraph in plain language at the top of the page."""
        self._summary.append(text)

    def figures(self, figures: Sequence[Figure]) -> None:
        """The key figures, under the summary."""
        self._figures.extend(figures)

    def section(self, heading: str, text: str = "") -> None:
        """Begins a section; what is added next stands in it."""
        self._sections.append(Section(heading, text))

    def chart(self, chart: LineChart | BarChart) -> None:
        """A chart; several in a row stand side by side where there is room."""
        self._charts += 1
        svg = inline_svg(chart.svg(), f"chart-{self._charts}")
        drawn = {"title": chart.title, "caption": chart.caption, "svg": svg}
        parts = self._last().parts
        if parts and parts[-1][0] == "charts":
            parts[-1][1].append(drawn)
        else:
            parts.append(("charts", [drawn]))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> None:
        """A table; numbers are set to the right. The first column names the row."""
        numeric = [
            bool(rows) and all(isinstance(row[i], (int, float)) or row[i] in ("", None) for row in rows)
            for i in range(len(columns))
        ]
        shown = [[_cell(value) for value in row] for row in rows]
        content = {"title": title, "columns": list(zip(columns, numeric, strict=True)), "rows": shown, "note": note}
        self._last().parts.append(("table", content))

    def compare(self, samples: Sequence[Sample], before: str = "before", after: str = "after") -> None:
        """Prompts with the answers before and after, side by side."""
        self._last().parts.append(("compare", {"samples": list(samples), "before": before, "after": after}))

    def tokens(self, tokens: Sequence[Token]) -> None:
        """A text token by token, the trained ones marked."""
        self._last().parts.append(("tokens", {"tokens": list(tokens), "hue": len(self._sections) % 6 + 1}))

    def note(self, text: str, *, warning: bool = False) -> None:
        """A remark, or a warning the reader should not miss."""
        self._last().parts.append(("note", {"text": text, "warning": warning}))

    def html(self) -> str:
        """The page."""
        from jinja2 import Environment, StrictUndefined

        folder = resources.files(__package__)
        template = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        ).from_string((folder / "page.html.jinja").read_text(encoding="utf-8"))
        return template.render(
            title=self.title,
            subtitle=self.subtitle,
            summary=self._summary,
            figures=self._figures,
            sections=self._sections,
            style=(folder / "page.css").read_text(encoding="utf-8"),
        )

    def write(self, path: Path) -> None:
        """Writes the page whole or not at all.

        Raises:
            StorageError: the disk is full or may not be written to.
        """
        write_text(path, self.html())

    def _last(self) -> Section:
        if not self._sections:
            self._sections.append(Section(""))
        return self._sections[-1]


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return format_number(value)
    return str(value)
