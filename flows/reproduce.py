"""The flow `reproduce`: makes a run again from its record, in a home of its own, and says what is equal.

    prefect deployment run reproduce/run -p run_id=RUN
    gpt reproduce RUN                                     # the same flow, here and now

On the same kind of CPU all stages, weights and losses are equal. On a GPU, whose sums have no fixed order, or on another
machine, the held-out loss has to be within run_record's TOLERANCE.
"""

import json
import sys
from contextlib import AbstractContextManager
from itertools import chain, count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a worker loads this file by its path

import flows.environment  # sets the defaults that Prefect and MLflow read when they are imported

# isort: split

import mlflow
from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.states import Failed, State

import flows.home
from flows import UserError
from flows.evaluation.scoring import WEIGHTS
from flows.home import shared_home
from flows.models.run_record import Plan, plan, read
from flows.pages.render import render_text
from flows.progress import left_out_if_it_fails, log_line
from flows.server import dead_runs
from flows.stages.definitions import STAGES
from flows.store.artifacts import MANIFEST
from flows.store.locks import in_use, lock
from flows.tracking.connection import answering
from flows.tracking.spool import SPOOL, spool
from flows.train import pipeline

NOTE = "reproduction.json"  # in the home of a reproduction: which run it is of, and the verdict once there is one
METRICS = ("train/loss", "val/loss")


@flow(name="reproduce", flow_run_name="{run_id}", persist_result=False, on_running=[dead_runs.hold_lock])
def reproduce(run_id: str, home: str | None = None, anyway: bool = False) -> dict | State:
    """Make a run again from its record, and log to MLflow what is equal. Returns the verdict; a failure if it differs.

    Args:
        run_id: MLflow's id of a finished training, or a model such as gpt-wiki@champion
        home: folder to build in, instead of one below the home
        anyway: go on if something that matters differs from the record
    """
    planned = plan(read(run_id))
    original, run = flows.home.home(), planned.record.run_id
    for line in planned.matters:
        log_line(f"! {line}")
    if planned.matters and not anyway:
        commit = planned.record.tags.get("git.commit", "")[:12] or "(unknown)"
        what = f"run {run} may not come out as it did, at commit {commit}: see the lines with ! above"
        raise UserError(f"{what}\n--anyway (of the flow: anyway=true) goes on all the same")
    with in_use(shared_home(), log_line), lock(original, f"reproduce-{run}", log_line):
        folder = _new_home(Path(home).expanduser().resolve() if home else None, original / "reproductions" / run, run)
        log_line(f"it is made again in {folder}")
        with _home_at(folder):
            summary = pipeline(planned.recipe, reproduces=run)
        verdict = compare(planned, summary, folder)
        (folder / NOTE).write_text(json.dumps(verdict, indent=1) + "\n")
        _publish(verdict)
    return verdict if verdict["verdict"] != "differs" else Failed(message=verdict["says"], data=verdict)


