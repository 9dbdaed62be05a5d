"""What the Prefect server has to know beside the deployments: how many trainings at once, and what follows from what.

`arrange` makes what is missing and leaves alone what is there: limits and automations may be changed in Prefect's pages.
"""

from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import StateType
from prefect.events import AutomationCore
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from flows import UserError
from flows.home import GPU
from flows.server import dead_runs

COMPARE = "compare after training"
SILENCE = "crash silent runs"


def arrange(after: timedelta = timedelta(minutes=10), silence: timedelta = timedelta(minutes=5)) -> list[str]:
    """Arrange the server at PREFECT_API_URL, with everything deployed on it. Returns a line for each thing made.

    after: a comparison starts so long after a training, for all that end meanwhile. silence: a run without heartbeat for so
    long is crashed; prefect.yaml has the heart beat every 30 s, Prefect's shortest.
    """
    made = []
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(GPU)
        except ObjectNotFound:
            slots = gpus()
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU, limit=slots))
            made.append(f"limit {GPU}: {slots} at a time (prefect gcl update {GPU} --limit N)")
        try:
            compare = client.read_deployment_by_name("compare/all").id
        except ObjectNotFound:
            raise UserError("compare/all is not deployed: prefect --no-prompt deploy --all") from None
        made += _make(
            client,
            AutomationCore(
                name=COMPARE,
                description="A new model is compared with the others. One that is Unchanged is none.",
                # Fires at the first training that ends, and not again until its comparison starts: at most one waits.
                trigger=EventTrigger(
                    expect={"prefect.flow-run.Completed"},
                    match_related={"prefect.resource.role": "flow", "prefect.resource.name": "train"},
                    within=after,
                ),
                actions=[RunDeployment(deployment_id=compare, schedule_after=after)],
            ),
        )
        made += _make(
            client,
            AutomationCore(
                name=SILENCE,
                description="A run whose heart has stopped is dead: its worker was killed with it.",
                trigger=EventTrigger(
                    posture=Posture.Proactive,
                    after={
                        "prefect.flow-run.Pending",
                        "prefect.flow-run.Submitting",
                        "prefect.flow-run.heartbeat",
                    },
                    expect={"prefect.flow-run.*"},
                    match={"prefect.resource.id": "prefect.flow-run.*"},
                    for_each={"prefect.resource.id"},
                    within=silence,
                ),
                actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"No heartbeat for {silence}.")],
            ),
        )
    return made + dead_runs.bury()


def gpus() -> int:
    """Trainings that may run at once: one a GPU of this machine, and one where there is none."""
    import torch

    return max(1, torch.cuda.device_count())


def _make(client: SyncPrefectClient, automation: AutomationCore) -> list[str]:
    """Create the automation; one that is there keeps what was changed of it, but not a deployment that is gone."""
    if not (known := client.read_automations_by_name(automation.name)):
        client.create_automation(automation)
        return [f"automation {automation.name!r}"]
    before, now = (getattr(one.actions[0], "deployment_id", None) for one in (known[0], automation))
    if before != now:
        changed = known[0].model_copy(update={"actions": automation.actions})
        client.update_automation(changed.id, AutomationCore(**changed.model_dump(exclude={"id"})))
        return [f"automation {automation.name!r}: {now} instead of {before}"]
    return []
