"""Find a trained model by whatever a user calls it. MLflow is loaded only for names that are MLflow's."""

import re
from pathlib import Path

from flows import UserError
from flows.home import shared_home
from flows.recipe import names
from flows.store.artifacts import Store

UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's words for a name that it does not have
REGISTERED = r"(?:models:/)?(gpt-[a-z0-9-]+)(?:@(\w+)|/(\d+))"


def find(model: str) -> Path:
    """The model folder that a user means: a corpus, `gpt-<corpus>@champion`, `gpt-<corpus>/3`, a run id, or a folder.

    A corpus means its newest trained decoder. Raises UserError when there is none.
    """
    for folder in (Path(model), Path(model) / "model"):
        if (folder / "config.json").is_file():
            return folder
    if trained := Store(shared_home()).manifests(model, "train") if re.fullmatch(r"[a-z0-9-]+", model) else []:
        return Path(trained[-1]["path"]) / "model"
    if found := re.fullmatch(REGISTERED, model):
        return _download(f"models:/{found[1]}" + (f"@{found[2]}" if found[2] else f"/{found[3]}"), model)
    if re.fullmatch(r"[0-9a-f]{32}", model):
        tags = mlflow_run(model).data.tags
        if "model" not in tags:
            raise UserError(f"run {model} registered no model (it is {tags.get('error') or 'unfinished'})")
        return _download(tags["model"], model)
    if model in names():
        raise UserError(f"corpus {model!r} has no trained model yet; run: gpt train {model}")
    raise UserError(
        f"model {model!r} is not known; give a corpus, gpt-<corpus>@champion, gpt-<corpus>/<version>, a run id or a folder "
        "(gpt artifacts lists what is trained)"
    )


def mlflow_run(run: str):
    """MLflow's record of a run. Raises UserError when it knows none of this id, or does not answer."""
    import mlflow

    from flows.tracking.run import answering, without_password

    with answering():
        try:
            return mlflow.get_run(run)
        except mlflow.MlflowException as error:
            if error.error_code not in UNKNOWN:
                raise
            uri = without_password(mlflow.get_tracking_uri())
            raise UserError(f"run {run} is not known to MLflow at {uri}") from error


def version_of(model: str):
    """MLflow's record of a registered model's version. Raises UserError when it knows none of this name."""
    import mlflow

    from flows.tracking.run import answering

    client, (name, alias, number) = mlflow.MlflowClient(), re.fullmatch(REGISTERED, model).groups()
    with answering():
        try:
            return client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
        except mlflow.MlflowException as error:
            if error.error_code not in UNKNOWN:
                raise
            raise UserError(f"model {model!r} is not known to MLflow") from error


def _download(uri: str, asked: str) -> Path:
    import mlflow

    try:
        return Path(mlflow.artifacts.download_artifacts(uri)) / "artifacts" / "model"
    except (mlflow.MlflowException, OSError) as error:
        raise UserError(f"model {asked!r} cannot be had from MLflow: {str(error)[:200]}") from error
