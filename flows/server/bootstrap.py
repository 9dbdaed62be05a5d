"""Fill the servers of `gpt up` with what they need, in a process of its own: `python -m flows.server.bootstrap`.

It checks prefect.yaml while the servers start. Then it creates what is missing: the work pool and its queues, the deployments,
the limit of trainings at once, the automations, and MLflow's experiment. What is there already may have been changed in
Prefect's pages, and stays as it is.
"""

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.events import AutomationCore
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows import UserError
from flows.home import GPU, ROOT
from flows.server.processes import is_healthy

POOL = "gpt"
AUTOMATIONS = ROOT / "automations.yaml"


def main(answer: Path, prefect_file: Path, health_urls: list[str]) -> None:
    """answer: receives the number of deployments and MLflow's experiment as JSON. health_urls: of the servers to wait for."""
    from flows.server import prefect_private
    from flows.tracking.connection import experiment_id  # while the servers start

    deployments = prefect_private.check(prefect_file)
    for url in health_urls:  # `gpt up` ends this process if a server does not start
        while not is_healthy(url):
            time.sleep(0.3)
    create_pool()
    prefect_private.deploy(prefect_file)
    create_automations()
    answer.write_text(json.dumps({"deployments": len(deployments), "experiment": experiment_id()}))


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
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
