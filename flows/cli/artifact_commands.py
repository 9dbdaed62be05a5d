"""The commands that look after artifacts: `gpt artifacts`, `verify` and `prune`."""

import sys
from os.path import relpath
from typing import Annotated

import typer

from flows import UserError
from flows.cli.terminal import Json, table
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
    days: Annotated[int, typer.Option(help="to keep runs in MLflow that failed or were deleted", min=1)] = 30,
    trash: Annotated[bool, typer.Option("--trash", help="also what was deleted in MLflow since")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="remove without asking")] = False,
    as_json: Json = False,
):
    """Remove artifacts that no kept model was made from, old reproductions, and MLflow's old failed and deleted runs, for good.
    A model with an alias, such as a champion or what gpt pin has pinned, is kept."""
    set_defaults()
    from flows.models import pruning
    from flows.models.promotion import named_decoders
    from flows.store.locks import idle

    named, runs = named_decoders(), pruning.old_runs(days, trash)
    folders = pruning.old_folders(keep, named)
    rows = [{"which": relpath(folder, shared_home()), "MB": f"{size / 1e6:.1f}"} for folder, size in folders.items()]
    table(rows + [{"which": f"MLflow run {run}: {why}", "MB": ""} for run, why in runs.items()], as_json)
    kept = "; ".join([f"the {keep} newest models of each corpus", *sorted(named.values())])
    print(f"kept, with all that they were made from: {kept}", file=sys.stderr)
    if not (folders or runs):
        return
    size = f"{sum(folders.values()) / 1e6:.0f} MB" + (f", and {len(runs)} runs of MLflow" if runs else "")
    if not yes and not (sys.stdin.isatty() and typer.confirm(f"remove these {len(folders)} folders, {size}?")):
        raise UserError("nothing was removed; --yes removes them")
    with idle(shared_home()):  # no run begins to use what is removed, and what a run has begun to use since is left
        folders = {folder: size for folder, size in pruning.old_folders(keep, named).items() if folder in folders}
        pruning.remove_folders(folders)
    freed = sum(folders.values()) + pruning.remove_runs(runs, days)
    print(f"{freed:,} bytes are free now that were not", file=sys.stderr)