def compare(planned: Plan, summary: dict, home: Path) -> dict:
    """What is equal, as JSON: stages by digest, weights by sha256, losses by step."""
    record, made = planned.record, summary["stages"]
    folder = home / "artifacts" / summary["corpus"] / "train" / made["train"]["key"]
    pairs = [(stage, record.manifests[stage]["digest"], made[stage]["digest"]) for stage in STAGES]
    trained = record.manifests["train"], json.loads((folder / MANIFEST).read_text())
    pairs.append(("weights", *(manifest["files"][WEIGHTS]["sha256"] for manifest in trained)))
    stages = [{"stage": name, "recorded": a, "reproduced": b, "equal": a == b} for name, a, b in pairs]
    log = [json.loads(line) for line in (folder / "log" / "metrics.jsonl").read_text().splitlines()]
    metrics = [_compare_metric(record.run_id, name, log) for name in METRICS]
    # The digest of `train` does not count: an older version may have kept other files beside the weights.
    different = [row["stage"] for row in stages if not row["equal"] and row["stage"] != "train"]
    parts = [f"{different[0]} is the first that differs"] if different else []
    parts += [row["says"] for row in metrics if row["first"] is not None]
    near = metrics[-1]["steps"] and metrics[-1]["largest_relative"] <= planned.tolerance
    if not parts:
        verdict, parts = "identical", ["every stage, the weights, the losses of all logged steps and evaluations"]
    else:
        verdict = "within tolerance" if planned.tolerance and near and different in ([], ["weights"]) else "differs"
    limit = f" ({planned.tolerance:.0%} of val/loss is tolerated)" if planned.tolerance else ""
    return {
        "verdict": verdict,
        "says": f"{verdict}{limit}: {'; '.join(parts)}",
        "run": record.run_id,
        "reproduced_run": summary["mlflow_run"],
        "corpus": summary["corpus"],
        "home": str(home),
        "differences": planned.matters,
        "stages": stages,
        "metrics": metrics,
    }


def _compare_metric(run_id: str, name: str, log: list[dict]) -> dict:
    """The first step at which a metric of the run differs from the reproduction's log, and by how much it differs there."""
    with answering():
        history = mlflow.MlflowClient().get_metric_history(run_id, name)
    old = {metric.step: metric.value for metric in history}
    new = {row["step"]: row[name] for row in log if name in row}
    steps = sorted(old.keys() & new.keys())
    most = max((abs(new[step] - old[step]) / max(abs(old[step]), 1e-9) for step in steps), default=0.0)
    row: dict = {"metric": name, "steps": len(steps), "largest_relative": most}
    row |= dict.fromkeys(("first", "recorded", "reproduced", "by", "says"))
    if apart := [step for step in steps if old[step] != new[step]]:
        a, b = old[apart[0]], new[apart[0]]
        says = f"{name} first differs at step {apart[0]} ({a:.6g}, now {b:.6g}: {b - a:+.2g}), by {most:.2%} at most"
        row |= {"first": apart[0], "recorded": a, "reproduced": b, "by": b - a, "says": says}
    return row


def _new_home(asked: Path | None, usual: Path, run: str) -> Path:
    """A folder that is empty, or that holds an interrupted reproduction of the same run."""
    numbered = (usual.with_name(f"{usual.name}-{number}") for number in count(2))
    for folder in [asked] if asked else chain([usual], numbered):
        note = folder / NOTE
        interrupted = note.is_file() and json.loads(note.read_text()) == {"run": run}
        if interrupted or not folder.is_dir() or not any(folder.iterdir()):
            with _home_at(folder):
                flows.home.home()  # made, and found to be writable
            note.write_text(json.dumps({"run": run}))
            return folder
    raise UserError(f"--home {asked} is not empty; name a new folder, so that nothing is reused")


def _home_at(folder: Path) -> AbstractContextManager[None]:
    """Within the block this process writes to `folder`; MLflow and Prefect stay where `flows.environment` has set them, and
    what waits for MLflow is in the home, where later runs find it."""
    return flows.home.variables({"GPT_HOME": str(folder), "GPT_SHARED_HOME": str(folder), SPOOL: str(spool())})


def _publish(verdict: dict) -> None:
    """Log the verdict to the reproduced run, and show it on the Prefect page."""
    client, run_id = mlflow.MlflowClient(), verdict["reproduced_run"]
    page = render_text("reproduction.md", verdict=verdict)
    with left_out_if_it_fails("part of the verdict in MLflow"):  # it is in the new home, too
        client.set_tag(run_id, "verdict", verdict["verdict"])
        client.log_dict(run_id, verdict, "reproduction.json")
        client.log_text(run_id, page, "reproduction.md")
    with left_out_if_it_fails("the page in Prefect"):
        create_markdown_artifact(page, key=f"reproduction-{verdict['corpus']}", description=verdict["verdict"])
