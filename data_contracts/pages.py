"""A page of plain parts, as Markdown and as one self-contained HTML file.

A page is a title and sections; a section is a heading and blocks. Texts of a corpus are not to be trusted: in HTML every one is
escaped, and in Markdown it stands in an indented block, or in a table cell with its signs escaped.
"""

import html
import json
import re
from pathlib import Path
from typing import NamedTuple

Parts = list[tuple[str, str]]  # ("same" | "gone" | "new", text): what became of a text
MARKS = {"same": ("", ""), "gone": ("[-", "-]"), "new": ("{+", "+}")}  # as git shows changed words
TAGS = {"same": ("", ""), "gone": ("<del>", "</del>"), "new": ("<ins>", "</ins>")}

CSS = """
body { max-width: 56rem; margin: 2.5rem auto; padding: 0 1.5rem; color: #1f2933; background: #fff;
       font: 15px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .4rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p { margin: .5rem 0; } .label { margin: 1rem 0 .2rem; color: #7b8794; font-size: .85rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .87rem; margin: .6rem 0; min-width: 45%; }
th, td { text-align: left; vertical-align: top; padding: .3rem 1.1rem .3rem 0; border-bottom: 1px solid #e4e7eb; }
th { color: #616e7c; font-weight: 600; white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { margin: 0; padding: .6rem .8rem; background: #f5f7fa; border-radius: 6px; white-space: pre-wrap;
      overflow-wrap: anywhere; font: .82rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
del { background: #fde2dc; color: #8a2c15; text-decoration: none; }
ins { background: #d9f0e3; color: #155e3b; text-decoration: none; }
.parts { overflow-wrap: anywhere; } td:first-child { white-space: nowrap; } td del, td ins { white-space: pre-wrap; }
figure { margin: .8rem 0; } figure svg { width: 100%; height: auto; }
"""


class Table(NamedTuple):
    head: tuple[str, ...]
    rows: list[tuple]
    """cells are words, counts (int), shares (float) or Parts"""


class Figure(NamedTuple):
    name: str
    """of its file, without .png"""
    says: str
    svg: str


class Quote(NamedTuple):
    label: str
    parts: Parts


Sections = list[tuple[str, list[str | Table | Figure | Quote]]]


def publish(folder: Path, title: str, sections: Sections, facts: dict) -> None:
    """Write card.md and card.html, and as card.json the facts that they were made from."""
    (folder / "card.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "card.md").write_text(markdown(title, sections), encoding="utf-8")
    (folder / "card.html").write_text(page(title, sections), encoding="utf-8")


def table(rows: list[dict], *columns: str) -> Table:
    """Some columns of rows, their names as the head."""
    return Table(
        tuple(name.replace("_", " ") for name in columns), [tuple(row[name] for name in columns) for row in rows]
    )


def plain(cell: str | int | float | Parts) -> str:
    """A cell as a line or more of text."""
    match cell:
        case list():
            return "".join(MARKS[kind][0] + text + MARKS[kind][1] for kind, text in cell)
        case float():
            return f"{cell:.1%}" if cell >= 0.0005 or not cell else "<0.1%"
        case int():
            return f"{cell:,}"
    return cell


def markdown(title: str, sections: Sections) -> str:
    lines = [f"# {_inline(title)}"]
    for name, blocks in sections:
        lines += ["", f"## {name}"] if name else []
        for block in blocks:
            match block:
                case Table(head, rows):
                    ruler = ["---:" if _is_number(cell) else "---" for cell in (rows or [head])[0]]
                    cells = [map(_inline, head), ruler, *([_inline(plain(cell)) for cell in row] for row in rows)]
                    lines += ["", *(f"| {' | '.join(row)} |" for row in cells)]
                case Figure(file, says):
                    lines += ["", f"![{says}]({file}.png)"]
                case Quote(label, parts):
                    lines += ["", _inline(label), "", *(f"    {line}" for line in plain(parts).splitlines())]
                case _:
                    lines += ["", _inline(block)]
    return "\n".join(lines) + "\n"


def page(title: str, sections: Sections) -> str:
    body = [f"<h1>{html.escape(title)}</h1>"]
    for name, blocks in sections:
        body += [f"<h2>{html.escape(name)}</h2>"] if name else []
        for block in blocks:
            match block:
                case Table(head, rows):
                    like = (rows or [head])[0]
                    lines = [_row("th", head, like), *(_row("td", row, like) for row in rows)]
                    body.append(f'<div class="wide"><table>{"".join(lines)}</table></div>')
                case Figure(_, says, svg):
                    body.append(f'<figure role="img" aria-label="{html.escape(says)}">{svg}</figure>')
                case Quote(label, parts):
                    body.append(f'<p class="label">{html.escape(label)}</p><pre>{_marked(parts)}</pre>')
                case _:
                    body.append(f"<p>{html.escape(block)}</p>")
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{CSS}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _is_number(cell: str | int | float | Parts) -> bool:
    return re.fullmatch(r"<?[\d,.]+%?", plain(cell)) is not None


def _row(tag: str, cells: tuple, like: tuple) -> str:
    found = []
    for cell, model in zip(cells, like, strict=True):
        kind = "number" if _is_number(model) else "parts" if isinstance(model, list) else "words"
        text = _marked(cell) if isinstance(cell, list) else html.escape(plain(cell))
        found.append(f'<{tag} class="{kind}">{text}</{tag}>')
    return f"<tr>{''.join(found)}</tr>\n"


def _marked(parts: Parts) -> str:
    return "".join(TAGS[kind][0] + html.escape(text) + TAGS[kind][1] for kind, text in parts)


def _inline(text: str) -> str:
    """One line, in which no sign means anything to Markdown."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(text.split("\n")).replace("&", "&amp;"))
