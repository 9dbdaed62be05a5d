"""Fill the servers of `gpt up` with what they need, in a process of its own: `python -m flows.server.bootstrap`.

It checks prefect.yaml while the servers start. Then it creates what is missing: the work pool and its queues, the deployments,
the limit of trainings at once, the automations, and MLflow's experiment. What is there already may have been changed in
Prefect's pages, and stays as it is.
"""

import json
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from signal import SIGABRT, SIGBUS, SIGKILL, SIGSEGV

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events import AutomationCore
from prefect.events.actions import ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows import UserError
from flows.home import GPU
from flows.server.dead_runs import GONE, SILENT, crash_dead_runs
from flows.server.processes import is_healthy

NOTIFY = "notify on failure"
POOL, QUEUES = "gpt", ("gpu", "cpu")
# How the message begins by which a worker, or `dead_runs`, reports a run whose process was killed.
EXITED = "Process exited with status code: "
KILLED = (*(f"{EXITED}{-number}." for number in (SIGKILL, SIGSEGV, SIGABRT, SIGBUS)), GONE, SILENT)
RESTARTED = "Its process was killed; it is started again, once, and goes on from what it left."


def main(answer: Path, prefect_file: Path, health_urls: list[str]) -> None:
    """answer: receives the lines to print and MLflow's experiment as JSON. health_urls: of the servers to wait for."""
    from flows.server import prefect_private
    from flows.tracking.connection import experiment_id  # while the servers start

    deployments = prefect_private.check(prefect_file)
    for url in health_urls:  # `gpt up` ends this process if a server does not start
        while not is_healthy(url):
            time.sleep(0.3)
    create_pool()
    prefect_private.deploy(prefect_file)
    create_automations()
    lines = [f"deployments    {len(deployments)} of {prefect_file.name}", *crash_dead_runs()]
    answer.write_text(json.dumps({"lines": lines, "experiment": experiment_id()}))


def create_pool() -> None:
    """Create the work pool and its queues where they are missing."""
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
        for queue in QUEUES:
            with suppress(ObjectAlreadyExists):
                client.create_work_queue(queue, work_pool_name=POOL)


def create_automations(
    compare_after: timedelta = timedelta(minutes=10), restart_after: timedelta = timedelta(minutes=1)
) -> None:
    """Create the GPU limit and the automations where they are missing.

    compare_after: a comparison starts this long after a training, and covers all trainings that end meanwhile.
    """
    import torch

    with get_client(sync_client=True) as client:
        with suppress(ObjectAlreadyExists):
            slots = max(1, torch.cuda.device_count())
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU, limit=slots))
        try:
            compare = client.read_deployment_by_name("compare/all").id
        except ObjectNotFound:
            raise UserError("compare/all is not deployed: prefect --no-prompt deploy --all") from None
        for automation in (compare_after_training(compare, compare_after), restart_crashed_runs(restart_after)):
            if not client.read_automations_by_name(automation.name):
                client.create_automation(automation)


def compare_after_training(deployment, after: timedelta) -> AutomationCore:
    """Fires at the first training that completes, and not again until its comparison starts: at most one waits."""
    return AutomationCore(
        name="compare after training",
        description="A new model is compared with the others. A training that is Unchanged made none.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Completed"},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": "train"},
            within=after,
        ),
        actions=[RunDeployment(deployment_id=deployment, schedule_after=after)],
    )


def restart_crashed_runs(after: timedelta) -> AutomationCore:
    """Fires after the first crash of a run: by a kill, not by a person or `gpt down`, whose message is another. The run goes on
    from what its process left. A second crash of the same run is left alone, and so is a run of no deployment.

    after: by then a worker has reported the crash twice, as it does; the second report would crash the new process's run.
    """
    flows = ["train", "prepare", "compare", "reproduce", "maintain"]
    return AutomationCore(
        name="restart crashed runs",
        description="A run whose process was killed starts again, once.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.Crashed"},
            expect={"prefect.flow-run.Running"},
            for_each={"prefect.resource.id"},
            within=after,
            match={
                "prefect.resource.id": "prefect.flow-run.*",
                "prefect.run-count": ["0", "1"],
                "prefect.state-message": [f"{message}*" for message in KILLED],
            },
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": flows},
        ),
        actions=[ChangeFlowRunState(state=StateType.SCHEDULED, name="Restarted", message=RESTARTED)],
    )


def notify_on_failure(address: str) -> None:
    """From now on, post the name and the message of every run that fails, crashes or finds damage to a web address as JSON,
    {"text": ...}, instead of to any earlier one; an empty address ends it. Prefect's database stores the address."""
    with get_client(sync_client=True) as client:
        for known in client.read_automations_by_name(NOTIFY):
            client.delete_automation(known.id)
        if not address:
            return
        block = CustomWebhookNotificationBlock(
            name="failures", url=address, json_data={"text": "{{subject}}: {{body}}"}
        )
        message = SendNotification(
            block_document_id=block.save("gpt-failures", overwrite=True),
            subject="{{ flow.name }}/{{ flow_run.name }} {{ flow_run.state.name }}",
            body="{{ flow_run.state.message }} {{ flow_run|ui_url }}",
        )
        failures = {f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "Damaged")}
        client.create_automation(AutomationCore(name=NOTIFY, trigger=EventTrigger(expect=failures), actions=[message]))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
