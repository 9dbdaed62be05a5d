"""What a training starts from: a model, and the corpora of a mixture. Each is found by name before any work, and by its digest
ever after."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from data_contracts.sources.mixture import Part
from flows import UserError
from flows.home import shared_home
from flows.models import lookup
from flows.recipe import Recipe, load_recipe
from flows.stages.definitions import read_tokenizer
from flows.store.artifacts import Store, describe

WEIGHTS = "model.safetensors"


def mixed(recipe: Recipe, clean: Callable[[Recipe], object] | None = None) -> Recipe:
    """The recipe of a mixture with the newest clean documents of each part; another as it is.

    clean: makes those of a part that has none; without it, UserError names that part.
    """
    if not recipe.mix:
        return recipe
    parts, store = [], Store(shared_home())
    for corpus, share in recipe.mix.items():
        if not (known := store.manifests(corpus, "clean")):
            part = load_recipe(corpus)
            if not clean:
                raise UserError(f"{corpus}, a part of the mixture, was never cleaned here: gpt clean {corpus}")
            clean(part)
            known = store.manifests(corpus, "clean")
        parts.append(Part(corpus, None if share == "auto" else share, known[-1]["digest"], known[-1]["path"]))
    return recipe.model_copy(update={"source": replace(recipe.source, parts=tuple(parts))})


def started(recipe: Recipe) -> Recipe:
    """The recipe with the shape and vocabulary of the model that it starts from, and where that is; without one, as it is.
    Raises UserError, GPTError or TokenizerError for a model that is gone, or cannot be trained on."""
    if not (name := recipe.start.model):
        return recipe
    from gpt.checkpoint import load_model

    here = Path(recipe.start.folder)  # where a record says that it was
    folder = here if recipe.start.folder and (here / WEIGHTS).is_file() else lookup.find(name)
    model, about = load_model(folder)  # whole: cut weights are noticed before any work
    tokenizer, digest = read_tokenizer(folder), describe(folder / WEIGHTS)["sha256"]
    if about.get("tokenizer_fingerprint") != tokenizer.fingerprint:
        raise UserError(f"start.model {name!r}: {tokenizer.path} is not the tokenizer that it was trained with")
    if recipe.start.digest not in ("", digest):
        what = f"start.model {name!r} has other weights now: {digest[:16]}, not {recipe.start.digest[:16]}"
        raise UserError(f"{what}\nthose of the record are gone; start a new run from the present ones in {folder}")
    fixed = {
        "model": replace(model.config, dropout=recipe.model.dropout),
        "pack": replace(recipe.pack, block_size=model.config.block_size),
        "tokenizer": replace(recipe.tokenizer, vocab_size=tokenizer.vocab_size),
        "dial": tuple(open for open in recipe.dial if open.startswith("train.") or open == "model.dropout"),
        "start": replace(recipe.start, digest=digest, folder=str(folder)),
    }
    return recipe.model_copy(update=fixed)
