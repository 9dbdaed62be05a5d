"""The commands that look after artifacts: `gpt artifacts`, `verify` and `prune`."""

import sys
from typing import Annotated

import typer

from flows import UserError
from flows.cli.terminal import Json, show, table
from flows.home import set_defaults, shared_home


def artifacts(corpus: Annotated[str, typer.Argument(help="only of this corpus")] = "*", as_json: Json = False):
    """List the versioned outputs of every stage, oldest first."""
    from flows.store.artifacts import Store

    keep = ("corpus", "stage", "key", "digest", "created", "seconds", "counts", "inputs", "path")
    rows = []
    for manifest in Store(shared_home()).manifests(corpus):
        row = {name: manifest[name] for name in keep}
        size = sum(entry["bytes"] for entry in manifest["files"].values())
        shown = {"digest": row["digest"][:12], "MB": f"{size / 1e6:.1f}", "created": row["created"][:19]}
        rows.append(row | {"bytes": size} if as_json else {name: row[name] for name in keep[:3]} | shown)
    table(rows, as_json)


def diff(
    corpus: Annotated[str, typer.Argument(help="a corpus that was cleaned here (gpt artifacts lists its versions)")],
    older: Annotated[str, typer.Option("--from", help="key of a clean artifact, or its beginning [before --to]")] = "",
    newer: Annotated[str, typer.Option("--to", help="the same [the one that was used last]")] = "",
    as_json: Json = False,
):
    """Say what changed between two versions of a corpus: documents, rejects by reason, columns of the raw files."""
    from flows.evaluation.diff import diff, versions
    from flows.store.artifacts import Store

    store = Store(shared_home())
    show(diff(store, *versions(store, corpus, older, newer)), as_json, "changes.jinja")


def verify(corpus: Annotated[str, typer.Argument(help="only of this corpus")] = "*", as_json: Json = False):
    """Read every file of every artifact and compare it with its manifest; exit code 1 if one is damaged."""
    from flows.store.artifacts import Store

    rows = [
        {name: manifest[name] for name in ("corpus", "stage", "key")} | {"state": "; ".join(problems) or "sound"}
        for manifest, problems in Store(shared_home()).verify(corpus)
    ]
    if not rows and corpus != "*":
        raise UserError(f"corpus {corpus!r} has no artifact here (gpt artifacts lists them)")
    table(rows, as_json)
    raise typer.Exit(int(any(row["state"] != "sound" for row in rows)))


def prune(
    keep: Annotated[int, typer.Option(help="models to keep of each corpus, with all they were made from", min=0)] = 3,
    days: Annotated[int, typer.Option(help="to keep runs in MLflow that failed or were deleted", min=0)] = 30,
    yes: Annotated[bool, typer.Option("--yes", help="remove without asking")] = False,
    as_json: Json = False,
):
    """Remove artifacts that no kept model was made from, old reproductions, and MLflow's old failed and deleted runs, for good.
    A model with an alias, such as a champion or what gpt pin has pinned, is kept."""
    set_defaults()
    from flows.models.pruning import prune

    rows = prune(keep, days, dry_run=True)
    table(rows, as_json)
    if not rows:
        return
    if not yes and not (sys.stdin.isatty() and typer.confirm("remove these?")):
        raise UserError("nothing was removed; --yes removes them")
    for row in prune(keep, days, dry_run=False):
        print(f"{row['what']} {row['which']}: {row['done']}", file=sys.stderr)
