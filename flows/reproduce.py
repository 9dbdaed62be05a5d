"""The flow that makes a run again from its record, in a home of its own, and says what matches.

    prefect deployment run reproduce/run -p run_id=RUN
    gpt reproduce RUN                                     # the same flow, here and now

Before anything is built, `run_record` compares the record with what is here. Afterwards stages are compared by digest, weights
by sha256, losses step by step. On the same kind of CPU all of them are equal; on a GPU, whose sums have no fixed order, or on
another machine, the held-out loss is to keep within `flows.models.run_record`'s TOLERANCE.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # a worker loads this file by its path

from flows import home as environment  # noqa: E402

environment.prepare()

import mlflow  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from prefect import flow  # noqa: E402
from prefect.artifacts import create_markdown_artifact  # noqa: E402
from prefect.states import Failed  # noqa: E402

from flows import UserError  # noqa: E402
from flows.models.run_record import Plan, plan, read  # noqa: E402
from flows.progress import say  # noqa: E402
from flows.server import dead_runs  # noqa: E402
from flows.stages.definitions import STAGES  # noqa: E402
from flows.store.artifacts import read_manifest  # noqa: E402
from flows.store.locks import in_use, lock  # noqa: E402
from flows.tracking import run as tracking  # noqa: E402
from flows.train import pipeline  # noqa: E402

WEIGHTS = "model/model.safetensors"
NOTE = "reproduction.json"  # in the home of a reproduction: whose it is, and the verdict when there is one
COMPARED = ("train/loss", "val/loss")


@flow(name="reproduce", flow_run_name="{run_id}", persist_result=False, on_running=[dead_runs.hold])
def reproduce(
    run_id: str,
    home: str | None = None,
    anyway: bool = False,
) -> dict:
    """Make a run again from its record, and log to MLflow what matches. Returns the verdict; one that differs as a failure.

    Args:
        run_id: MLflow's id of a finished training, or a model such as gpt-wiki@champion
        home: folder to build in, instead of one below the home
        anyway: go on if something that matters differs from the record
    """
    made = plan(read(run_id))
    for line in made.lines():
        say(line)
    made.refuse(anyway)
    original, run = environment.home(), made.record.run_id
    with in_use(environment.shared_home()), lock(original, f"reproduce-{run}", say):
        folder = _fresh(Path(home).expanduser().resolve() if home else None, original / "reproductions" / run, run)
        say(f"it is made again in {folder}")
        with _living_in(folder):
            summary = pipeline(made.recipe, reproduces=run)
        verdict = compare(made, summary, folder)
        (folder / NOTE).write_text(json.dumps(verdict, indent=1) + "\n")
        _tell(verdict)
    return verdict if verdict["verdict"] != "differs" else Failed(message=verdict["says"], data=verdict)


def compare(made: Plan, summary: dict, home: Path) -> dict:
    """What matches, as JSON: stages by digest, weights by sha256, losses by step."""
    old, new = made.record.manifests, {}
    for stage, artifact in summary["stages"].items():
        new[stage] = read_manifest(home / "artifacts" / summary["corpus"] / stage / artifact["key"])
    pairs = {stage: (old[stage]["digest"], new[stage]["digest"]) for stage in STAGES}
    pairs["weights"] = tuple(manifests["train"]["files"][WEIGHTS]["sha256"] for manifests in (old, new))
    stages = [{"stage": name, "recorded": a, "reproduced": b, "equal": a == b} for name, (a, b) in pairs.items()]
    log = home / "artifacts" / summary["corpus"] / "train" / new["train"]["key"] / "log" / "metrics.jsonl"
    metrics = [_first_difference(made.record.run_id, name, log) for name in COMPARED]
    equal = {row["stage"]: row["equal"] for row in stages}
    # With minutes the artifact also says how its steps were asked for, so what was learned is what counts.
    if all(same for name, same in equal.items() if name != "train") and all(row["first"] is None for row in metrics):
        verdict = "identical"
    elif made.tolerance and all(equal[stage] for stage in ("download", "clean", "tokenize", "pack")):
        near = metrics[-1]["steps"] and metrics[-1]["largest_relative"] <= made.tolerance
        verdict = "within tolerance" if near else "differs"
    else:
        verdict = "differs"
    return {
        "verdict": verdict,
        "says": _says(verdict, made.tolerance, stages, metrics),
        "run": made.record.run_id,
        "reproduced_run": summary["mlflow_run"],
        "corpus": summary["corpus"],
        "home": str(home),
        "differences": [asdict(difference) for difference in made.differences],
        "stages": stages,
        "metrics": metrics,
    }


def _says(verdict: str, tolerance: float, stages: list[dict], metrics: list[dict]) -> str:
    """The verdict in a sentence."""
    if verdict == "identical":
        steps, evaluations = (row["steps"] for row in metrics)
        return f"identical: every stage, the weights, the losses of {steps} logged steps and {evaluations} evaluations"
    parts = [f"{row['stage']} is the first that differs" for row in stages if not row["equal"]][:1]
    parts += [
        f"{row['metric']} first differs at step {row['first']} ({row['recorded']:.6g}, now {row['reproduced']:.6g}: "
        f"{row['by']:+.2g}), by {row['largest_relative']:.2%} at most"
        for row in metrics
        if row["first"] is not None
    ]
    limit = f" ({tolerance:.0%} of val/loss is tolerated)" if tolerance else ""
    return f"{verdict}{limit}: " + "; ".join(parts)


def _first_difference(run_id: str, name: str, log: Path) -> dict:
    """Where a metric of the run and of the reproduction (its artifact's own log) part, and by how much."""
    with tracking.answering():
        history = mlflow.MlflowClient().get_metric_history(run_id, name)
    old = {metric.step: metric.value for metric in history}
    rows = map(json.loads, log.read_text().splitlines())
    new = {row["step"]: row[name] for row in rows if name in row}
    steps = sorted(old.keys() & new.keys())
    apart = [step for step in steps if old[step] != new[step]]
    first = apart[0] if apart else None
    return {
        "metric": name,
        "steps": len(steps),
        "first": first,
        "recorded": old.get(first),
        "reproduced": new.get(first),
        "by": new[first] - old[first] if apart else 0.0,
        "largest_relative": max(
            (abs(new[step] - old[step]) / max(abs(old[step]), 1e-9) for step in apart), default=0.0
        ),
    }


def _fresh(asked: Path | None, usual: Path, run: str) -> Path:
    """A folder that holds nothing, or what an interrupted reproduction of the same run left."""
    for number in range(1, 1000):
        folder = asked or usual.with_name(usual.name + (f"-{number}" if number > 1 else ""))
        note = folder / NOTE
        if not folder.is_dir() or not any(folder.iterdir()):
            break
        if note.is_file() and json.loads(note.read_text()) == {"run": run}:
            say("going on with the reproduction that was interrupted")
            break
        if asked:
            raise UserError(f"--home {asked} is not empty; name a new folder, so that nothing is reused")
    with _living_in(folder):
        environment.home()  # made, and found to be writable
    note.write_text(json.dumps({"run": run}))
    return folder


@contextmanager
def _living_in(folder: Path) -> Iterator[None]:
    """Everything this process makes goes to `folder`; MLflow and Prefect stay where they are, as `prepare` has set them."""
    names = ("GPT_HOME", "GPT_SHARED_HOME")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(folder)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _tell(verdict: dict) -> None:
    """Log the verdict to the reproduced run, and show it on the Prefect page."""
    client, run_id = mlflow.MlflowClient(), verdict["reproduced_run"]
    text = markdown(verdict)
    try:
        client.set_tag(run_id, "verdict", verdict["verdict"])
        client.log_dict(run_id, verdict, "reproduction.json")
        client.log_text(run_id, text, "reproduction.md")
    except (MlflowException, OSError) as error:
        say(f"MLflow did not take the verdict: {str(error)[:200]}; it is in {verdict['home']}/{NOTE}")
    with suppress(Exception):
        create_markdown_artifact(text, key=f"reproduction-{verdict['corpus']}", description=verdict["verdict"])


def markdown(verdict: dict) -> str:
    """The verdict as a page."""
    lines = [f"# {verdict['says']}", "", f"run {verdict['run']}, made again as {verdict['reproduced_run']}", ""]
    for name in ("stages", "metrics", "differences"):
        if rows := verdict[name]:
            lines += [f"## {name}", "", f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
            lines += [f"| {' | '.join(str(value).replace('|', '/') for value in row.values())} |" for row in rows] + [
                ""
            ]
    return "\n".join(lines)
