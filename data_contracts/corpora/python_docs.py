"""The documentation that ships inside every CPython: language topics, and the docstrings of the standard library.

It needs no network and no account, and has about 2 MB of text. The library's files are parsed in sorted order and never
imported: the same Python gives the same bytes.

Topics contain other topics, and methods that are overridden keep their text: 150 kB stand elsewhere too, which a model would
learn by heart, and be praised for on the held-out side. So a paragraph is kept where it stands first.
"""

import ast
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from data_contracts import readers
from data_contracts.contracts import Check, Column, raw_rows

FILES = ("*.jsonl",)

KINDS = {ast.ClassDef: "class", ast.FunctionDef: "function", ast.AsyncFunctionDef: "function"}

# Not part of the library's documentation: test suites, installed packages, old tools, and the topics themselves.
LEFT_OUT = "test tests idle_test site-packages dist-packages idlelib lib2to3 turtledemo pydoc_data"

LEAST_PARAGRAPH = 30  # characters; shorter ones, such as "Example:", belong to what follows them
REASONS = {"repeated": "all its paragraphs stand in earlier documents"}


# A row is a topic or the docstring of one module, class or function.
Raw = raw_rows(
    name=Column(str, Check.str_length(min_value=1)),
    kind=Column(str, Check.isin(("topic", "module", *KINDS.values()))),
    text=Column(str, Check.str_length(min_value=1)),
)


def build(folder: Path) -> None:
    """Write `python_docs.jsonl`: an object with name, kind and text a line; topics first, then modules by name."""
    from pydoc_data.topics import topics

    known = ((name, "topic", text) for name, text in sorted(topics.items()))
    with (folder / "python_docs.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for name, kind, text in (*known, *_docstrings(Path(sysconfig.get_path("stdlib")))):
            file.write(json.dumps({"name": name, "kind": kind, "text": text}, ensure_ascii=False) + "\n")


def read(path: Path, name: str) -> pl.DataFrame:
    """The rows that `build` wrote."""
    return readers.json_rows(path, name, ("name", "kind", "text"))


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """A topic, or a docstring under its dotted name, as `help()` would show it; without paragraphs of other rows.

    A paragraph stands under the first name alone, topics before the others, so the order of rows decides nothing.
    metadata: name, kind, left_out (how many paragraphs).
    """
    words = pl.col("paragraph").str.replace_all(r"\s+", " ").str.strip_chars()
    first = pl.col("number").sort_by(pl.col("kind") != "topic", "kind", "name", "number").first().over(words)
    is_new = (pl.col("number") == first) | (words.str.len_chars() < LEAST_PARAGRAPH)
    text = pl.col("kept").list.join("\n\n")
    titled = pl.concat_str("name", pl.lit("\n\n"), text)
    return (
        raw.with_row_index("number")
        .with_columns(paragraph=pl.col("text").str.split("\n\n"))
        .explode("paragraph")
        .with_columns(is_new=is_new)
        .group_by("number", *readers.PLACE, "name", "kind", maintain_order=True)
        .agg(kept=pl.col("paragraph").filter("is_new"), left_out=pl.len() - pl.col("is_new").sum())
        .select(
            *readers.PLACE,
            text=pl.when(pl.col("kind") == "topic").then(text).otherwise(titled),
            source_id=pl.format("{} {}", "kind", "name"),
            metadata=pl.struct("name", "kind", "left_out").struct.json_encode(),
            reason=pl.when(text.str.strip_chars() == "").then(pl.lit("repeated")),
        )
    )


def _docstrings(library: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted(library.rglob("*.py"), key=lambda path: path.relative_to(library).parts):
        parts = path.relative_to(library).with_suffix("").parts
        machine = any(part.startswith(("config-", "_sysconfigdata")) for part in parts)
        if machine or not set(LEFT_OUT.split()).isdisjoint(parts):
            continue
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # templates that have the ending of Python files
            continue
        yield from _walk(tree, module, "module")


def _walk(node: Any, name: str, kind: str) -> Iterator[tuple[str, str, str]]:
    """The docstring of a module, class or function, then those of what it defines; what a function defines has none."""
    text = ast.get_docstring(node)
    if text and text.strip():
        yield name, kind, text
    if kind == "function":
        return
    for child in node.body:
        if type(child) in KINDS:
            yield from _walk(child, f"{name}.{child.name}", KINDS[type(child)])
