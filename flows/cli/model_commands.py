"""The commands that look across runs: `gpt compare` and `gpt runs`."""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.cli.terminal import Json, call_flow, table
from flows.home import prepare

SHOWN_CHARS = 150  # of what a model wrote


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
    prepare()
    from flows.models.lookup import find

    for name in models or ():  # an unknown one is told before Prefect is loaded
        find(name)
    asked = {"models": models or [], "corpora": corpora, "prompts": prompts}
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
    prepare()
    from flows.tracking import run_list

    found = run_list.listing(corpus, dataset_digest, best, limit)
    if found.says:
        print(found.says, file=sys.stderr)
    rows = found.rows
    if not as_json:
        bits = [row["val_bpb"] for row in rows]
        rows = [row | {"val_bpb": f"{b:.4f}" if b is not None else None} for row, b in zip(rows, bits, strict=True)]
        rows = [{name: "" if value is None else value for name, value in row.items()} for row in rows]
    table(rows, as_json)


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
