"""Trained models by name: registering one, and crowning it.

`champion` moves only to a model that has fewer bits per byte than the present one on the same held-out bytes.
"""

from contextlib import suppress
from importlib.metadata import version

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from flows import model_card
from flows.environment import ROOT, home
from flows.recipes import Recipe
from flows.store import Artifact, lock
from flows.tracking import Tracker
from gpt.config import DEFAULTS

CHAMPION = "champion"
KINDS = {int: "long", float: "double", str: "string"}
REQUIREMENTS = ("mlflow", "torch", "numpy", "safetensors", "sentencepiece")


def register(tracker: Tracker, recipe: Recipe, decoder: Artifact, sequences: Artifact) -> str:
    """Register a trained decoder as `gpt-<corpus>` once, and say in the run whether it became the champion.

    Returns the version. A decoder that is registered already (the same digest) keeps its version.
    """
    name, client = f"gpt-{recipe.corpus}", tracker.client
    with lock(home(), f"register-{name}"):  # two runs of one corpus may end together
        chosen = _version(tracker, recipe, decoder, sequences, name)
        verdict = _crown(client, name, chosen, decoder.counts["val_bpb"], sequences.counts["held_out"])
    tracker.tags({"model": f"models:/{name}/{chosen}", "champion": verdict})
    return chosen


def _version(tracker: Tracker, recipe: Recipe, decoder: Artifact, sequences: Artifact, name: str) -> str:
    """The version that holds this decoder, made when there is none."""
    client = tracker.client
    for known in client.search_model_versions(f"name = '{name}'"):
        if known.tags.get("digest") == decoder.digest:
            return known.version
    info = mlflow.pyfunc.log_model(  # into the active run, which is this one
        name=name,
        python_model=str(ROOT / "flows" / "serving.py"),
        code_paths=[str(ROOT / "gpt")],
        artifacts={"model": str(decoder.folder / "model")},
        signature=ModelSignature(
            inputs=Schema([ColSpec("string")]),
            outputs=Schema([ColSpec("string")]),
            params=ParamSchema([ParamSpec(name, KINDS[type(value)], value) for name, value in DEFAULTS.items()]),
        ),
        input_example=([recipe.sample.prompts[0]], {"max_tokens": 20}),
        pip_requirements=[f"{package}=={version(package).split('+')[0]}" for package in REQUIREMENTS],
        params={"corpus": recipe.corpus, "preset_size": f"{recipe.model.n_layer}x{recipe.model.n_embd}"},
        tags={"corpus": recipe.corpus, "digest": decoder.digest, "final": "true"},
        model_type="gpt",
    )
    tags = {
        "digest": decoder.digest,
        "val_bpb": f"{decoder.counts['val_bpb']:.6f}",
        "held_out": sequences.counts["held_out"],
        "run_id": tracker.run_id,
    }
    with suppress(MlflowException):  # it exists from the second version on
        client.create_registered_model(name)
    card = model_card.text(tracker, recipe)
    made = client.create_model_version(
        name, info.model_uri, tracker.run_id, tags, description=card, model_id=info.model_id
    )
    return made.version


def _crown(client: mlflow.MlflowClient, name: str, new: str, bits: float, held_out: str) -> str:
    """Move the alias if the new version deserves it; returns the reason either way."""
    aliases = client.get_registered_model(name).aliases
    present = client.get_model_version(name, aliases[CHAMPION]) if CHAMPION in aliases else None
    if present is None:
        client.set_registered_model_alias(name, CHAMPION, new)
        return f"version {new} is the first"
    if present.version == new:
        return f"version {new} stays champion"
    best = float(present.tags.get("val_bpb", "inf"))
    if present.tags.get("held_out") != held_out:
        return (
            f"version {present.version} stays: it was measured on other held-out documents, so the two do not compare"
        )
    if bits < best:
        client.set_registered_model_alias(name, CHAMPION, new)
        return f"version {new} replaces {present.version}: {bits:.4f} bits per byte against {best:.4f}"
    return f"version {present.version} stays: {best:.4f} bits per byte against {bits:.4f} of version {new}"
