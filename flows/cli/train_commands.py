"""The commands that train and what leads there: `gpt train`, `import`, `clean`, `why` and `corpora`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from data_contracts.rules import LEAST_CHARS
from flows import UserError
from flows.cli.terminal import Json, call_flow, check_addresses, show, table
from flows.home import shared_home
from flows.recipe import OWN, corpus_names, load_recipe, parse_override
from flows.stages.parameters import reader_of
from flows.store.artifacts import Store

Corpus = Annotated[str, typer.Argument(help="a corpus (gpt corpora lists them), or any name for your own with --from")]
Size = Annotated[str, typer.Option(help="nano to xl, or a preset such as classic-tiny, instead of the dial's")]
Steps = Annotated[int | None, typer.Option(help="training steps, instead of the recipe's", min=1)]
Minutes = Annotated[
    float | None,
    typer.Option(help="for which the dial plans: on two nominal CPU cores, or on the GPU that is there", min=0.01),
]
Set = Annotated[list[str], typer.Option("--set", help="a setting, such as train.lr=0.001; may be given again")]
From = Annotated[str, typer.Option("--from", help="a folder or file to read, or an address hf://, s3:// or gs://")]
Start = Annotated[str, typer.Option(help="a trained model to start from, by any name that gpt generate takes")]
Name = Annotated[str, typer.Option(help="what to call the corpus of --from")]


def train(
    corpus: Corpus = "",
    size: Size = "",
    steps: Steps = None,
    minutes: Minutes = None,
    settings: Set = [],  # noqa: B006
    source: From = "",
    name: Name = "",
    start_from: Start = "",
    more: Annotated[int | None, typer.Option(help="steps by which the champion's training goes on", min=1)] = None,
    force: Annotated[str, typer.Option(help="run this stage even if nothing changed")] = "",
):
    """Run the pipeline on a corpus: download, clean, tokenize, pack, train. Unchanged stages are reused."""
    asked = options(corpus, settings, source, name, start_from, size=size, steps=steps, minutes=minutes)
    if force not in ("", "download", "clean", "tokenize", "pack", "train"):
        raise UserError(f"--force {force!r} is no stage; the stages are download, clean, tokenize, pack and train")
    if more and (size or steps or minutes or settings or start_from):
        raise UserError("--more goes on by the champion's recipe, so no other setting can go with it")
    check(asked)
    call_flow("train", "train", f"{asked['corpus']}: starting", **asked, force=force or None, more=more)


def import_model(
    folder: Annotated[Path, typer.Argument(help="of a decoder, as Hugging Face transformers saves it")],
    name: Annotated[str, typer.Option(help="what to call the model here, as a corpus is called")],
    block_size: Annotated[int, typer.Option(help="T, if shorter than the model's; 0: the model's", min=0)] = 0,
):
    """Take in GPT-2, Llama or Qwen3, with its tokenizer, from a folder: to generate, to serve, to start trainings from."""
    check_addresses()
    from flows.models import imported

    print(imported.import_model(folder, name, block_size))


def clean(
    corpus: Corpus = "",
    settings: Set = [],  # noqa: B006
    source: From = "",
    name: Name = "",
    force: Annotated[bool, typer.Option("--force", help="clean even if nothing changed")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="show what was dropped and changed, and why")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="the explanation, machine-readable")] = False,
):
    """Download and clean a corpus, and make its data card; nothing is trained."""
    asked = options(corpus, settings, source, name)
    check(asked, trains=False)
    asked |= {"force": "clean" if force else None, "until": "clean"}
    artifact = call_flow("train", "prepare", f"{asked['corpus']}: starting", **asked)
    card = artifact.folder / "card"
    if as_json or explain:
        show(json.loads((card / "card.json").read_text(encoding="utf-8")), as_json, "data_card.jinja")
    print(f"data card: {card / 'card.html'}", file=sys.stderr)


def why(
    corpus: Corpus = "",
    size: Size = "",
    steps: Steps = None,
    minutes: Minutes = None,
    settings: Set = [],  # noqa: B006
    source: From = "",
    name: Name = "",
    start_from: Start = "",
    as_json: Json = False,
):
    """Say which stages `gpt train` with the same options would run, and because of what."""
    from flows.models.start import mixed, started
    from flows.stages import stale

    asked = options(corpus, settings, source, name, start_from, size=size, steps=steps, minutes=minutes)
    found = stale.why(Store(), started(mixed(load_recipe(**asked))))
    rows = [{"stage": r.stage, "would": "be reused" if r.artifact else "run", "because": r.because} for r in found]
    table(rows, as_json)


def corpora(as_json: Json = False):
    """List the corpora that have a recipe."""
    rows = []
    for name in corpus_names():
        recipe = load_recipe(name)
        where = recipe.source.handle or recipe.source.url or "built in"
        rows.append({"corpus": name, "what": recipe.title, "source": recipe.source.kind, "where": where})
    table(rows, as_json)


def check(asked: dict, trains: bool = True) -> None:
    """Raise UserError or DataError for a recipe or a source that cannot be used. asked: as `load_recipe` takes it."""
    from data_contracts.sources.source import check

    recipe, store = load_recipe(**asked), Store()
    for part in recipe.mix:
        if not store.manifests(part, "clean"):
            load_recipe(part)  # to be cleaned first
    there = store.manifests(recipe.corpus, "download")
    least = LEAST_CHARS if trains and recipe.dial and recipe.reader == OWN else 0
    check(recipe.source, reader_of(recipe), None if there else shared_home(), recipe.options, least)


def options(corpus: str, settings: list[str], source: str, name: str = "", start_from: str = "", **more: Any) -> dict:
    """The options that name a recipe, as `load_recipe` and the flow take them."""
    if name and corpus:
        raise UserError(f"both {corpus!r} and --name {name!r} name the corpus; give one")
    if name and not source:
        raise UserError(f"--name {name!r} goes with --from PATH")
    if not (corpus or name):
        raise UserError("name a corpus (gpt corpora lists them), or bring your own: --from PATH --name NAME")
    here = Path(start_from).expanduser()  # a worker has another current folder
    start = {"start.model": str(here.resolve()) if here.is_dir() else start_from} if start_from else {}
    return {
        "corpus": corpus or name,
        "source": str(Path(source).expanduser().resolve()) if source and "://" not in source else source or None,
        "overrides": dict(parse_override(text) for text in settings) | start,
        **{option: value or None for option, value in more.items()},
    }
