"""Figures, drawn without a screen. Equal numbers give equal bytes: no date, no random names."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from data_contracts.facts import BINS_PER_TEN
from flows.pages.render import publish

BLUE, ORANGE, PALE, GREY = "#2f6fb0", "#d9822b", "#e8ebef", "#46525e"
STYLE = Path(__file__).with_name("templates") / "figures.mplstyle"
WIDTH = 8.0  # inches


class Drawing(NamedTuple):
    name: str
    """of its files, without .svg and .png"""
    svg: str


def draw(path: Path, figure: Callable[..., Figure], *values: object) -> Drawing:
    """Write `figure(*values)` as `path`.svg and `path`.png."""
    path.parent.mkdir(exist_ok=True)
    with matplotlib.rc_context(fname=STYLE):
        drawn, text = figure(*values), io.StringIO()
        drawn.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        drawn.savefig(path.with_suffix(".png"), dpi=110, metadata={"Software": None})
    svg = text.getvalue()
    path.with_suffix(".svg").write_text(svg, encoding="utf-8")
    return Drawing(path.name, svg[svg.index("<svg") :])


def canvas(height: float, *, left: float, right: float = 0.3, bottom: float = 0.1) -> tuple[Figure, Axes]:
    """A figure with fixed margins, in inches: an automatic layout would take ten times as long."""
    figure = Figure(figsize=(WIDTH, height))
    box = (left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (bottom + 0.1) / height)
    return figure, figure.add_axes(box)


def write_data_card(folder: Path, facts: dict) -> None:
    """The card of the clean stage. facts: of data_contracts.facts."""
    publish(folder, "data_card.jinja", facts, lengths=draw(folder / "lengths", lengths, facts["lengths"]))


def lengths(groups: dict[str, dict[int, int]]) -> Figure:
    """Two histograms over a log scale. groups: by name, how many texts by floor(BINS_PER_TEN * log10(characters))."""
    figure, axes = canvas(2.6, left=0.8, bottom=0.5)
    places = [place for counts in groups.values() for place in counts]
    bins = range(min(places), max(places) + 1)
    edges = [10 ** (place / BINS_PER_TEN) for place in [*bins, bins[-1] + 1]]
    for (label, counts), color in zip(groups.items(), (BLUE, ORANGE), strict=True):
        if counts:
            heights = [counts.get(place, 0) for place in bins]
            axes.stairs(heights, edges, fill=True, color=color, alpha=0.75, label=label)
    axes.set(xscale="log", xlabel="characters", ylabel="texts", xlim=(edges[0], edges[-1]))
    # Without a number of ticks a log scale leaves some out, which ones differs from font to font.
    axes.xaxis.set(major_locator=LogLocator(numticks=20), minor_locator=NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.legend(frameon=False)
    return figure


def intervals(rows: list[dict], says: str, noise: float) -> Figure:
    """A point and its interval for each row's difference. says: what it is. noise: differences that another seed makes, too."""
    figure, axes = canvas(0.8 + 0.3 * len(rows), left=2.9, bottom=0.5)
    axes.axvspan(-noise, noise, color=PALE)
    axes.axvline(0, color=GREY, linewidth=0.8)
    for place, row in enumerate(rows):
        color = {"recipe": BLUE, "instead": ORANGE}.get(row["better"], GREY)
        ends = [row[name] for name in ("difference_low", "difference_high") if row[name] is not None]
        axes.plot(ends, [place] * len(ends), color=color, linewidth=2)
        axes.plot(row["difference"], place, "o", color=color)
    axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=says)
    return figure
