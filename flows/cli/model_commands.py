"""The commands about what was made: models, runs and artifacts."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import UserError
from flows.cli.terminal import Json, call_flow, check_addresses, show, table
from flows.cli.train_commands import Corpus, From, Set, check, options
from flows.store.artifacts import Store
from gpt.config import DEFAULTS

MODEL = "corpus, gpt-<corpus>@champion, gpt-<corpus>/<version>, run id or folder"
Model = Annotated[str, typer.Argument(help=MODEL)]


def generate(
    model: Model,
    prompt: Annotated[str, typer.Argument(help="text to go on from; empty begins a document")] = "",
    max_tokens: Annotated[int, typer.Option(help="at most this many tokens")] = DEFAULTS["max_tokens"],
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token")] = DEFAULTS["temperature"],
    top_k: Annotated[int, typer.Option(help="choose among the k likeliest tokens; 0: all")] = DEFAULTS["top_k"],
    top_p: Annotated[float, typer.Option(help="choose among the likeliest of this probability")] = DEFAULTS["top_p"],
    seed: Annotated[int, typer.Option(help="the same seed writes the same text")] = DEFAULTS["seed"],
    samples: Annotated[int, typer.Option("-n", "--samples", help="so many continuations")] = DEFAULTS["samples"],
    stop: Annotated[list[str], typer.Option(help="end before this text; may be given again")] = [],  # noqa: B006
):
    """Let a model write, token by token; several samples are written side by side and shown one after another."""
    from flows.models import lookup
    from gpt.generation import sample

    which = *sample.load(lookup.find(model)), [prompt], samples
    asked: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed, "stop": stop}
    asked |= {"top_k": top_k, "top_p": top_p}
    if samples == 1:
        print(prompt, end="")
        for _, piece in sample.stream_texts(*which, **asked):
            print(piece, end="", flush=True)
        print()
        return
    for number, text in enumerate(sample.texts(*which, **asked)[0], start=1):
        print(f"--- {number}\n{prompt}{text}")


def explain(
    run: Annotated[str, typer.Argument(help="run id, corpus (its champion), or gpt-<corpus>@champion")],
    step: Annotated[int, typer.Option(help="training step, from 1, as MLflow counts them")],
    as_json: Json = False,
):
    """Show the documents that the batch of a training step came from, with the file and row of each."""
    from flows.evaluation import batch_sources

    title, rows = batch_sources.explain(run, step)
    if not as_json:
        print(title, file=sys.stderr)
    table(rows, as_json)


def compare(
    models: Annotated[list[str] | None, typer.Argument(help=f"{MODEL}; none: all champions")] = None,
    corpora: Annotated[list[str], typer.Option("--corpus", help="on its held-out text; may be given again")] = [],  # noqa: B006
    max_bytes: Annotated[int, typer.Option("--bytes", help="of held-out text a corpus", min=1)] = 4_000_000,
    prompts: Annotated[list[str], typer.Option("--prompt", help="to go on from; may be given again")] = [],  # noqa: B006
    as_json: Json = False,
):
    """Score models on each corpus's held-out text, in bits per byte with 95 % intervals, beside their size, cost and speed."""
    asked: dict[str, Any] = {"models": models or [], "corpora": corpora, "max_bytes": max_bytes, "prompts": prompts}
    result = call_flow("compare", "compare", "compare: starting", goes_on=False, **asked)
    show(result, as_json, "comparison.jinja")


def ablate(
    corpus: Corpus,
    rules: Annotated[str, typer.Option(help="such as mentions,min_words=5 [all that the recipe sets]")] = "",
    steps: Annotated[int, typer.Option(help="training steps of each model", min=1)] = 300,
    size: Annotated[str, typer.Option(help="of the models, as of gpt train")] = "nano",
    settings: Set = [],  # noqa: B006
    source: From = "",
    as_json: Json = False,
):
    """Say which rules of cleaning help, by a small model with and without each."""
    asked = options(corpus, settings, source, size=size, steps=steps)
    check(asked)
    asked["rules"] = [name.strip() for name in rules.split(",") if name.strip()]
    show(call_flow("variants", "ablate", f"ablate {corpus}: starting", **asked), as_json, "ablation.jinja")


