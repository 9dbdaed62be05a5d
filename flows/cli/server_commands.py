"""The commands that run servers: `gpt up`, `gpt down`, `gpt status`, `gpt serve` and `gpt ui`."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from flows import UserError
from flows.cli.terminal import Json, table
from flows.home import ROOT

ServePort = Annotated[int, typer.Option(help="of the completions API and the playground", min=1, max=65535)]


def up(
    host: Annotated[str, typer.Option(help="where all listen; beyond this machine takes a password")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="of Prefect", min=1, max=65535)] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="of MLflow", min=1, max=65535)] = 5000,
    serve_port: ServePort = 8080,
    prefect_file: Annotated[str, typer.Option(help="the deployments")] = str(ROOT / "prefect.yaml"),
    detach: Annotated[bool, typer.Option("--detach", help="leave it running in the background")] = False,
):
    """Start Prefect, MLflow, the playground, the deployments and a worker, and watch over them until Ctrl-C or gpt down."""
    from flows.server import supervisor
    from flows.server.access import access

    wanted = access(host, port=port, mlflow_port=mlflow_port, serve_port=serve_port)
    file = Path(prefect_file).resolve()
    if not detach:
        return supervisor.up(wanted, file)
    options = {"--host": host, "--port": port, "--mlflow-port": mlflow_port, "--serve-port": serve_port}
    options["--prefect-file"] = file
    return supervisor.detach([str(word) for option in options.items() for word in option])


def down():
    """Stop what gpt up started; a running training leaves a checkpoint."""
    from flows.server import supervisor

    supervisor.down()


def status(as_json: Json = False):
    """Show what is up, and where; exit code 1 if it is not. Prefect's page shows the runs."""
    from flows.server import supervisor

    found = supervisor.status()
    if as_json:
        print(json.dumps(found, indent=1))
    elif not found["services"]:
        print("nothing is up; gpt up starts it")
    else:
        table(found["services"])
        print(f"gpt uses these servers; for prefect itself: export PREFECT_API_URL={found['api']}")
    raise typer.Exit(int(not found["up"]))


def serve(
    models: Annotated[list[str] | None, typer.Argument(help="as of gpt generate; none: all champions")] = None,
    host: Annotated[str, typer.Option(help="beyond this machine takes a password, as of gpt up")] = "127.0.0.1",
    port: ServePort = 8080,
):
    """Answer OpenAI's completions API, and show a page to play on, until Ctrl-C."""
    import uvicorn

    from flows.server import access, processes
    from flows.server.apps import guard

    wanted = access.access(host, serve_port=port)
    processes.check_port(processes.completions_server(wanted), host, "--port")
    from flows.serving.api import Refusal, create_app

    pages = [f"http://{name}:{port}" for name in wanted.names()]
    app = guard(create_app(models or []), wanted.names(), pages, wanted.login, Refusal)
    page = f"{wanted.public_url(port)}/"
    print(f"playground: {page}\ncompletions API: {page}v1\nCtrl-C stops it", flush=True)
    uvicorn.run(app, host=host, port=port, log_level="warning")


def ui(port: Annotated[int, typer.Option(help="of MLflow, on 127.0.0.1")] = 5000):
    """Serve the MLflow pages of this home, on this machine only."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith("http"):
        raise UserError("MLFLOW_TRACKING_URI names a server already: open its address in a browser")
    import uvicorn

    from flows.server import processes
    from flows.server.access import Access
    from flows.tracking import outbox
    from flows.tracking.connection import MLFLOW_PORT, experiment_id, runs_url

    service = processes.mlflow_server(uri, Access("127.0.0.1", mlflow_port=port))
    processes.check_port(service, "127.0.0.1", "--port")
    page = runs_url(experiment_id()).replace(f":{MLFLOW_PORT}", f":{port}")
    outbox.sync()
    os.environ |= service.environment
    print(f"MLflow: {page}\nCtrl-C stops it", flush=True)
    uvicorn.run("flows.server.apps:create_mlflow", factory=True, port=port, log_level="warning")
