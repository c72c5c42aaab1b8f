"""Charts as inline SVG: text stays text, nothing is loaded, and colours follow the page's light or dark theme.

Matplotlib draws with stand-in colours, which are then replaced by the page's CSS variables (see page.css).
"""

from __future__ import annotations

import html
import io
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ..units import format_count, format_number


class Chart(Protocol):
    """What a page draws."""

    @property
    def title(self) -> str:
        """What is shown."""
        ...

    @property
    def caption(self) -> str:
        """One sentence that tells a reader what to see."""
        ...

    def svg(self) -> str:
        """The drawing."""
        ...


Points = Sequence[tuple[float, float]]
"""The points of one line, as (x, y), in order of x."""

INK, MUTED, GRID = "#0a0b01", "#0a0b02", "#0a0b03"
SERIES = ("#0a0b11", "#0a0b12", "#0a0b13", "#0a0b14", "#0a0b15", "#0a0b16")
STAND_INS = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {c: f"--series-{i + 1}" for i, c in enumerate(SERIES)}
DASHES = ("-", "-", (0, (5, 2)), (0, (1, 1.5)))
# More points than this cannot be told apart on the page, and make it heavy.
MOST_POINTS = 400


@dataclass(frozen=True)
class LineChart:
    """One or more lines over a common x.

    Attributes:
        title: what is shown.
        lines: the points of each named line.
        x: what runs along the bottom.
        caption: one sentence that tells a reader what to see.
        smooth: lines to draw faintly, with a running mean over them.
        markers: lines whose points are few and are marked.
        log: a logarithmic y axis.
    """

    title: str
    lines: Mapping[str, Points]
    x: str = "step"
    caption: str = ""
    smooth: tuple[str, ...] = ()
    markers: tuple[str, ...] = ()
    log: bool = False

    def describe(self) -> str:
        """The chart in words, for those who do not see it."""
        sentences = []
        for name, points in self.lines.items():
            finite = [(x, y) for x, y in points if math.isfinite(y)]
            if not finite:
                continue
            low = min(finite, key=lambda point: point[1])
            text = f"{name}: {self._at(finite[0])}"
            if len(finite) > 1:
                text += f", {self._at(finite[-1])}, lowest {self._at(low)}"
            sentences.append(text + ".")
        return " ".join(sentences) or "No values."

    def _at(self, point: tuple[float, float]) -> str:
        return f"{format_number(point[1])} at {self.x} {point[0]:,g}"

    def svg(self) -> str:
        """The drawing."""
        with drawing(3.1) as (figure, axes):
            ends = []
            for number, (name, points) in enumerate(self.lines.items()):
                finite = [p for p in points if math.isfinite(p[1])]
                if finite:
                    ends.append((*self._draw_line(axes, number, name, finite), SERIES[number % len(SERIES)]))
            axes.set_yscale("log" if self.log else "linear")
            axes.set_xlabel(self.x)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.margins(x=0.03)
            if self.log:
                label_powers(axes)
            else:
                axes.yaxis.set_major_formatter(plain_numbers(max((abs(y) for y in axes.get_ylim()), default=1)))
            if len(self.lines) > 1:
                place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "ncols": 3}
                axes.legend(**place, frameon=False, labelcolor=MUTED, handlelength=1.4, columnspacing=1.2)
            label_ends(axes, ends)
            return finished(figure, self.title, self.describe())

    def _draw_line(self, axes: Any, number: int, name: str, points: Points) -> tuple[float, float]:
        """Draws one line and returns where it ends."""
        style = {"color": SERIES[number % len(SERIES)], "linestyle": DASHES[number % len(DASHES)]}
        thin = _thinned(points)
        if name in self.smooth and len(points) > 20:
            axes.plot(*zip(*thin, strict=True), color=style["color"], linewidth=0.8, alpha=0.35)
            thin = _thinned(_running_mean(points))
        marker = {"marker": "o", "markersize": 4.5} if name in self.markers or len(points) < 3 else {}
        axes.plot(*zip(*thin, strict=True), label=name, linewidth=1.8, **style, **marker)
        return thin[-1]


@dataclass(frozen=True)
class BarChart:
    """Named amounts as horizontal bars, with each one's number and share of the first or of all.

    Attributes:
        title: what is shown.
        bars: (name, amount) from top to bottom.
        unit: what is counted, in the plural.
        caption: one sentence that tells a reader what to see.
        funnel: whether each bar is what is left of the one above, so that shares are of the first.
    """

    title: str
    bars: Sequence[tuple[str, float]]
    unit: str = ""
    caption: str = ""
    funnel: bool = False

    def describe(self) -> str:
        """The chart in words, for those who do not see it."""
        parts = [f"{name}: {format_number(value)} {self.unit}".strip() for name, value in self.bars]
        return "; ".join(parts) + "." if parts else "No values."

    def svg(self) -> str:
        """The drawing."""
        values = [value for _, value in self.bars]
        whole = (values[0] if self.funnel else sum(values)) if values else 0
        with drawing(0.55 + 0.34 * max(1, len(values))) as (figure, axes):
            places = range(len(values))
            axes.barh(places, values, height=0.62, color=SERIES[0])
            axes.set_yticks(places, [_shortened(name) for name, _ in self.bars])
            axes.invert_yaxis()
            axes.set_xlim(0, max(values, default=1) * 1.32 or 1)
            axes.grid(visible=False)
            axes.tick_params(axis="y", length=0, labelcolor=INK)
            axes.set_xticks([])
            axes.spines[:].set_visible(False)
            for place, value in zip(places, values, strict=True):
                share = f" · {_percent(value / whole)}" if whole else ""
                text = f"{_short_number(value)}{share}"
                axes.annotate(text, (value, place), xytext=(5, 0), textcoords="offset points", va="center", color=MUTED)
            return finished(figure, self.title, self.describe())