def clones(
    base: Annotated[str, typer.Argument(help=MODEL)] = "wiki",
    corpora: Annotated[list[str], typer.Option("--corpus", help="may be given again [the social ones]")] = [],  # noqa: B006
    minutes: Annotated[float, typer.Option(help="for which the dial plans each training", min=0.01)] = 2.0,
    source: Annotated[str, typer.Option("--from", help="a folder with <owner>/<dataset> of each corpus")] = "",
    as_json: Json = False,
):
    """Say how much a base helps small corpora, and what it forgets, by training each from it and from scratch."""
    asked: dict[str, Any] = {"base": base, "corpora": corpora, "minutes": minutes, "source": source or None}
    show(call_flow("variants", "clones", f"clones of {base}: starting", **asked), as_json, "clones.jinja")


def pin(
    model: Annotated[str, typer.Argument(help="gpt-<corpus>/<version> or gpt-<corpus>@champion")],
    remove: Annotated[bool, typer.Option("--remove", help="take the pin off")] = False,
):
    """Keep a registered model, and all that it was made from, whatever gpt prune and maintain/weekly remove."""
    from flows.models import promotion

    print(f"{promotion.pin(model, not remove)} is {'no longer pinned' if remove else 'pinned'}")


def runs(
    corpus: Annotated[str, typer.Option(help="only of this corpus")] = "",
    best: Annotated[bool, typer.Option("--best", help="of each corpus the run with the fewest bits per byte")] = False,
    dataset_digest: Annotated[
        str, typer.Option(help="runs that learned from these bytes: the beginning of a download, clean or pack digest")
    ] = "",
    limit: Annotated[int, typer.Option(help="at most so many; 0: all", min=0)] = 20,
    as_json: Json = False,
):
    """List the runs in MLflow, newest first."""
    check_addresses()
    from flows.tracking import run_list

    table(run_list.listing(corpus, dataset_digest, best, limit), as_json)


def reproduce(
    run: Annotated[str, typer.Argument(help="run id, gpt-<corpus>@champion or gpt-<corpus>/<version>")],
    anyway: Annotated[bool, typer.Option("--anyway", help="although something differs that can change it")] = False,
    as_json: Json = False,
):
    """Make a run again from its record in a fresh home, and say what matches; exit code 1 if it differs."""
    asked: dict[str, Any] = {"run_id": run, "anyway": anyway, "return_state": True}
    verdict = call_flow("reproduce", "reproduce", f"reproduce {run}: starting", **asked).result(raise_on_failure=False)
    if isinstance(verdict, BaseException):
        raise verdict
    show(verdict, as_json, "reproduction.md")
    raise typer.Exit(int(verdict["verdict"] == "differs"))


def export(
    model: Model,
    to: Annotated[str, typer.Option(help="the folder to make")],
    format: Annotated[str, typer.Option(help="hf: a folder that Hugging Face transformers loads")] = "hf",
):
    """Write a model for other programs."""
    if format != "hf":
        raise UserError(f"--format {format!r} is not known; known is hf")
    from flows.models import lookup
    from flows.stages.definitions import read_tokenizer
    from gpt.export.hugging_face import export_hf
    from tokenizers.hugging_face import hf_tokenizer

    folder = lookup.find(model)
    export_hf(folder, Path(to), hf_tokenizer(read_tokenizer(folder)))
    print(f"exported to {to}: its README.md says how to use it")


def artifacts(corpus: Annotated[str, typer.Argument(help="only of this corpus")] = "*", as_json: Json = False):
    """List the versioned outputs of every stage, oldest first."""
    keep = ("corpus", "stage", "key", "digest", "created", "seconds", "counts", "inputs", "path")
    rows = []
    for manifest in Store().manifests(corpus):
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

    store = Store()
    show(diff(store, *versions(store, corpus, older, newer)), as_json, "changes.jinja")


def verify(corpus: Annotated[str, typer.Argument(help="only of this corpus")] = "*", as_json: Json = False):
    """Read every file of every artifact and compare it with its manifest; exit code 1 if one is damaged."""
    rows = [
        {name: manifest[name] for name in ("corpus", "stage", "key")} | {"state": "; ".join(problems) or "sound"}
        for manifest, problems in Store().verify(corpus)
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
    from flows.models.pruning import prune

    rows = prune(keep, days, dry_run=True)
    table(rows, as_json)
    if not rows:
        return
    if not yes and not (sys.stdin.isatty() and typer.confirm("remove these?")):
        raise UserError("nothing was removed; --yes removes them")
    for row in prune(keep, days, dry_run=False):
        print(f"{row['what']} {row['which']}: {row['done']}", file=sys.stderr)
