"""What changed between two versions of a corpus: its documents, why texts are rejected, the columns of its raw files.

A version is an artifact of the clean stage. A document whose text both versions have is the same, also where it has moved to
another row. Of the others, those that both have at one place (the source's id, or file and row, and the part of a long text)
are changed; the rest were added, or are gone. Documents are named by file and row: no text of a person is shown.
"""

import json
import logging
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from prefect.artifacts import create_markdown_artifact

from flows import UserError
from flows.home import shared_home
from flows.pages.render import card_markdown, publish
from flows.progress import log_line
from flows.store.artifacts import Store, differences, read_manifest, to_artifact
from flows.tracking.run import Tracker

DRIFT = (
    0.01  # of the rows: a column's share of nulls has drifted if it moved so far, or to or from none or all of the rows
)
WHERE = pl.format("{} row {}", "source_file", "source_row").alias("where")


def versions(store: Store, corpus: str, older: str = "", newer: str = "") -> tuple[dict, dict]:
    """The manifests of two versions, each named by the beginning of its key: by default the one that was made or reused last,
    and the one before it. Raises UserError where there is no such version, or only one, or a damaged one."""
    known = [manifest for manifest in store.manifests(stage="clean") if manifest["corpus"] == corpus]
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
        "documents": documents(old, new),
        "rejects": [row for row in reasons if row["before"] or row["after"]],
        "columns": None if None in nulls else [row for row in _rows("column", *nulls) if _drifted(**row)],
    }


def documents(old: dict, new: dict) -> list[dict]:
    """How many documents of each kind there are, and the first few of them. What is gone is told by why the new version rejects
    it."""
    before, after = (_read(manifest) for manifest in (old, new))
    place = "place" if "place" in before.columns and "place" in after.columns else "where"
    same = before.join(after, on=["text", "copy"])
    before, after = (
        before.join(same, on="row", how="anti"),
        after.join(same, left_on="row", right_on="row_right", how="anti"),
    )
    changed = before.join(after, on=[place, "part"], nulls_equal=True)
    added = after.join(changed, left_on="row", right_on="row_right", how="anti")
    rejects = pl.read_parquet(
        Path(new["path"]) / "rejects" / "*.parquet", columns=["source_file", "source_row", "reason"]
    )
    why = rejects.select(WHERE, "reason").unique("where")
    gone = before.join(changed, on="row", how="anti").join(why, on="where", how="left", maintain_order="left")
    reasons = gone.with_columns(pl.col("reason").fill_null("not in the raw data")).partition_by("reason", as_dict=True)
    both = pl.concat([frame.select("where", "split", "split_right") for frame in (same, changed)])
    kinds = {"added": added} | {f"gone: {reason}": frame for (reason,), frame in reasons.items()}
    kinds |= {"changed": changed, "the same": same, "moved": same.filter(pl.col("where") != pl.col("where_right"))}
    kinds["on another side of the split"] = both.filter(pl.col("split") != pl.col("split_right"))
    return [
        {"documents": kind, "number": frame.height, "such_as": ", ".join(frame["where"].head(3))}
        for kind, frame in kinds.items()
    ]


def log_changes(tracker: Tracker) -> None:
    """Show on the pages of a run what its raw data changed since the last training of the corpus, if they did."""
    corpus, store = tracker.recipe.corpus, Store(shared_home())
    trained = store.manifests(corpus, "train")
    packed = store.made_from(trained[-1], "pack") if trained else None
    old = store.made_from(packed, "clean") if packed else None  # None if pruned, too
    new = read_manifest(tracker.stages["clean"].folder)
    if not old or not new or old["inputs"] == new["inputs"]:
        return
    try:
        facts = diff(store, old, new)
    except Exception as error:  # an artifact of then that is damaged does not stop this training
        log_line(
            f"what changed in the raw data is not known: {type(error).__name__}: {str(error)[:200]}", logging.WARNING
        )
        return
    tracker.changes = ", ".join(f"{row['number']:,} {row['documents']}" for row in facts["documents"])
    log_line(f"the raw data have changed since the last training: {tracker.changes}")
    with TemporaryDirectory() as temporary:
        publish(Path(temporary), "changes.jinja", facts, title=f"What changed: {corpus}")
        tracker.files(sorted(Path(temporary).iterdir()), "changes")
        with suppress(Exception):  # a missing page is no reason to stop
            create_markdown_artifact(card_markdown(Path(temporary)), key=f"changes-{corpus}")


def _rows(head: str, before: dict, after: dict) -> list[dict]:
    names = sorted(before.keys() | after.keys())
    return [{head: name, "before": before.get(name, "–"), "after": after.get(name, "–")} for name in names]


def _drifted(before: float | str, after: float | str, **_: str) -> bool:
    if isinstance(before, str) or isinstance(after, str):  # it came or went
        return True
    return before != after and (abs(before - after) >= DRIFT or not {before, after}.isdisjoint((0, 1)))


def _read(manifest: dict) -> pl.DataFrame:
    """Of each document its row, a hash of its text, which copy of that text it is, and where it comes from."""
    read = pl.scan_parquet(Path(manifest["path"]) / "documents" / "*.parquet", row_index_name="row")
    place = [name for name in ("place",) if name in read.collect_schema()]
    part = pl.col("metadata").str.json_path_match("$.part").alias("part")
    hashed = read.select("row", pl.col("text").hash(), "split", *place, WHERE, part)
    found = hashed.collect(engine="streaming").sort("row")  # a few texts in memory at a time
    return found.with_columns(copy=pl.int_range(pl.len()).over("text"))