def inline_svg(svg: str, prefix: str) -> str:
    """The SVG with every id made its own, so that many stand on one page."""
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(aria-labelledby=")([^"]+)(")', lambda m: m[1] + _prefixed(m[2], prefix) + m[3], svg)
    return re.sub(r'(url\(#|href="#)', rf"\1{prefix}-", svg)


def _prefixed(ids: str, prefix: str) -> str:
    return " ".join(f"{prefix}-{one}" for one in ids.split())


@contextmanager
def drawing(height: float) -> Iterator[tuple[Any, Any]]:
    """An empty figure of the page's look, 5.4 inches wide."""
    # The first import on a machine announces that it builds its font cache; that is no news for our user.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    import matplotlib
    from matplotlib.figure import Figure

    look: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "ownlm",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9.5,
        "text.color": INK,
        "text.parse_math": False,
        "axes.edgecolor": GRID,
        "axes.labelcolor": MUTED,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "xtick.color": GRID,
        "ytick.color": GRID,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "ytick.major.size": 0,
    }
    with matplotlib.rc_context(look):
        # A Figure of its own, not pyplot's: no window system is asked for, and nothing is kept in a registry.
        figure = Figure(figsize=(5.4, height), layout="constrained")
        yield figure, figure.add_subplot()


def finished(figure: Any, title: str, description: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'font: (?:(bold) )?([\d.]+px) [^;"]*', lambda m: f"font: {m[1] or 'normal'} {m[2]} var(--font)", svg)
    for color, variable in STAND_INS.items():
        svg = svg.replace(color, f"var({variable})")
    head = f'<title id="title">{html.escape(title)}</title><desc id="description">{html.escape(description)}</desc>'
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    opening = f'<svg role="img" aria-labelledby="title description" {view[0]} xmlns="http://www.w3.org/2000/svg" '
    opening += 'xmlns:xlink="http://www.w3.org/1999/xlink">'
    return opening + head + svg[svg.index(">") + 1 :].strip()


def plain_numbers(largest: float) -> Any:
    """Writes an axis's small numbers with one common power of ten: 2e-4, 1.5e-4."""
    from matplotlib.ticker import FuncFormatter

    power = math.floor(math.log10(largest)) if 0 < largest < 1e-2 else 0
    tail = f"e{power}" if power else ""
    return FuncFormatter(lambda value, _: f"{value / 10**power:,.6g}{tail if value else ''}")


def label_powers(axes: Any) -> None:
    """Labels a logarithmic axis with plain numbers; its own labels would be formulas."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axes.get_ylim()
    if high < 100 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(plain_numbers(1))
    axes.yaxis.set_minor_formatter(NullFormatter())


def label_ends(axes: Any, ends: Sequence[tuple[float, float, str]]) -> None:
    """Writes each line's last value to its right, moved apart where two would touch."""
    to_points = 72 / axes.figure.dpi
    least = -math.inf
    for x, y, color in sorted(ends, key=lambda end: end[1]):
        natural = axes.transData.transform((x, y))[1] * to_points
        placed = max(natural, least)
        least = placed + 11
        text = {"textcoords": "offset points", "va": "center", "color": color, "weight": "bold"}
        axes.annotate(format_number(y), (x, y), xytext=(6, placed - natural), annotation_clip=False, **text)


def _percent(share: float) -> str:
    return "<0.1%" if 0 < share < 0.001 else f"{100 * share:.1f}%"


def _thinned(points: Points) -> Points:
    """At most MOST_POINTS of the points: the mean of each stretch, the last point as it is."""
    if len(points) <= MOST_POINTS:
        return points
    size = math.ceil(len(points) / MOST_POINTS)
    stretches = [points[i : i + size] for i in range(0, len(points) - 1, size)]
    means = [(sum(x for x, _ in s) / len(s), sum(y for _, y in s) / len(s)) for s in stretches]
    return [*means, points[-1]]


def _running_mean(points: Points) -> Points:
    """Each point's mean with those before it, older ones weighing less; unbiased at the beginning."""
    keep = 1 - 1 / min(50, max(4, len(points) / 20))
    total = weight = 0.0
    result = []
    for x, y in points:
        total, weight = keep * total + y, keep * weight + 1
        result.append((x, total / weight))
    return result


def _short_number(value: float) -> str:
    return format_count(value) if abs(value) >= 10_000 else format_number(value)


def _shortened(name: str) -> str:
    return name if len(name) <= 28 else name[:13] + "…" + name[-14:]
