"""The commands about models and runs: `gpt generate`, `export`, `explain`, `runs`, `compare` and `reproduce`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows import UserError
from flows.cli.terminal import Json, at_terminal, call_flow, prefect_answering, table
from flows.home import set_defaults
from gpt.config import DEFAULTS

SHOWN_CHARS = 150  # of what a model wrote


def generate(
    model: Annotated[
        str, typer.Argument(help="corpus, gpt-<corpus>@champion, gpt-<corpus>/<version>, run id or folder")
    ],
    prompt: Annotated[str, typer.Argument(help="text to go on from; empty begins a document")] = "",
    max_tokens: Annotated[int, typer.Option(help="at most this many tokens")] = DEFAULTS["max_tokens"],
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token")] = DEFAULTS["temperature"],
    top_k: Annotated[int, typer.Option(help="choose among the k likeliest tokens; 0: all")] = DEFAULTS["top_k"],
    top_p: Annotated[
        float, typer.Option(help="choose among the likeliest tokens that make up this probability")
    ] = DEFAULTS["top_p"],
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
        sys.stdout.write(prompt)
        for _, piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        return
    written = [""] * samples
    for row, piece in pieces:
        written[row] += piece
    for number, text in enumerate(written, start=1):
        sys.stdout.write(f"--- {number}\n{prompt}{text}\n")


def explain(
    run: Annotated[str, typer.Argument(help="run id, corpus (its newest model), or gpt-<corpus>@champion")],
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
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="corpus, gpt-<corpus>@champion, gpt-<corpus>/<version>, run id or folder; none: all champions"
        ),
    ] = None,
    corpora: Annotated[
        list[str],
        typer.Option("--corpus", help="on this corpus's held-out text; may be given again; none: the models' own"),
    ] = [],  # noqa: B006
    max_bytes: Annotated[
        int | None,
        typer.Option("--bytes", help="of held-out text a corpus; of more, documents are drawn [4,000,000]", min=1),
    ] = None,
    prompts: Annotated[
        list[str], typer.Option("--prompt", help="that each model goes on from; may be given again; none: the recipes'")
    ] = [],  # noqa: B006
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
    if not as_json:
        bits = [row["val_bpb"] for row in rows]
        rows = [row | {"val_bpb": f"{b:.4f}" if b is not None else None} for row, b in zip(rows, bits, strict=True)]
        rows = [{name: "" if value is None else value for name, value in row.items()} for row in rows]
    table(rows, as_json)


def reproduce(
    run: Annotated[str, typer.Argument(help="run id, gpt-<corpus>@champion or gpt-<corpus>/<version>")],
    folder: Annotated[str, typer.Option("--home", help="build in this new folder, instead of one below the home")] = "",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="go on although something differs that can change the result")
    ] = False,
    as_json: Json = False,
):
    """Make a run again from its record in a fresh home, and say what matches; exit code 1 if it differs."""
    at_terminal()
    from flows import reproduce

    plan = reproduce.plan(reproduce.read(run))
    if plan.matters and not anyway:
        print("\n".join(plan.lines()), file=sys.stderr)
        plan.refuse(anyway)
    with prefect_answering():
        verdict: Any = reproduce.reproduce(run, folder or None, anyway, return_state=True).result(
            raise_on_failure=False
        )
        if isinstance(verdict, BaseException):
            raise verdict
    if as_json:
        print(json.dumps(verdict, indent=1))
    else:
        shown = [row | {name: row[name][:16] for name in ("recorded", "reproduced")} for row in verdict["stages"]]
        table([row | {"equal": "yes" if row["equal"] else "no"} for row in shown], False)
        print(f"\n{verdict['says']}\nrun {verdict['reproduced_run']} in MLflow; its files: {verdict['home']}")
    raise typer.Exit(int(verdict["verdict"] == "differs"))


def export(
    model: Annotated[
        str, typer.Argument(help="corpus, gpt-<corpus>@champion, gpt-<corpus>/<version>, run id or folder")
    ],
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
    from flows.pages import comparison_text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("bits per byte")
    for column in result["corpora"]:
        shown.add_column(
            f"{column['corpus']}\n[dim]{column['documents']:,} docs, {column['bytes'] / 1000:,.0f} kB[/dim]"
        )
    for model, cells in comparison_text.model_rows(result):
        lines = []
        for cell in cells:
            figure = f"[bold]{cell['bits_per_byte']:.3f}[/bold]"
            lines.append(f"{figure} {comparison_text.difference(cell)}\n[dim]{comparison_text.interval(cell)}[/dim]")
        shown.add_row(escape(model), *lines)
    for name in comparison_text.BASELINES:
        shown.add_row(f"[dim]{name}[/dim]", *(f"[dim]{c['baselines'][name]:.3f}[/dim]" for c in result["corpora"]))
    console.print(shown)
    print("beside it the difference to the corpus's own model, ≈ where it may be noise; below it the 95 % interval\n")
    table([{k.replace("_", " "): v for k, v in row.items()} for row in comparison_text.costs(result)], False)
    for prompt in dict.fromkeys(answer["prompt"] for answer in result["answers"]):
        console.print(f"\n[bold]{escape(prompt) or '(from nothing)'}[/bold]", soft_wrap=True)
        answers = [answer for answer in result["answers"] if answer["prompt"] == prompt]
        width = max(len(answer["model"]) for answer in answers)
        for answer in answers:
            text = " ⏎ ".join(line.strip() for line in answer["text"].splitlines() if line.strip())
            console.print(
                f"  {answer['model']:<{width}}  {text[:SHOWN_CHARS]}", markup=False, overflow="ellipsis", no_wrap=True
            )
    print()
    for note in result["notes"]:
        print(f"note: {note}")
    print(f"MLflow: {result['mlflow_url']}  (run {result['mlflow_run']})")
