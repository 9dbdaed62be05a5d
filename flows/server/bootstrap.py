"""Fill the servers of `gpt up` with what they need, in a process of its own: `python -m flows.server.bootstrap`.

It checks prefect.yaml while the servers start. Then it creates what is missing: the work pool and its queues, the deployments,
the limit of trainings at once, the automations, and MLflow's experiment. What is there already may have been changed in
Prefect's pages, and stays as it is.

Notable: prefect.yaml is checked by a model that Prefect keeps to itself, since `prefect deploy` skips a file that it cannot
read, and unknown keys.
"""

import io
import json
import re
import sys
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.events import AutomationCore
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from pydantic import ValidationError

from flows import UserError
from flows.home import GPU, ROOT
from flows.server.processes import is_healthy

POOL = "gpt"
AUTOMATIONS = ROOT / "automations.yaml"


def main(answer: Path, prefect_file: Path, health_urls: list[str]) -> None:
    """answer: receives the number of deployments and MLflow's experiment as JSON. health_urls: of the servers to wait for."""
    from flows.tracking.connection import experiment_id  # while the servers start

    deployments = check(prefect_file)
    for url in health_urls:  # `gpt up` ends this process if a server does not start
        while not is_healthy(url):
            time.sleep(0.3)
    create_pool()
    deploy(prefect_file)
    create_automations()
    answer.write_text(json.dumps({"deployments": len(deployments), "experiment": experiment_id()}))


def check(path: Path) -> list[str]:
    """The names of the deployments of a prefect.yaml. Raises UserError that says where what is wrong: what YAML or Prefect's
    model does not take, and unknown keys. `deploy` finds the rest."""
    from prefect.cli.deploy._models import PrefectYamlModel

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path.name} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not content.get("deployments"):
        raise UserError(f"{path.name} has no deployments\n{path}")
    content.pop("definitions", None)  # where the file keeps what its entries share
    try:
        deployments = PrefectYamlModel.model_validate(content, extra="forbid").deployments
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path.name}, {place}: {first['msg']}") from None
    return [str(deployment.name) for deployment in deployments]


def deploy(path: Path) -> None:
    """Create or update every deployment of the file: `prefect deploy --all`, in this process, which has loaded Prefect."""
    from prefect.cli import app

    sys.argv = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(path)]
    output = io.StringIO()
    try:
        with redirect_stdout(output), redirect_stderr(output):
            app()
    except SystemExit as end:
        if end.code:
            words = re.sub("[│╭╰─╮╯]", " ", output.getvalue()).split()
            raise UserError(f"{path.name} could not be deployed: {' '.join(words)[-300:]}\n{path}") from None
    finally:
        print(output.getvalue())


def create_pool() -> None:
    """Create the work pool where it is missing. Deploying makes its queues."""
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


def create_automations(text: str = "") -> None:
    """Create the GPU limit and the automations where they are missing. text: instead of the content of automations.yaml."""
    import torch

    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            slots = max(1, torch.cuda.device_count())
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU, limit=slots))
        for wanted in yaml.safe_load(text or AUTOMATIONS.read_text(encoding="utf-8"))["automations"]:
            for action in wanted["actions"]:
                if name := action.get("deployment_id"):
                    try:
                        action["deployment_id"] = client.read_deployment_by_name(name).id
                    except ObjectNotFound:
                        raise UserError(f"{name} is not deployed: prefect --no-prompt deploy --all") from None
            if not client.read_automations_by_name(wanted["name"]):
                client.create_automation(AutomationCore.model_validate(wanted))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    except UserError as error:
        sys.exit(f"error: {error}")
