"""Trained models by name: registering one, and crowning it.

`champion` moves only to a model that has fewer bits per byte than the present one on the same held-out bytes, beyond the noise:
both are scored on the same documents, and the interval of their difference, drawn over documents, excludes 0.
"""

from contextlib import suppress
from importlib.metadata import version

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

from flows import UserError
from flows.evaluation import scoring
from flows.home import ROOT, shared_home
from flows.models import model_card
from flows.recipe import Recipe
from flows.store.artifacts import Artifact, Store
from flows.store.locks import lock
from flows.tracking.run import Tracker
from gpt import GPTError
from gpt.config import DEFAULTS
from gpt.evaluation.confidence import interval

CHAMPION = "champion"
KINDS = {int: "long", float: "double", str: "string"}
REQUIREMENTS = ("mlflow", "torch", "numpy", "safetensors", "sentencepiece")


def register(tracker: Tracker, recipe: Recipe, decoder: Artifact, sequences: Artifact) -> str:
    """Register a trained decoder as `gpt-<corpus>` once, and say in the run whether it became the champion.

    Returns the version. A decoder that is registered already (the same digest) keeps its version.
    """
    name = f"gpt-{recipe.corpus}"
    with lock(shared_home(), f"register-{name}"):  # two runs of one corpus may end together
        chosen = _version(tracker, recipe, decoder, sequences, name)
        verdict = _crown(tracker, recipe, name, chosen)
    tracker.tags({"model": f"models:/{name}/{chosen}", "champion": verdict})
    return chosen


def known(corpus: str, decoder: Artifact) -> str:
    """`gpt-<corpus>/<version>` if the decoder has its name and the run that gave it ended well; nothing otherwise."""
    client, name = mlflow.MlflowClient(), f"gpt-{corpus}"
    with suppress(MlflowException):
        for version in client.search_model_versions(f"name = '{name}'"):
            digest, run = version.tags.get("digest"), version.run_id
            if digest == decoder.digest and client.get_run(run).info.status == "FINISHED":
                return f"{name}/{version.version}"
    return ""


def _version(tracker: Tracker, recipe: Recipe, decoder: Artifact, sequences: Artifact, name: str) -> str:
    """The version that holds this decoder, made when there is none."""
    client = tracker.client
    for known in client.search_model_versions(f"name = '{name}'"):
        if known.tags.get("digest") == decoder.digest:
            return known.version
    info = mlflow.pyfunc.log_model(  # into the active run, which is this one
        name=name,
        python_model=str(ROOT / "flows" / "models" / "pyfunc.py"),
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


def _crown(tracker: Tracker, recipe: Recipe, name: str, new: str) -> str:
    """Move the alias if the new version deserves it; returns the reason either way."""
    client = tracker.client
    aliases = client.get_registered_model(name).aliases
    if CHAMPION not in aliases:
        client.set_registered_model_alias(name, CHAMPION, new)
        return f"version {new} is the first"
    present = str(aliases[CHAMPION])
    if present == str(new):
        return f"version {new} stays champion"
    if verdict := client.get_model_version(name, new).tags.get(f"against.{present}"):
        return verdict  # a reused decoder is not measured again
    try:
        with tracker.assessing():
            better, verdict = _duel(tracker, recipe, name, present, new)
    except (UserError, GPTError) as error:
        return f"version {present} stays: it cannot be scored to compare ({str(error)[:200]})"
    if better:
        client.set_registered_model_alias(name, CHAMPION, new)
    else:
        client.set_model_version_tag(name, new, f"against.{present}", verdict)
    return verdict


def _duel(tracker: Tracker, recipe: Recipe, name: str, present: str, new: str) -> tuple[bool, str]:
    """Whether the new version is better on what is held out now, and the reason in words."""
    from gpt.machine import device

    store, stages = Store(shared_home()), tracker.stages
    documents, decoder = stages["clean"], stages["train"]
    champion = scoring.find(store, f"{name}/{present}")
    challenger = scoring.find(store, str(decoder.folder))
    text = scoring.held_out(recipe.corpus, documents.folder, documents.digest, {})
    learned = scoring.trained_on(champion, text)
    if len(learned) == len(text.documents):
        return False, f"version {present} stays: it was trained on all that is held out now, so the two do not compare"
    text, machine = text.without(learned), device.prepare(recipe.runtime)
    old, fresh = (scoring.score(scoring.load(entrant, machine), text) for entrant in (champion, challenger))
    gap = interval(fresh.document_nats - old.document_nats, text.documents["n_bytes"].to_numpy())
    better = gap.high < 0
    what = f"version {new} replaces {present}" if better else f"version {present} stays"
    why = "" if better else ", worse than the champion" if gap.low > 0 else ", within the noise"
    left_out = f" (not on {len(learned)} that version {present} was trained on)" if len(learned) else ""
    return better, (
        f"{what}: version {new} has {fresh.bits_per_byte:.4f} bits per byte against {old.bits_per_byte:.4f} on "
        f"{len(text.documents):,} held-out documents{left_out}; difference {gap.value:+.4f}, "
        f"95 % interval {gap.low:+.4f} to {gap.high:+.4f}{why}"
    )
