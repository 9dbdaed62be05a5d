"""Pages from Jinja templates: one template a page, rendered as HTML and as Markdown.

A template says what a page shows, by the macros heading, paragraph, table, figure and quote; macros.html and macros.md say how
each looks. Texts of a corpus are not trusted: in HTML Jinja escapes every value, in Markdown the macros do, and a quote
stands in an indented block.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

Parts = list[tuple[str, str]]  # ("same" | "gone" | "new", text): how a text was changed

MARKS = {"same": ("", ""), "gone": ("[-", "-]"), "new": ("{+", "+}")}  # as git shows changed words


def columns(rows: Iterable[Mapping[str, Any]], *names: str) -> dict[str, Sequence]:
    """A table of some columns of rows, headed by their names, and of each whether it holds numbers, by its first cell."""
    cells = [[row[name] for name in names] for row in rows]
    number = [bool(re.fullmatch(r"<?[\d,.]+%?", plain(cell))) for cell in (cells or [[*names]])[0]]
    return {"head": [name.replace("_", " ") for name in names], "rows": cells, "number": number}


def against_baselines(counts: Mapping[str, Any]) -> str:
    """By how much a model beats its best baseline, or that it does not. counts: of the stages pack and train."""
    name, best = min(counts["baselines"].items(), key=lambda item: item[1])
    baseline = f"PPMd of order {counts['ppmd_order']} ({best:.3f})" if name == "ppmd" else f"{name} ({best:.3f})"
    model, interval = counts["test_bpb"], counts["test_over_ppmd"] if name == "ppmd" else None
    line = (
        f"{model:.3f} bits per byte beat the best baseline, {baseline}, by {best - model:.3f} ({1 - model / best:.1%})"
    )
    if model >= best:
        line = (
            f"{model:.3f} bits per byte do not beat the best baseline, {baseline}, which needs {model - best:.3f} fewer"
        )
    if not interval:
        return line
    low, high = sorted(value if model >= best else -value for value in interval[1:])
    return f"{line}; 95 % interval {low:.3f} to {high:.3f}" + ("" if low > 0 else ", so it may be chance")


def plain(value: str | int | float | Parts) -> str:
    """A value as plain text: 12,345 for a count, 12.3% for a share, changes as git shows them."""
    match value:
        case list():
            return "".join(MARKS[kind][0] + text + MARKS[kind][1] for kind, text in value)
        case float():
            return f"{value:.1%}" if value >= 0.0005 or not value else "<0.1%"
        case int():
            return f"{value:,}"
    return value


def escape_markdown(text: str) -> str:
    """One line, in which no character has a meaning to Markdown."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", text.replace("\n", " ").replace("&", "&amp;"))


def publish(folder: Path, template: str, facts: dict, **drawings: object) -> None:
    """Write card.json, the facts; card.md; and card.html, which needs no other file. drawings: by their names in the template,
    which leaves out those that are missing."""
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "card.md").write_text(render_text(template, facts=facts, **drawings), encoding="utf-8")
    page = _environment("html").get_template(template).render(facts=facts, **drawings)
    (folder / "card.html").write_text(page, encoding="utf-8")


def render_text(template: str, **values: object) -> str:
    """Markdown, or lines for the terminal."""
    text = _environment("md").get_template(template).render(values)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def spaced(text: str) -> str:
    """Markdown for a page of MLflow, which leaves no space between the columns of a table."""
    return re.sub(r"(?m)^\|(?![-: |]+$).*\|$", lambda row: row[0].replace(" |", "&emsp;|"), text)


def card_markdown(folder: Path) -> str:
    """card.md with its figures inside, for a page of Prefect, which has no files beside it."""
    text = (folder / "card.md").read_text(encoding="utf-8")
    return re.sub(
        r"(?m)^(!\[[^\]\n]*\])\((\w+\.png)\)$",
        lambda found: f"{found[1]}(data:image/png;base64,{b64encode((folder / found[2]).read_bytes()).decode()})",
        text,
    )


@cache
def _environment(kind: Literal["html", "md"]) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=kind == "html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"plain": plain, "columns": columns, "escape_markdown": escape_markdown}
    environment.globals |= {"kind": kind, "against_baselines": against_baselines}
    return environment
