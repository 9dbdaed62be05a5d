"""The `gpt` command. Every table takes --json; errors that a user can cause are a line or two on stderr, with exit code 2."""

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows import UserError
from flows.cli import model_commands, server_commands
from flows.cli.terminal import Json, at_terminal, call_flow, prefect_answering, table
from flows.home import home, prepare, shared_home
from gpt.config import DEFAULTS

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=__doc__.splitlines()[0],
)
# Polars and sqlite wrap the system's words in errors of their own, so the words are what is looked for.
DISK_WORDS = ("No space left on device", "database or disk is full", "Disk quota exceeded", "Read-only file system")

Corpus = Annotated[str, typer.Argument(help="a corpus (gpt corpora lists them), or any name for your own with --from")]
Size = Annotated[
    str, typer.Option(help="nano to xl, a whole preset such as classic-tiny, or auto: by bytes, device and --minutes")
]
Steps = Annotated[int, typer.Option(help="training steps, instead of the recipe's", min=1)]
Minutes = Annotated[float, typer.Option(help="as many training steps as end in time, instead of steps", min=0)]
Set = Annotated[list[str], typer.Option("--set", help="a setting, such as train.lr=0.001; may be given again")]
From = Annotated[str, typer.Option("--from", help="a folder or file to read: .txt, .jsonl, .csv or .parquet")]
Name = Annotated[str, typer.Option(help="what to call the corpus of --from")]


@app.command()
def train(
    corpus: Corpus = "",
    size: Size = "",
    steps: Steps = None,
    minutes: Minutes = 0.0,
    settings: Set = [],  # noqa: B006
    source: From = "",
    name: Name = "",
    force: Annotated[str, typer.Option(help="run this stage even if nothing changed")] = "",
):
    """Run the pipeline on a corpus: download, clean, tokenize, pack, train. Unchanged stages are reused."""
    asked = _asked(corpus, settings, source, name) | {"size": size or None, "steps": steps, "minutes": minutes or None}
    if force not in ("", "download", "clean", "tokenize", "pack", "train"):
        raise UserError(f"--force {force!r} is no stage; the stages are download, clean, tokenize, pack and train")
    _run("train", asked, force)


@app.command()
def clean(
    corpus: Corpus = "",
    settings: Set = [],  # noqa: B006
    source: From = "",
    name: Name = "",
    force: Annotated[bool, typer.Option("--force", help="clean even if nothing changed")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="show what was dropped and changed and why, and what thresholds would do")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="the explanation, machine-readable")] = False,
):
    """Download and clean a corpus, and make its data card; nothing is trained."""
    artifact = _run("prepare", _asked(corpus, settings, source, name), "clean" if force else "", until="clean")
    card = artifact.folder / "card"
    facts = json.loads((card / "card.json").read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps(facts, indent=1))
    elif explain:
        _explain(facts)
    print(f"data card: {card / 'card.html'}", file=sys.stderr)


@app.command()
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
    prepare()
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


@app.command()
def explain(
    run: Annotated[str, typer.Argument(help="run id, corpus (its newest model), or gpt-<corpus>@champion")],
    step: Annotated[int, typer.Option(help="training step, from 1, as MLflow counts them")],
    as_json: Json = False,
):
    """Show the documents that the batch of a training step came from, with the file and row of each."""
    prepare()
    from flows.evaluation import batch_sources

    found = batch_sources.explain(run, step)
    if not as_json:
        print(found.says, file=sys.stderr)
    table(found.rows, as_json)


app.command()(model_commands.compare)
app.command()(model_commands.runs)


@app.command()
def reproduce(
    run: Annotated[str, typer.Argument(help="run id, gpt-<corpus>@champion or gpt-<corpus>/<version>")],
    folder: Annotated[str, typer.Option("--home", help="build in this new folder, instead of one below the home")] = "",
    anyway: Annotated[bool, typer.Option("--anyway", help="go on if something that matters differs here")] = False,
    as_json: Json = False,
):
    """Make a run again from its record in a fresh home, and say what matches; exit code 1 if it differs."""
    at_terminal()
    from flows import reproduce

    plan = reproduce.plan(reproduce.read(run))
    if not anyway and any(difference.matters for difference in plan.differences):
        print("\n".join(plan.lines()), file=sys.stderr)
        plan.refuse(anyway)
    with prefect_answering():
        verdict = reproduce.reproduce(run, folder or None, anyway, return_state=True).result(raise_on_failure=False)
        if isinstance(verdict, BaseException):
            raise verdict
    if as_json:
        print(json.dumps(verdict, indent=1))
    else:
        shown = [row | {name: row[name][:16] for name in ("recorded", "reproduced")} for row in verdict["stages"]]
        table([row | {"equal": "yes" if row["equal"] else "no"} for row in shown], False)
        print(f"\n{verdict['says']}\nrun {verdict['reproduced_run']} in MLflow; its files: {verdict['home']}")
    raise typer.Exit(int(verdict["verdict"] == "differs"))


@app.command()
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
    prepare()
    from flows.models import lookup
    from gpt.export.hugging_face import export_hf

    export_hf(lookup.find(model), Path(to))
    print(f"exported to {to}: its README.md says how to use it")


@app.command()
def corpora(as_json: Json = False):
    """List the corpora that have a recipe."""
    from flows import recipe as recipes

    rows = []
    for name in recipes.names():
        recipe = recipes.load(name)
        where = recipe.source.handle or recipe.source.url or "built in"
        rows.append({"corpus": name, "what": recipe.title, "source": recipe.source.kind, "where": where})
    table(rows, as_json)


