"""What of a recipe decides each stage's output: the parameters in its artifact's key, without hardware and paths."""

from collections.abc import Callable

from flows.home import shared_home
from flows.progress import log_line
from flows.recipe import OWN, Recipe
from flows.store.artifacts import Store
from gpt.config import TrainConfig


def sections(*names: str) -> Callable[[Recipe], dict]:
    """The parameters of a stage that these sections of the recipe decide. Of [start] the digest is one, if there is any."""

    def parameters(recipe: Recipe) -> dict:
        values = recipe.model_dump(mode="json", include=set(names))
        start = values.pop("start", {}).get("digest")
        return values | ({"start": start} if start else {})

    return parameters


def download_parameters(recipe: Recipe) -> dict:
    """The identity of the raw data. Where Kaggle does not answer, that of the newest version in this home."""
    from data_contracts import Unreachable
    from data_contracts.sources.source import resolve

    source = recipe.source
    try:
        identity = resolve(source, reader_of(recipe))
    except Unreachable as error:
        if not (newest := _newest_here(recipe)):
            raise
        problem = str(error).splitlines()[0]
        log_line(f"{problem}; going on with version {newest['version']}, the newest that is here")
        return newest
    if source.kind == "kaggle" and source.handle == identity["handle"]:
        log_line(f"kaggle {source.handle}: current version is {identity['version']}")
    return identity


def clean_parameters(recipe: Recipe) -> dict:
    return sections("clean", "options")(recipe) | {"reader": recipe.reader}


def train_parameters(recipe: Recipe) -> dict:
    values = sections("train", "start")(recipe) | {"model": recipe.model.as_dict()}
    values |= {"adapter": recipe.start.adapter} if recipe.start.rank else {}
    del values["model"]["vocab_size"]  # the tokenizer decides it, which is an input
    del values["train"]["checkpoint_every"]  # decides how much a killed run loses, not what it makes
    values["train"]["keep_checkpoints"] = TrainConfig.keep_checkpoints  # as all keys have it: it decides no number
    if recipe.runtime.dtype != "auto":  # hardware, unless it is asked for: then it changes the numbers
        values["dtype"] = recipe.runtime.dtype
    return values


def reader_of(recipe: Recipe) -> str:
    """The name by which the data contracts know the corpus; a user's own has the name that its user gave it."""
    return recipe.corpus if recipe.reader == OWN else recipe.reader


def _newest_here(recipe: Recipe) -> dict | None:
    """The identity of the newest version of a Kaggle dataset in this home, if there is any."""
    from data_contracts.sources.source import pinned, resolve

    source, reader = recipe.source, reader_of(recipe)
    identities = [manifest["parameters"] for manifest in Store(shared_home()).manifests(recipe.corpus, "download")]
    # Pinned to such a version, the recipe's source must be exactly what the artifact was made from.
    ours = [known for known in identities if known.get("handle") == source.handle]
    same = [known for known in ours if resolve(pinned(source, known), reader) == known]
    return max(same, key=lambda known: known["version"], default=None)
