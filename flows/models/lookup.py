"""Find a trained model, or the MLflow run that made it, by any name that a user may give it.

MLflow is imported only where a name is one of MLflow's.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import UserError
from flows.recipe import CORPUS_PATTERN, corpus_names
from flows.store.artifacts import Store
from flows.tracking.connection import answering, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

RUN_ID = re.compile(r"[0-9a-f]{32}")
REGISTERED = re.compile(r"(?:models:/)?(gpt-[a-z0-9-]+)(?:@([\w-]+)|/(\d+))")
UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's codes for a name that it does not have


def find(model: str) -> Path:
    """The folder of a model: a corpus, `gpt-<corpus>@champion`, `gpt-<corpus>/3`, a run id, or a folder.

    A corpus means its champion (see `training_of`). Raises UserError when there is none.
    """
    if trained := training_of(model):  # also beside a folder of this name that it was imported from
        return Path(trained["path"]) / "model"
    for folder in (Path(model), Path(model) / "model"):
        if (folder / "config.json").is_file():
            return folder
    if REGISTERED.fullmatch(model):
        return _download(f"models:/{model.removeprefix('models:/')}", model)
    if RUN_ID.fullmatch(model):
        tags = mlflow_run(model).data.tags
        made = json.loads(tags.get("artifacts", "{}")).get("train", {})
        here = Store().manifests(tags.get("corpus", "*"), "train")
        if kept := [manifest for manifest in here if manifest["digest"] == made.get("digest")]:
            return Path(kept[-1]["path"]) / "model"
        if "model" not in tags:
            raise UserError(f"run {model} left no model (it is {tags.get('error') or 'unfinished'})")
        return _download(tags["model"], model)
    if model in corpus_names():
        raise UserError(f"corpus {model!r} has no trained model yet; run: gpt train {model}")
    known = "a corpus, gpt-<corpus>@champion, gpt-<corpus>/<version>, a run id or a folder"
    raise UserError(f"model {model!r} is not known; give {known} (gpt artifacts lists what is trained)")


def training_of(corpus: str) -> dict | None:
    """Manifest of the training artifact that a corpus's name means; None where it has none, or the name is not one of a corpus.

    Of several it is the champion's, and a line on stderr says so. Without a champion in this home it is the newest. MLflow is
    asked only if there are several.
    """
    trained = Store().manifests(corpus, "train") if re.fullmatch(CORPUS_PATTERN, corpus) else []
    if len(trained) < 2:
        return trained[0] if trained else None
    best = champion(corpus)
    chosen = next((manifest for manifest in trained if best and manifest["digest"] == best.tags.get("digest")), None)
    what = f"gpt-{corpus}/{best.version}, the champion" if best and chosen else "the newest; no champion is here"
    print(f"{corpus}: {what} (of {len(trained)} models; gpt runs --corpus {corpus} lists them)", file=sys.stderr)
    return chosen or trained[-1]


def champion(corpus: str) -> ModelVersion | None:
    """MLflow's record of a corpus's champion; None if there is none. Raises UserError when MLflow does not answer."""
    return _ask_mlflow(lambda client: client.get_model_version_by_alias(f"gpt-{corpus}", "champion"))


def run_id(name: str) -> str:
    """The id of a run, or of the run that made a registered model. Raises UserError for another name."""
    if RUN_ID.fullmatch(name):
        return name
    if not REGISTERED.fullmatch(name):
        known = "a run id, gpt-<corpus>@champion or gpt-<corpus>/<version>"
        raise UserError(f"run {name!r} is not known; give {known} (gpt runs and gpt artifacts list what there is)")
    return registered_version(name).run_id or ""


def registered_version(name: str) -> ModelVersion:
    """MLflow's record of `gpt-<corpus>/<version>` or `gpt-<corpus>@<alias>`. Raises UserError when MLflow gives none."""
    if not (found := REGISTERED.fullmatch(name)):
        raise UserError(f"model {name!r} is not registered; give gpt-<corpus>@champion or gpt-<corpus>/<version>")
    model, alias, number = found.groups()
    if alias:
        return _ask_mlflow(lambda client: client.get_model_version_by_alias(model, alias), f"model {name!r}")
    return _ask_mlflow(lambda client: client.get_model_version(model, number), f"model {name!r}")


def mlflow_run(run_id: str) -> Run:
    """MLflow's record of a run. Raises UserError when MLflow has no run of this id, or does not answer."""
    return _ask_mlflow(lambda client: client.get_run(run_id), f"run {run_id}")


def _ask_mlflow(question: Callable[[MlflowClient], Any], what: str = "") -> Any:
    """MLflow's answer. For a name that it does not have: None, or UserError if `what` says what that is. Raises UserError when
    MLflow does not answer."""
    import mlflow

    with answering():
        try:
            return question(mlflow.MlflowClient())
        except mlflow.MlflowException as error:
            if error.error_code not in UNKNOWN:
                raise
    if what:
        raise UserError(f"{what} is not known to MLflow at {without_password(mlflow.get_tracking_uri())}")
    return None


def _download(uri: str, asked: str) -> Path:
    import mlflow

    try:
        return Path(mlflow.artifacts.download_artifacts(uri)) / "artifacts" / "model"
    except (mlflow.MlflowException, OSError) as error:
        raise UserError(f"model {asked!r} cannot be downloaded from MLflow: {str(error)[:200]}") from error
