"""The heat map of a comparison: models, and below them the baselines, by corpora.

Colour shows bits per byte relative to the corpus's own model, since corpora differ in how hard they are. The numbers in the
tiles are absolute. All places are in inches from the upper left corner of the sheet.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from flows.pages.comparison_text import BASELINES, difference, interval, model_rows

SHADES = {0: "#1f7a5c", 0.3: "#8ccbb0", 0.5: "#ffffff", 0.62: "#cfe1f2", 0.75: "#7fb0dc", 0.87: "#2f6fb0", 1: "#16355c"}
COLOURS = LinearSegmentedColormap.from_list("relative", list(SHADES.items()))
FEWEST, MOST = -0.4, 1.0  # 40 % fewer bits than the corpus's own model, and twice as many
SCALE = TwoSlopeNorm(vmin=FEWEST, vcenter=0.0, vmax=MOST)
INK, FAINT, OWN, UNKNOWN = "#1f2933", "#616e7c", "#d9822b", (0.95, 0.96, 0.97, 1.0)
TILE_WIDTH, MODEL_HEIGHT, BASELINE_HEIGHT = 1.3, 0.66, 0.34
TOP, BOTTOM, GAP, MARGIN, LEAST_WIDTH = 1.35, 0.95, 0.18, 0.3, 6.4
SUBTITLE = "fewer is better; below each the 95 % interval over documents, and the difference to the corpus's own model"


def heat_map(result: dict) -> Figure:
    models, corpora = model_rows(result), result["corpora"]
    left = 0.45 + 0.085 * max(len(name) for name, _ in models)
    below = TOP + MODEL_HEIGHT * len(models) + GAP
    height = below + BASELINE_HEIGHT * len(BASELINES) + BOTTOM
    figure = Figure(figsize=(max(left + TILE_WIDTH * len(corpora) + MARGIN, LEAST_WIDTH), height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, figure.get_figwidth()), ylim=(height, 0))
    axes.axis("off")
    write(axes, MARGIN, 0.34, "Bits per byte on held-out text", 14, weight="bold")
    write(axes, MARGIN, 0.64, SUBTITLE, 8, FAINT)
    for number, (name, _) in enumerate(models):
        write(axes, left - 0.15, TOP + MODEL_HEIGHT * (number + 0.5), name, 9, ha="right")
    for number, name in enumerate(BASELINES):
        write(axes, left - 0.15, below + BASELINE_HEIGHT * (number + 0.5), name, 9, FAINT, ha="right", style="italic")
    for place, corpus in enumerate(corpora):
        x, cells = left + TILE_WIDTH * place, [row[place] for _, row in models]
        draw_head(axes, x, corpus)
        for number, cell in enumerate(cells):
            draw_model(axes, x, TOP + MODEL_HEIGHT * number, cell)
        own = next((cell["bits_per_byte"] for cell in cells if cell["own"]), None)
        for number, name in enumerate(BASELINES):
            draw_baseline(axes, x, below + BASELINE_HEIGHT * number, corpus["baselines"][name], own)
    draw_legend(figure, axes, left, height - 0.5)
    return figure


def draw_head(axes: Axes, x: float, corpus: dict) -> None:
    middle = x + TILE_WIDTH / 2
    size = f"{corpus['documents']:,} documents, {corpus['bytes'] / 1000:,.0f} kB"
    write(axes, middle, TOP - 0.3, corpus["corpus"], 9, weight="bold", ha="center")
    write(axes, middle, TOP - 0.13, size, 6.5, FAINT, ha="center")


def draw_model(axes: Axes, x: float, y: float, cell: dict) -> None:
    """One model on one corpus; framed where it is the corpus's own."""
    middle, ink = x + TILE_WIDTH / 2, text_colour(cell["relative"])
    draw_tile(axes, x, y, MODEL_HEIGHT, cell["relative"])
    write(axes, middle, y + 0.25, f"{cell['bits_per_byte']:.3f}", 12, ink, weight="bold", ha="center")
    small = [interval(cell).replace(" to ", "–"), difference(cell)]
    write(axes, middle, y + 0.48, "   ".join(filter(None, small)), 6.5, ink, ha="center")
    if cell["own"]:
        draw_frame(axes, x + 0.03, y + 0.03, TILE_WIDTH - 0.06, MODEL_HEIGHT - 0.06)


def draw_baseline(axes: Axes, x: float, y: float, bits: float, own: float | None) -> None:
    """own: bits per byte of the corpus's own model."""
    relative = bits / own - 1 if own else None
    draw_tile(axes, x, y, BASELINE_HEIGHT, relative)
    middle = x + TILE_WIDTH / 2, y + BASELINE_HEIGHT / 2
    write(axes, *middle, f"{bits:.3f}", 9, text_colour(relative), ha="center")


def draw_legend(figure: Figure, axes: Axes, x: float, y: float) -> None:
    """The colours from left to right, and what the frame means."""
    width, height = figure.get_size_inches()
    bar = figure.add_axes((x / width, 1 - (y + 0.12) / height, 2.6 / width, 0.12 / height))
    steps = np.linspace(FEWEST, MOST, 256)[None]
    bar.imshow(steps, cmap=COLOURS, norm=SCALE, aspect="auto", extent=(FEWEST, MOST, 0, 1))
    bar.set_xticks([FEWEST, 0.0, 0.5, MOST], ["−40 %", "as its own model", "+50 %", "+100 %"], fontsize=7)
    bar.set_yticks([])
    bar.tick_params(length=0)
    bar.spines[:].set_visible(False)
    draw_frame(axes, x + 2.95, y - 0.02, 0.28, 0.17)
    write(axes, x + 3.33, y + 0.065, "the corpus's own model", 7)


def draw_tile(axes: Axes, x: float, y: float, height: float, relative: float | None) -> None:
    colour = tile_colour(relative)
    axes.add_patch(Rectangle((x, y), TILE_WIDTH, height, facecolor=colour, edgecolor="white", linewidth=2))


def draw_frame(axes: Axes, x: float, y: float, width: float, height: float) -> None:
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=OWN, linewidth=2))


def write(axes: Axes, x: float, y: float, text: str, size: float, colour: str = INK, **style: Any) -> None:
    axes.text(x, y, text, fontsize=size, color=colour, va="center", parse_math=False, **style)


def tile_colour(relative: float | None) -> tuple[float, float, float, float]:
    return UNKNOWN if relative is None else COLOURS(SCALE(relative, clip=True))


def text_colour(relative: float | None) -> str:
    """White on a dark tile."""
    red, green, blue, _ = tile_colour(relative)
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else INK
