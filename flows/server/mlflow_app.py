"""The MLflow server of `gpt up` and `gpt ui`: MLflow's own, through which programs on other machines read and write artifacts.

The database names the folder of artifacts, so that a program on this machine reads and writes them without a server. To the
server's clients the folder is `mlflow-artifacts:/`, MLflow's name for what goes through it: they would write to their own disk.
"""

import os
import re

from fastapi import FastAPI
from mlflow.server import Response, app, handlers
from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, ARTIFACTS_DESTINATION_ENV_VAR, BACKEND_STORE_URI_ENV_VAR


def create_app() -> FastAPI:
    """For uvicorn, with the environment of `processes.mlflow_server`. Creates the tables of a new database."""
    store = os.environ[BACKEND_STORE_URI_ENV_VAR]
    handlers.initialize_backend_stores(store, store, os.environ[ARTIFACT_ROOT_ENV_VAR])
    app.after_request(through_server)
    if os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
        from mlflow.server import auth

        return auth.create_app(app)
    from mlflow.server import fastapi_app

    return fastapi_app.app


def through_server(response: Response) -> Response:
    """MLflow's answer with the folder of artifacts as clients know it; the content of an artifact stays as it is."""
    if response.is_json and not response.is_streamed:
        folder = re.escape(os.environ[ARTIFACTS_DESTINATION_ENV_VAR].encode())
        response.set_data(re.sub(folder + b'(/|(?="))', b"mlflow-artifacts:/", response.get_data()))
    return response
