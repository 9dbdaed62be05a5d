"""The figures of a data card, drawn without a screen. Equal numbers give equal bytes: no date, no random names."""

import io
import math
from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import FuncFormatter

from data_contracts.pages import plain

KEPT, REJECTED, PALE = "#2f6fb0", "#d9822b", "#e8ebef"
GROUPS = {"letters": KEPT, "white space": "#9aa5b1", "digits": "#3a9679", "punctuation": "#7b5ea7"}  # others: REJECTED
STYLE = {
    "svg.hashsalt": "data card",
    "svg.fonttype": "none",  # text stays text: small, sharp, in the reader's own font
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": "#46525e",
    "xtick.color": "#46525e",
    "ytick.color": "#46525e",
}
WIDTH = 8.0


def draw(path: Path, figure: Callable[..., Figure], *values: object) -> str:
    """Write `path` as .svg and .png; returns the SVG, to stand inside a page."""
    with matplotlib.rc_context(STYLE):
        drawn, text = figure(*values), io.StringIO()
        drawn.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        drawn.savefig(path.with_suffix(".png"), dpi=110, metadata={"Software": None})
    svg = text.getvalue()
    path.with_suffix(".svg").write_text(svg, encoding="utf-8")
    return svg[svg.index("<svg") :]


def funnel(steps: list[tuple[str, int]], kept: int) -> Figure:
    """steps: (reason, texts) in the order in which texts are turned away. What is left after the last is kept."""
    left = total = kept + sum(texts for _, texts in steps)
    rows = [("all", 0, total, KEPT)]
    for name, texts in steps:
        left -= texts
        rows.append((name, left, texts, REJECTED))
    rows.append(("kept", 0, kept, KEPT))
    figure, axes = canvas(0.5 + 0.28 * len(rows), left=1.3, right=1.4)
    for place, (_, start, texts, color) in enumerate(rows):
        axes.barh(place, total, color=PALE, height=0.7)
        axes.barh(place, texts, left=start, color=color, height=0.7)
        axes.text(total * 1.01, place, f"{texts:,} ({plain(texts / total)})", va="center", color="#46525e")
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set(xlim=(0, total), ylim=(len(rows) - 0.5, -0.5), xticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(left=False)
    return figure


def lengths(groups: dict[str, dict[int, int]], per_ten: int, unit: str, things: str) -> Figure:
    """groups: two of them, by name; how many things by floor(per_ten * log10(length in units))."""
    figure, axes = canvas(2.6, left=0.8, bottom=0.5)
    places = [place for counts in groups.values() for place in counts]
    bins = range(min(places), max(places) + 1)
    edges = [10 ** (place / per_ten) for place in [*bins, bins[-1] + 1]]
    for (label, counts), color in zip(groups.items(), (KEPT, REJECTED), strict=True):
        if counts:
            axes.stairs(
                [counts.get(place, 0) for place in bins], edges, fill=True, color=color, alpha=0.75, label=label
            )
    # The ticks are set by hand: those of a log scale have exponents, and differ from font to font.
    powers = range(math.ceil(math.log10(edges[0])), math.floor(math.log10(edges[-1])) + 1)
    axes.set(xscale="log", xlabel=unit, ylabel=things, xlim=(edges[0], edges[-1]))
    axes.set_xticks([10**power for power in powers], [f"{10**power:,}" for power in powers])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.0f}"))
    axes.legend(frameon=False)
    return figure


def characters(frequent: list[tuple[str, str, float]]) -> Figure:
    """frequent: (character, group, share of all characters), the most frequent first."""
    figure, axes = canvas(2.4, left=0.6, bottom=0.35)
    places = range(len(frequent))
    colors = [GROUPS.get(group, REJECTED) for _, group, _ in frequent]
    axes.bar(places, [100 * share for *_, share in frequent], color=colors)
    axes.set_xticks(places, [label(char) for char, *_ in frequent])
    axes.set(ylabel="% of characters", xlim=(-0.7, len(frequent) - 0.3))
    axes.tick_params(axis="x", length=0)
    for group, color in [*GROUPS.items(), ("beyond ASCII", REJECTED)]:
        axes.bar(0, 0, color=color, label=group)
    axes.legend(frameon=False, ncols=len(GROUPS) + 1)
    return figure


def label(char: str) -> str:
    """The character itself where it can be seen and the font has it, else a sign or its number."""
    if char in (signs := {" ": "␣", "\n": "⏎", "\t": "⇥"}):
        return signs[char]
    known = char.isprintable() and get_font(findfont("DejaVu Sans")).get_char_index(ord(char))
    return char if known else f"{ord(char):X}"


def canvas(height: float, *, left: float, right: float = 0.3, bottom: float = 0.1) -> tuple:
    """Margins in inches: a tenth of the time that an automatic layout takes."""
    figure = Figure(figsize=(WIDTH, height))
    box = (left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (bottom + 0.1) / height)
    return figure, figure.add_axes(box)
