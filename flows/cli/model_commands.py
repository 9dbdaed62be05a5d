"""The commands about models and runs: `gpt generate`, `export`, `explain`, `pin`, `runs`, `compare` and `reproduce`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import UserError
from flows.cli.terminal import Json, call_flow, table
from flows.home import set_defaults
from gpt.config import DEFAULTS

SHOWN_CHARS = 150  # of what a model wrote
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
    set_defaults()
    from flows.models import lookup
    from gpt.generation.sample import load, stream_texts

    decoder, tokenizer = load(lookup.find(model))
    settings = {"max_tokens": max_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    pieces = stream_texts(decoder, tokenizer, [prompt], samples, stop=stop, **settings)
    if samples == 1:
        print(prompt, end="")
        for _, piece in pieces:
            print(piece, end="", flush=True)
        print()
        return
    written = [""] * samples
    for row, piece in pieces:
        written[row] += piece
    for number, text in enumerate(written, start=1):
        print(f"--- {number}\n{prompt}{text}")


def explain(
    run: Annotated[str, typer.Argument(help="run id, corpus (its champion), or gpt-<corpus>@champion")],
    step: Annotated[int, typer.Option(help="training step, from 1, as MLflow counts them")],
    as_json: Json = False,
):
    """Show the documents that the batch of a training step came from, with the file and row of each."""
    set_defaults()
    from flows.evaluation import batch_sources

    title, rows = batch_sources.explain(run, step)
    if not as_json:
        print(title, file=sys.stderr)
    table(rows, as_json)


def compare(
    models: Annotated[list[str] | None, typer.Argument(help=f"{MODEL}; none: all champions")] = None,
    corpora: Annotated[list[str], typer.Option("--corpus", help="on its held-out text; may be given again")] = [],  # noqa: B006
    max_bytes: Annotated[
        int | None, typer.Option("--bytes", help="of held-out text a corpus [4,000,000]", min=1)
    ] = None,
    prompts: Annotated[list[str], typer.Option("--prompt", help="to go on from; may be given again")] = [],  # noqa: B006
    as_json: Json = False,
):
    """Score models on each corpus's held-out text, in bits per byte with 95 % intervals, beside their size, cost and speed."""
    set_defaults()
    from flows.models.lookup import find

    for name in models or ():  # an unknown one is told before Prefect is loaded
        find(name)
    asked: dict[str, Any] = {"models": models or [], "corpora": corpora, "prompts": prompts}
    asked |= {"max_bytes": max_bytes} if max_bytes else {}
    says = f"compare {', '.join(models) if models else 'all champions'}: starting"
    result = call_flow("compare", "compare", says, goes_on=False, **asked)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        _show(result)


def pin(
    model: Annotated[str, typer.Argument(help="gpt-<corpus>/<version> or gpt-<corpus>@champion")],
    remove: Annotated[bool, typer.Option("--remove", help="take the pin off")] = False,
):
    """Keep a registered model, and all that it was made from, whatever gpt prune and maintain/weekly remove."""
    set_defaults()
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
    set_defaults()
    from flows.tracking import run_list

    rows, note = run_list.listing(corpus, dataset_digest, best, limit)
    if note:
        print(note, file=sys.stderr)
    table(rows, as_json)


def reproduce(
    run: Annotated[str, typer.Argument(help="run id, gpt-<corpus>@champion or gpt-<corpus>/<version>")],
    folder: Annotated[str, typer.Option("--home", help="build in this new folder, instead of one below the home")] = "",
    anyway: Annotated[bool, typer.Option("--anyway", help="although something differs that can change it")] = False,
    as_json: Json = False,
):
    """Make a run again from its record in a fresh home, and say what matches; exit code 1 if it differs."""
    asked: dict[str, Any] = {"run": run, "folder": folder or None, "anyway": anyway}
    state = call_flow("reproduce", "reproduce", f"reproduce {run}: starting", return_state=True, **asked)
    verdict = state.result(raise_on_failure=False)
    if isinstance(verdict, BaseException):
        raise verdict
    if as_json:
        print(json.dumps(verdict, indent=1))
    else:
        table([row | {name: row[name][:16] for name in ("recorded", "reproduced")} for row in verdict["stages"]])
        print(f"\n{verdict['says']}\nrun {verdict['reproduced_run']} in MLflow; its files: {verdict['home']}")
    raise typer.Exit(int(verdict["verdict"] == "differs"))


def export(
    model: Model,
    to: Annotated[str, typer.Option(help="the folder to make")],
    format: Annotated[str, typer.Option(help="hf: a folder that Hugging Face transformers loads")] = "hf",
):
    """Write a model for other programs."""
    if format != "hf":
        raise UserError(f"--format {format!r} is not known; known is hf")
    set_defaults()
    from flows.models import lookup
    from gpt.export.hugging_face import export_hf

    export_hf(lookup.find(model), Path(to))
    print(f"exported to {to}: its README.md says how to use it")


def _show(result: dict) -> None:
    from flows.pages import comparison_text as words

    columns = {column["corpus"]: column for column in result["corpora"]}
    rows = []
    for model, cells in words.model_rows(result):
        texts = [f"{cell['bits_per_byte']:.3f} {words.difference(cell)}\n{words.interval(cell)}" for cell in cells]
        rows.append({"bits per byte": model} | dict(zip(columns, texts, strict=True)))
    for name in words.BASELINES:
        rows.append(
            {"bits per byte": name} | {corpus: words.bits(c["baselines"][name]) for corpus, c in columns.items()}
        )
    rows.append({"bits per byte": "documents"} | {corpus: f"{c['documents']:,}" for corpus, c in columns.items()})
    rows.append({"bits per byte": "bytes"} | {corpus: f"{c['bytes']:,}" for corpus, c in columns.items()})
    table(rows)
    print("beside it the difference to the corpus's own model, ≈ where it may be noise; below it the 95 % interval\n")
    table([{k.replace("_", " "): v for k, v in row.items()} for row in words.costs(result)])
    print()
    for answer in result["answers"]:
        answer["text"] = " ⏎ ".join(line.strip() for line in answer["text"].splitlines() if line.strip())[:SHOWN_CHARS]
    table([{name: answer[name] for name in ("prompt", "model", "text")} for answer in result["answers"]])
    print()
    for note in result["notes"]:
        print(f"note: {note}")
    print(f"MLflow: {result['mlflow_url']}  (run {result['mlflow_run']})")
