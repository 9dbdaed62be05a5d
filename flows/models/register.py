"""Log a trained decoder as an MLflow model that carries its own code, and register it as `gpt-<corpus>`."""

from contextlib import suppress
from importlib import metadata
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.models.model import ModelInfo

from flows.home import ROOT
from flows.pages.render import render_text, spaced
from flows.recipe import Recipe
from flows.server.supervisor import state
from flows.store.artifacts import Artifact, read_manifest
from flows.store.provenance import MODEL_PACKAGES
from flows.tracking.run import Tracker
from gpt.config import DEFAULTS
from gpt.data.tokenizer import BYTE_LEVEL, tokenizer_file


def register(tracker: Tracker, recipe: Recipe) -> str:
    """Register the decoder of a run as `gpt-<corpus>`; returns its version, the old one if the digest is known."""
    client, name, decoder = tracker.client, f"gpt-{recipe.corpus}", tracker.stages["train"]
    if versions := versions_of(client, name, decoder.digest):
        return str(versions[0].version)
    with mlflow.start_run(tracker.run_id):
        info = log_model(decoder, recipe.sample.prompts[0])
    client.update_run(tracker.run_id, "RUNNING")  # the end of the block has ended it
    tags = {"digest": decoder.digest, "test_bpb": f"{decoder.counts['test_bpb']:.6f}", "run_id": tracker.run_id}
    tags["held_out"] = tracker.stages["pack"].counts["test_digest"]
    page = f"{state().get('playground', 'http://127.0.0.1:8080')}/#model="
    with suppress(MlflowException):  # it exists from the second version on
        client.create_registered_model(name)
    if not client.get_registered_model(name).description:
        client.update_registered_model(name, f"Its champion in the [playground]({page}{recipe.corpus})")
    made = client.create_model_version(name, info.model_uri, tracker.run_id, tags, model_id=info.model_id)
    card = model_card(tracker, recipe, f"{page}{name}/{made.version}")
    client.update_model_version(name, made.version, card)
    return str(made.version)


def record_descent(tracker: Tracker, recipe: Recipe, version: str) -> None:
    """Tag the run and its model with the model that they started from, or went on from, and that model with them."""
    client, name, start = tracker.client, f"gpt-{recipe.corpus}", recipe.start
    shorter = tracker.stages["train"].counts.get("goes_on_from")
    if not shorter and not start.model:
        return
    known = {"corpus": recipe.corpus, "digest": shorter} if shorter else read_manifest(Path(start.folder).parent) or {}
    bases = versions_of(client, f"gpt-{known['corpus']}", known["digest"]) if known else []
    base = f"{bases[0].name}/{bases[0].version}" if bases else start.model or f"decoder {shorter}"
    tracker.tags({"starts_from": base})
    client.set_model_version_tag(name, version, "starts_from", base)
    for found in bases[:1]:
        client.set_model_version_tag(found.name, found.version, f"start_of.{name}.{version}", tracker.run_id)


def model_card(tracker: Tracker, recipe: Recipe, playground: str) -> str:
    """What a model was made of and how, how good it is, what it is for, and its limits: as Markdown, in MLflow's registry."""
    stages = tracker.stages
    counts = {name: value for stage in stages.values() for name, value in stage.counts.items()}
    source = "built in" if recipe.source.kind == "builtin" else recipe.source_page() or "files of its maker"
    commit = (read_manifest(stages["train"].folder) or {})["git"]["commit"] or "of no commit"
    about = {"recipe": recipe, "counts": counts, "stages": stages, "source": source, "commit": commit}
    return spaced(render_text("model_card.md", run=tracker.run_id, playground=playground, **about))


def registered_name(corpus: str, decoder: Artifact) -> str:
    """`gpt-<corpus>/<version>` of a decoder whose training run finished; empty if it is not registered, or did not."""
    client, name = mlflow.MlflowClient(), f"gpt-{corpus}"
    with suppress(MlflowException):
        for version in versions_of(client, name, decoder.digest):
            if version.run_id and client.get_run(version.run_id).info.status == "FINISHED":
                return f"{name}/{version.version}"
    return ""


def log_model(decoder: Artifact, prompt: str = "") -> ModelInfo:
    """Log the decoder, with `gpt/` beside it, as a model of the active run. prompt: of its example."""
    packages = [*MODEL_PACKAGES, *["tokenizers"] * (tokenizer_file(decoder.folder / "model").name == BYTE_LEVEL)]
    return mlflow.pyfunc.log_model(
        name=f"gpt-{decoder.corpus}",
        python_model=str(ROOT / "flows" / "models" / "pyfunc.py"),
        code_paths=[str(ROOT / "gpt")],
        artifacts={"model": str(decoder.folder / "model")},
        signature=infer_signature(["prompt"], ["continuation"], DEFAULTS),
        input_example=([prompt], {"max_tokens": 20}),
        pip_requirements=[f"{package}=={metadata.version(package).split('+')[0]}" for package in packages],
        params={"corpus": decoder.corpus},
        tags={"corpus": decoder.corpus, "digest": decoder.digest, "final": "true"},
        model_type="gpt",
    )


def versions_of(client: mlflow.MlflowClient, name: str, digest: str) -> list[ModelVersion]:
    """The registered versions that hold the decoder of this digest."""
    found = client.search_model_versions(f"name = '{name}'")
    return [version for version in found if version.tags.get("digest") == digest]