@app.command()
def artifacts(corpus: Annotated[str, typer.Argument(help="only of this corpus")] = "*", as_json: Json = False):
    """List the versioned outputs of every stage, oldest first."""
    from flows.store.artifacts import Store

    keep = ("corpus", "stage", "key", "digest", "created", "seconds", "counts", "inputs", "path")
    manifests = Store(shared_home()).manifests(corpus)
    if as_json:
        return table([{k: m[k] for k in keep} | {"bytes": _size(m)} for m in manifests], True)
    rows = [
        {k: m[k] for k in ("corpus", "stage", "key")}
        | {"digest": m["digest"][:12], "MB": f"{_size(m) / 1e6:.1f}", "created": m["created"][:19]}
        for m in manifests
    ]
    return table(rows, False)


@app.command()
def why(
    corpus: Corpus = "",
    size: Size = "",
    steps: Steps = None,
    minutes: Minutes = 0.0,
    settings: Set = [],  # noqa: B006
    source: From = "",
    name: Name = "",
    as_json: Json = False,
):
    """Say which stages `gpt train` with the same options would run, and because of what."""
    from flows import recipe as recipes
    from flows.stages import stale
    from flows.store.artifacts import Store

    asked = _asked(corpus, settings, source, name) | {"size": size or None, "steps": steps, "minutes": minutes or None}
    found = stale.why(Store(shared_home()), recipes.load(**asked))
    table([{"stage": r.stage, "would": "run" if r.runs else "be reused", "because": r.because} for r in found], as_json)


@app.command()
def verify(corpus: Annotated[str, typer.Argument(help="only of this corpus")] = "*", as_json: Json = False):
    """Read every file of every artifact and compare it with its manifest; exit code 1 if one is damaged."""
    from flows.store.artifacts import Store

    rows = [
        {k: manifest[k] for k in ("corpus", "stage", "key")} | {"state": "; ".join(problems) or "sound"}
        for manifest, problems in Store(shared_home()).verify(corpus)
    ]
    if not rows and corpus != "*":
        raise UserError(f"corpus {corpus!r} has no artifact here (gpt artifacts lists them)")
    table(rows, as_json)
    raise typer.Exit(int(any(row["state"] != "sound" for row in rows)))


@app.command()
def prune(
    keep: Annotated[
        int,
        typer.Option(help="trained models to keep of each corpus, newest first, with all they were made from", min=0),
    ] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="remove without asking")] = False,
    as_json: Json = False,
):
    """Remove artifacts that no kept model was made from, and what killed builds left behind."""
    from flows.store.artifacts import Store
    from flows.store.locks import idle

    with idle(shared_home()):  # so that no run begins to use what is listed
        folders = Store(shared_home()).prunable(keep)
        sizes = {folder: sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) for folder in folders}
        rows = [
            {"folder": str(folder.relative_to(shared_home() / "artifacts")), "MB": f"{sizes[folder] / 1e6:.1f}"}
            for folder in folders
        ]
        table(rows, as_json)
        if not folders:
            return
        question = f"remove these {len(folders)} folders ({sum(sizes.values()) / 1e6:.0f} MB)?"
        if not yes and not (sys.stdin.isatty() and typer.confirm(question)):
            raise UserError("nothing was removed; --yes removes them")
        for folder in folders:
            shutil.rmtree(folder)


for command in (server_commands.up, server_commands.down, server_commands.status, server_commands.ui):
    app.command()(command)


def main() -> None:
    """The console script."""
    from data_contracts import DataError
    from gpt import GPTError
    from tokenizers import TokenizerError

    try:
        app()
    except (UserError, DataError, TokenizerError, GPTError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except PermissionError as error:
        print(f"error: permission is denied: {error.filename}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if not (words := next((words for words in DISK_WORDS if words in str(error)), "")):
            raise
        print(
            f"error: {words[0].lower()}{words[1:]}: {home()}; make room, and the same command goes on", file=sys.stderr
        )
        sys.exit(2)


def _run(flow: str, asked: dict, force: str, **more: object) -> object:
    """Call a flow of flows/train.py as a person at a terminal would have it."""
    from flows import recipe as recipes

    recipes.load(**asked)  # a bad recipe is told before Prefect is loaded
    return call_flow("train", flow, f"{asked['corpus']}: starting", **asked, force=force or None, **more)


def _asked(corpus: str, settings: list[str], source: str, name: str) -> dict:
    """The options that name a recipe, as `recipes.load` and the flow take them."""
    from flows.recipe import parse_override

    if name and corpus:
        raise UserError(f"both {corpus!r} and --name {name!r} name the corpus; give one")
    if name and not source:
        raise UserError(f"--name {name!r} goes with --from PATH")
    if not (corpus or name):
        raise UserError("name a corpus (gpt corpora lists them), or bring your own: --from PATH --name NAME")
    return {
        "corpus": corpus or name,
        "source": str(Path(source).expanduser().resolve()) if source else None,
        "overrides": dict(parse_override(text) for text in settings),
    }


def _explain(facts: dict) -> None:
    """The data card, on the terminal."""
    from flows.pages.render import plain

    for title, name in (
        ("What became of the texts", "funnel"),
        ("Samples of what was rejected", "rejected"),
        ("What was changed, [-before-] {+after+}", "changed"),
        ("Samples of what was kept, [-before-] {+after+}", "kept"),
        ("Measures of all texts, and the limits that are set", "measures"),
        ("What published thresholds would turn away, each alone beside the rules as they are", "published"),
    ):
        rows = [{column: plain(cell).splitlines() for column, cell in row.items()} for row in facts[name]]
        print(f"\n{title}")
        table([{column: " ⏎ ".join(filter(str.strip, lines)) for column, lines in row.items()} for row in rows], False)


def _size(manifest: dict) -> int:
    return sum(entry["bytes"] for entry in manifest["files"].values())
