"""The flow `reproduce`: makes a run again from its record, in a home of its own, and says what is equal.

On the same kind of CPU all stages and weights are equal. On a GPU, whose sums have no fixed order, or on another machine, the
held-out loss has to be within run_record's TOLERANCE.
"""

import json
from pathlib import Path

import flows.tracking.environment  # noqa: F401 (sets the defaults that Prefect and MLflow read when imported)

import mlflow
from prefect import flow
from prefect.states import Failed, State

from flows import UserError
from flows.evaluation.scoring import WEIGHTS
from flows.home import home, shared_home, variables
from flows.models.run_record import Plan, plan, read
from flows.pages.render import render_text
from flows.progress import left_out_if_it_fails, log_line, show_page
from flows.server import dead_runs
from flows.stages.definitions import STAGES
from flows.store.artifacts import MANIFEST
from flows.store.locks import in_use, lock
from flows.train import pipeline

SHARED = "GPT_SHARED_HOME"  # has the artifacts; what waits for MLflow is in the home itself, where later runs find it
NOTE = "reproduction.json"  # in the home of a reproduction that ended: the verdict


@flow(name="reproduce", flow_run_name="{run_id}", persist_result=False, on_running=[dead_runs.hold_lock])
def reproduce(run_id: str, anyway: bool = False) -> dict | State:
    """Make a run again from its record, and log to MLflow what is equal. Returns the verdict; a failure if it differs.

    Args:
        run_id: MLflow's id of a finished training, or a model such as gpt-wiki@champion
        anyway: go on if something that matters differs from the record
    """
    planned = plan(read(run_id))
    original, run = home(), planned.record.run_id
    for line in planned.matters:
        log_line(f"! {line}")
    if planned.matters and not anyway:
        commit = planned.record.tags.get("git.commit", "")[:12] or "(unknown)"
        what = f"run {run} may not come out as it did, at commit {commit}: see the lines with ! above"
        raise UserError(f"{what}\n--anyway (of the flow: anyway=true) goes on all the same")
    with in_use(), lock(original, f"reproduce-{run}"):
        folder = _new_home(original / "reproductions" / run)
        log_line(f"it is made again in {folder}")
        with variables({SHARED: str(folder)}):
            summary = pipeline(planned.recipe, reproduces=run)
        verdict = compare(planned, summary, folder)
        (folder / NOTE).write_text(json.dumps(verdict, indent=1) + "\n")
        _publish(verdict)
    return verdict if verdict["verdict"] != "differs" else Failed(message=verdict["says"], data=verdict)


def compare(planned: Plan, summary: dict, folder: Path) -> dict:
    """What is equal, as JSON: stages by digest, weights by sha256, and the held-out loss."""
    record, made = planned.record, summary["stages"]
    decoder = folder / "artifacts" / summary["corpus"] / "train" / made["train"]["key"]
    pairs = [(stage, record.manifests[stage]["digest"], made[stage]["digest"]) for stage in STAGES]
    trained = record.manifests["train"], json.loads((decoder / MANIFEST).read_text())
    pairs.append(("weights", *(manifest["files"][WEIGHTS]["sha256"] for manifest in trained)))
    stages = [{"stage": name, "recorded": a, "reproduced": b, "equal": a == b} for name, a, b in pairs]
    # The digest of `train` does not count: an older version may have kept other files beside the weights.
    different = [row["stage"] for row in stages if not row["equal"] and row["stage"] != "train"]
    before, now = (manifest["counts"]["val_loss"] for manifest in trained)
    apart = abs(now / before - 1)
    limit = f", {planned.tolerance:.0%} is tolerated" if planned.tolerance else ""
    if different:
        near = planned.tolerance and apart <= planned.tolerance
        verdict = "within tolerance" if near and different == ["weights"] else "differs"
        losses = f"held-out loss {before:.6g}, now {now:.6g} ({apart:.2%} apart{limit})"
        says = f"{verdict}: {different[0]} is the first that differs; {losses}"
    else:
        verdict, says = "identical", "identical: every stage, and the weights"
    return {
        "verdict": verdict,
        "says": says,
        "run": record.run_id,
        "reproduced_run": summary["mlflow_run"],
        "corpus": summary["corpus"],
        "home": str(folder),
        "differences": planned.matters,
        "stages": stages,
        "val_loss": {"recorded": before, "reproduced": now},
    }


def _new_home(usual: Path) -> Path:
    """A folder of this name, or with a number after it, that is new, or was left without a verdict."""
    folder, number = usual, 2
    while (folder / NOTE).is_file():
        folder, number = usual.with_name(f"{usual.name}-{number}"), number + 1
    with variables({SHARED: str(folder)}):
        return shared_home()  # made, and found to be writable


def _publish(verdict: dict) -> None:
    """Log the verdict to the reproduced run, and show it on the Prefect page."""
    client, run_id = mlflow.MlflowClient(), verdict["reproduced_run"]
    page = render_text("reproduction.md", facts=verdict)
    with left_out_if_it_fails("part of the verdict in MLflow"):  # it is in the new home, too
        client.set_tag(run_id, "verdict", verdict["verdict"])
        client.log_dict(run_id, verdict, "reproduction.json")
        client.log_text(run_id, page, "reproduction.md")
    show_page(page, f"reproduction-{verdict['corpus']}")
