"""What changed between two versions of a corpus: its documents, why texts are rejected, the columns of its raw files.

A version is an artifact of the clean stage. A document whose text both versions have is the same, also where it has moved to
another row. Of the others, those that both have at one place (the source's id, or file and row, and the part of a long text)
are changed; the rest were added, or are gone. Every text shown is masked as in a data card.
"""

import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from prefect.artifacts import create_markdown_artifact

from data_contracts.facts.samples import SHOWN_CHARS, changes, masked
from data_contracts.rules import Rules
from flows import UserError
from flows.home import shared_home
from flows.pages.render import card_markdown, columns, publish
from flows.progress import log_line
from flows.store.artifacts import Store, differences, read_manifest, to_artifact
from flows.tracking.run import Tracker

DRIFT = (
    0.01  # of the rows: a column's share of nulls has drifted if it moved so far, or to or from none or all of the rows
)
SHOWN = 3  # documents of each kind
TABLES = {
    "documents": "Documents",
    "rejects": "Rejects by reason",
    "columns": "Share of empty values in the columns of the raw files that came, went or drifted",
    "examples": "Some of these documents",
}
WHERE = pl.format("{} row {}", "source_file", "source_row").alias("where")


def versions(store: Store, corpus: str, older: str = "", newer: str = "") -> tuple[dict, dict]:
    """The manifests of two versions, each named by the beginning of its key: by default the one that was made or reused last,
    and the one before it. Raises UserError where there is no such version, or only one, or a damaged one."""
    known = store.manifests(corpus, "clean")
    here = "here are: " + (", ".join(f"{m['key']} ({m['created'][:16]})" for m in known) or "none")
    found: list[dict] = []
    for key in (newer, older):
        fitting = [manifest for manifest in known if manifest["key"].startswith(key)]
        if key and len(fitting) != 1:
            wrong = f"names {len(fitting)} versions" if fitting else "is not here (unknown, or pruned)"
            raise UserError(f"{key!r} {wrong} of the cleaned {corpus}; {here}")
        others = known[: known.index(found[0])] if found else known
        found += fitting if key else others[-1:]
    if len(found) < 2 or found[0] is found[1]:
        raise UserError(f"there are no two versions of the cleaned {corpus!r} to compare; {here}")
    for manifest in found:
        if problems := store.damage(to_artifact(manifest)):
            raise UserError(f"version {manifest['key']} of {corpus} is damaged: {problems[0]}")
    return found[1], found[0]


def diff(store: Store, old: dict, new: dict) -> dict:
    """All that changed from one clean artifact to another, as plain values. old, new: their manifests."""
    both = old, new
    raw = [(store.made_from(manifest, "download") or {}).get("parameters", {}) for manifest in both]
    nulls = [json.loads((Path(m["path"]) / "card" / "card.json").read_text())["figures"].get("nulls") for m in both]
    reasons = _rows("reason", *(manifest["counts"]["rejected"] for manifest in both))
    return {
        "corpus": new["corpus"],
        "from": {name: old[name] for name in ("key", "created", "counts")},
        "to": {name: new[name] for name in ("key", "created", "counts")},
        "because": differences(*raw) + differences(old["parameters"], new["parameters"]),
        "rejects": [row for row in reasons if row["before"] or row["after"]],
        "columns": None if None in nulls else [row for row in _rows("column", *nulls) if _drifted(**row)],
        **_documents(old, new),
    }


def log_changes(tracker: Tracker) -> None:
    """Show on the pages of a run what its raw data changed since the last training of the corpus, if they did."""
    corpus, store = tracker.recipe.corpus, Store(shared_home())
    trained = store.manifests(corpus, "train")
    packed = store.made_from(trained[-1], "pack") if trained else None
    old = store.made_from(packed, "clean") if packed else None  # None if pruned, too
    new = read_manifest(tracker.stages["clean"].folder)
    if not old or not new or old["inputs"] == new["inputs"]:
        return
    facts = diff(store, old, new)
    tracker.changes = facts["says"]
    log_line(f"the raw data have changed since the last training: {facts['says']}")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tables = {title: columns(facts[name], *facts[name][0]) for name, title in TABLES.items() if facts[name]}
        publish(folder, "changes.jinja", facts, title=f"What changed: {corpus}", tables=tables)
        tracker.files(sorted(folder.iterdir()), "changes")
        with suppress(Exception):  # a missing page is no reason to stop
            create_markdown_artifact(card_markdown(folder), key=f"changes-{corpus}", description=facts["says"])


