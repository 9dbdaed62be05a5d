"""What changed between two versions of a corpus: its documents, why texts are rejected, the columns of its raw files.

A version is an artifact of the clean stage. A document whose text both versions have is the same, also where it has moved to
another row. Of the others, those that both have at one place (the source's id, or file and row, and the part of a long text)
are changed; the rest were added, or are gone. Documents are named by file and row: no text of a person is shown.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from data_contracts.facts import PLACE
from flows import UserError
from flows.pages.render import card_markdown, publish
from flows.progress import left_out_if_it_fails, log_line, show_page
from flows.store.artifacts import Store, differences, read_manifest, to_artifact
from flows.tracking.run import Tracker

DRIFT = 0.005  # of the rows: a column's share of nulls has drifted if it moved so far
WHERE = PLACE.alias("where")


def versions(store: Store, corpus: str, older: str = "", newer: str = "") -> tuple[dict, dict]:
    """The manifests of two versions, each named by the beginning of its key: by default the one that was made or reused last,
    and the one before it. Raises UserError where there is no such version, or a damaged one."""
    known = [manifest for manifest in store.manifests(stage="clean") if manifest["corpus"] == corpus]

    def pick(among: list[dict], key: str) -> dict:
        fitting = [manifest for manifest in among if manifest["key"].startswith(key)]
        if not fitting:
            here = ", ".join(f"{m['key']} ({m['created'][:16]})" for m in known) or "none"
            what = f"version {key!r}" if key else "version"
            raise UserError(f"no other {what} of the cleaned {corpus!r} is here to compare; here are: {here}")
        if problems := store.damage(to_artifact(fitting[-1])):
            raise UserError(f"version {fitting[-1]['key']} of {corpus} is damaged: {problems[0]}")
        return fitting[-1]

    new = pick(known, newer)
    place = known.index(new)
    return pick(known[:place] + (known[place + 1 :] if older else []), older), new


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
        "documents": _documents(Path(old["path"]), Path(new["path"])),
        "rejects": [row for row in reasons if row["before"] or row["after"]],
        "columns": None if None in nulls else [row for row in _rows("column", *nulls) if _drifted(row)],
    }


def differing(old: Path, new: Path) -> int:
    """How many documents were added, are gone or changed. old, new: folders of clean artifacts."""
    _, changed, added, gone = _kinds(old, new)
    return changed.height + added.height + gone.height


def log_changes(tracker: Tracker) -> None:
    """Show on the pages of a run what its raw data changed since the last training of the corpus, if they did."""
    corpus, store = tracker.recipe.corpus, Store()
    trained = store.manifests(corpus, "train")
    packed = store.made_from(trained[-1], "pack") if trained else None
    old = store.made_from(packed, "clean") if packed else None  # None if pruned, too
    new = read_manifest(tracker.stages["clean"].folder)
    if not old or not new or old["inputs"] == new["inputs"]:
        return
    with left_out_if_it_fails("what changed in the raw data"), TemporaryDirectory() as temporary:
        facts = diff(store, old, new)
        changes = ", ".join(f"{row['number']:,} {row['documents']}" for row in facts["documents"])
        log_line(f"the raw data have changed since the last training: {changes}")
        tracker.tags({"changes": changes})
        publish(Path(temporary), "changes.jinja", facts)
        tracker.files(sorted(Path(temporary).iterdir()), "changes")
        show_page(card_markdown(Path(temporary)), f"changes-{corpus}")


def _documents(old: Path, new: Path) -> list[dict]:
    """How many documents of each kind there are, and where the first few of them are from. What is gone is told by why the new
    version rejects it."""
    same, changed, added, gone = _kinds(old, new)
    rejects = pl.scan_parquet(new / "rejects", glob=False).select(WHERE, "reason").unique("where").collect()
    why = pl.col("reason").fill_null("not in the raw data")
    gone = gone.join(rejects, on="where", how="left", maintain_order="left").with_columns(why)
    kinds = {"added": added}
    kinds |= {f"gone: {reason}": rows for (reason,), rows in gone.partition_by("reason", as_dict=True).items()}
    kinds |= {"changed": changed, "the same": same}
    return [
        {"documents": kind, "number": rows.height, "such_as": ", ".join(rows["where"].head(3))}
        for kind, rows in kinds.items()
    ]


def _kinds(older: Path, newer: Path) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """The same, changed and added documents of the new version, and those of the old one that are gone."""
    before, after = _read(older), _read(newer)
    text, place = ["text", "copy"], ["place", "part"]
    same, new = after.join(before, on=text, how="semi"), after.join(before, on=text, how="anti")
    old = before.join(after, on=text, how="anti")
    changed = new.join(old, on=place, how="semi", nulls_equal=True)
    added = new.join(old, on=place, how="anti", nulls_equal=True)
    return same, changed, added, old.join(new, on=place, how="anti", nulls_equal=True)


def _read(folder: Path) -> pl.DataFrame:
    """Of each document its row, a hash of its text, which copy of that text it is, and where it comes from."""
    part = pl.col("metadata").str.json_path_match("$.part").alias("part")
    read = pl.scan_parquet(folder / "documents", glob=False, row_index_name="row")
    hashed = read.select("row", pl.col("text").hash(), "place", WHERE, part)
    found = hashed.collect(engine="streaming").sort("row")  # a few texts in memory at a time
    return found.with_columns(copy=pl.int_range(pl.len()).over("text"))


def _rows(head: str, before: dict, after: dict) -> list[dict]:
    names = sorted(before.keys() | after.keys())
    return [{head: name, "before": before.get(name, "–"), "after": after.get(name, "–")} for name in names]


def _drifted(row: dict) -> bool:
    before, after = row["before"], row["after"]
    return "–" in (before, after) or abs(before - after) >= DRIFT