def _rows(head: str, before: dict, after: dict) -> list[dict]:
    names = sorted(before.keys() | after.keys())
    return [{head: name, "before": before.get(name, "–"), "after": after.get(name, "–")} for name in names]


def _drifted(before: float | str, after: float | str, **_: str) -> bool:
    if isinstance(before, str) or isinstance(after, str):  # it came or went
        return True
    return before != after and (abs(before - after) >= DRIFT or not {before, after}.isdisjoint((0, 1)))


def _documents(old: dict, new: dict) -> dict:
    """`documents`: how many of each kind; `examples`: some of them; `says`: the first in a line."""
    before, after = (_read(manifest) for manifest in (old, new))
    place = "place" if "place" in before.columns and "place" in after.columns else "where"
    same = before.join(after, on=["text", "copy"])
    rest = before.join(after, on=["text", "copy"], how="anti"), after.join(before, on=["text", "copy"], how="anti")
    changed = rest[0].join(rest[1], on=[place, "part"], nulls_equal=True)
    gone = rest[0].join(changed, on="row", how="anti")
    added = rest[1].join(changed, left_on="row", right_on="row_right", how="anti")
    rejects = _scan(new, "rejects").select(WHERE, "reason").unique("where")
    why = gone.lazy().join(rejects, on="where", how="left").select(pl.col("reason").fill_null("not in the raw data"))
    counts = why.collect().to_series().value_counts(sort=True).iter_rows()
    both = pl.concat([frame.select("split", "split_right") for frame in (same, changed)])
    notes = {
        "gone": ", ".join(f"{number:,} {reason}" for reason, number in counts),
        "the same": f"{(same['where'] != same['where_right']).sum():,} at another place",
        "on another side of the split": "of those that changed or are the same",
    }
    numbers = {"added": len(added), "gone": len(gone), "changed": len(changed), "the same": len(same)}
    numbers["on another side of the split"] = int((both["split"] != both["split_right"]).sum())
    rows = {"added": (_texts(new, added["row"]),) * 2, "gone": (_texts(old, gone["row"]),) * 2}
    rows["changed"] = _texts(old, changed["row"]), _texts(new, changed["row_right"])
    examples = []
    for kind, texts in rows.items():
        for (where, text), (_, other) in zip(*texts, strict=True):
            parts = changes(text, other, chars=SHOWN_CHARS, around=kind == "changed")
            examples.append({"documents": kind, "where": where, "text": parts})
    return {
        "says": ", ".join(f"{number:,} {kind}" for kind, number in numbers.items()),
        "documents": [{"documents": k, "number": number, "note": notes.get(k, "")} for k, number in numbers.items()],
        "examples": examples,
    }


def _scan(manifest: dict, kind: str) -> pl.LazyFrame:
    return pl.scan_parquet(Path(manifest["path"]) / kind / "*.parquet", row_index_name="row")


def _read(manifest: dict) -> pl.DataFrame:
    """Of each document its row, a hash of its text, which copy of that text it is, and where it comes from."""
    documents = _scan(manifest, "documents")
    place = [name for name in ("place",) if name in documents.collect_schema()]
    part = pl.col("metadata").str.json_path_match("$.part").alias("part")
    read = documents.select("row", pl.col("text").hash(), "split", *place, WHERE, part).collect()
    return read.with_columns(copy=pl.int_range(pl.len()).over("text"))


def _texts(manifest: dict, rows: pl.Series) -> list[tuple[str, str]]:
    """(where, masked text) of the first of these documents."""
    first = rows.head(SHOWN)
    found = _scan(manifest, "documents").filter(pl.col("row").is_in(first.implode())).collect()
    ordered = first.to_frame("row").join(found, on="row", how="left", maintain_order="left")
    return ordered.select(WHERE, masked("text", Rules(mentions="mask"))).rows()
