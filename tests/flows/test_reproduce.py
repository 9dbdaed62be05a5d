"""A run made again from its record: the same bits, what differs before and after, and records that do not suffice."""

import json
import shutil
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Param

from flows import progress
from flows.recipe import load_recipe, parse_override, recorded_recipe
from gpt.machine.hardware import usable_cores
from tests.conftest import spelled
from tests.flows.cli.test_command import STAGES, assert_refused
from tests.flows.conftest import TINY, gpt_here, own_home


@pytest.fixture(scope="module")
def trained(tmp_path_factory, prefect_server, empty_mlflow):
    """A home with one trained model, which this process takes for its own; the notes that it was trained on lie beside it."""
    folder = tmp_path_factory.mktemp("reproduced")
    home, notes = folder / "home", folder / "notes"
    notes.mkdir()
    for part in range(3):
        lines = [
            f"line {spelled(i)} of part {part}: the mill, the river, the bridge and the rain\n" for i in range(300)
        ]
        (notes / f"part-{part}.txt").write_text("".join(lines))
    with own_home(home, prefect_server, empty_mlflow):
        from flows import train

        settings = dict(parse_override(text) for text in TINY[1::2]) | {"clean.split_chars": 1000}
        train.train("mine", source=str(notes), overrides=settings)
        yield home


@pytest.fixture(scope="module")
def run(trained):
    experiment = mlflow.get_experiment_by_name("gpt")
    (found,) = mlflow.search_runs([experiment.experiment_id], output_format="list")
    return found


def copy_of(run, change: Callable[[dict], None] = lambda files: None, status="FINISHED") -> str:
    """A run with the record of another, after `change` had its files {name: JSON}."""
    client = mlflow.MlflowClient()
    made = client.create_run(run.info.experiment_id, tags=dict(run.data.tags)).info.run_id
    client.log_batch(made, params=[Param(name, value) for name, value in run.data.params.items()])
    wanted = ["recipe.json", *(f"{stage}/manifest.json" for stage in STAGES)]
    files = {name: mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/{name}") for name in wanted}
    change(files)
    for name, values in files.items():
        client.log_dict(made, values, name)
    client.set_terminated(made, status)
    return made


@pytest.fixture(scope="module")
def record(run):
    from flows import reproduce  # which sets the defaults of its home

    return reproduce.read(run.info.run_id)


@pytest.fixture
def logged(monkeypatch, capsys) -> Callable[[], str]:
    """What is shown on the terminal."""
    monkeypatch.setattr(progress, "to_terminal", True)
    return lambda: " ".join(capsys.readouterr().err.split())


def plan_of(record, change: Callable[[dict, dict, dict], None]):
    """The plan for a record after `change(recipe, manifests, machine)`."""
    from flows import reproduce

    record = deepcopy(record)
    change(record.recipe, record.manifests, record.manifests["train"]["counts"]["machine"])
    return reproduce.plan(record)


def test_a_run_records_what_is_needed_to_have_it_again(run):
    load = lambda name: mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/{name}")  # noqa: E731
    recipe, problems = recorded_recipe(load("recipe.json"))
    assert problems == []
    assert recipe.flat() == run.data.params
    tags = run.data.tags
    assert {"git.commit", "git.dirty"} <= tags.keys()
    assert (tags["threads"], tags["device"]) == ("1", load("train/manifest.json")["counts"]["machine"]["cpu"])
    for stage in STAGES:
        manifest = load(f"{stage}/manifest.json")
        assert manifest["digest"] == json.loads(tags["artifacts"])[stage]["digest"]
        assert {"code", "parameters", "packages", "git"} <= manifest.keys()
        assert manifest["packages"]["torch"] == version("torch")


def test_an_address_is_recorded_without_its_secrets(monkeypatch):
    monkeypatch.setenv("MY_URL", "https://me:secret@example.org/input.txt?token=abc")
    values = load_recipe("shakespeare", overrides={"source.url": "${MY_URL}"}).public_values()
    assert values["source"]["url"] == "https://example.org/input.txt"


def test_on_the_same_cpu_the_bits_are_the_same(trained, run):
    result = gpt_here("reproduce", "gpt-mine@champion", "--json")
    assert result.returncode == 0, result.stderr
    verdict = json.loads(result.stdout)
    assert verdict["verdict"] == "identical"
    assert [row["stage"] for row in verdict["stages"]] == [*STAGES, "weights"]
    assert all(row["equal"] for row in verdict["stages"])
    assert verdict["val_loss"]["recorded"] == verdict["val_loss"]["reproduced"] > 0
    folder = trained / "reproductions" / run.info.run_id
    assert verdict["home"] == str(folder)
    assert not list(folder.glob("*.db"))  # it is logged where the run is
    new = mlflow.get_run(verdict["reproduced_run"])
    assert new.info.experiment_id == run.info.experiment_id
    assert new.data.tags["reproduces"] == run.info.run_id
    assert new.data.tags["verdict"] == "identical"
    assert [json.loads(new.data.tags["artifacts"])[stage]["reused"] for stage in STAGES] == [False] * 5
    assert mlflow.artifacts.load_dict(f"runs:/{new.info.run_id}/reproduction.json") == verdict
    assert "identical" in mlflow.artifacts.load_text(f"runs:/{new.info.run_id}/reproduction.md")
    assert len(mlflow.MlflowClient().search_model_versions("name = 'gpt-mine'")) == 1


def test_another_seed_is_reported_before_and_after(run, trained):
    def tamper(files):
        files["recipe.json"]["train"]["seed"] = 2

    tampered = copy_of(run, tamper)
    before = gpt_here("reproduce", tampered)
    assert_refused(before, "--anyway")
    assert "! train: train.seed 1 -> 2" in before.stderr
    result = gpt_here("reproduce", tampered, "--anyway")
    assert result.returncode == 1, result.stderr
    shown = [
        line.split()[::3]
        for line in result.stdout.splitlines()
        if line.split()[:1] and line.split()[-1] in ("yes", "no")
    ]
    assert shown == [[stage, "yes"] for stage in STAGES[:4]] + [["train", "no"], ["weights", "no"]]
    verdict = json.loads((trained / "reproductions" / tampered / "reproduction.json").read_text())
    assert verdict["verdict"] == "differs"
    assert verdict["says"] in " ".join(result.stdout.split())
    assert verdict["val_loss"]["recorded"] != verdict["val_loss"]["reproduced"]
    assert "weights is the first that differs; held-out loss" in verdict["says"]
    assert mlflow.get_run(verdict["reproduced_run"]).data.tags["verdict"] == "differs"


def test_all_that_differs_is_listed_before_it_starts(record):
    cores = usable_cores()

    def change(recipe, manifests, machine):
        recipe["train"] |= {"stepz": 3}
        manifests["clean"]["code"] = "0" * 16
        manifests["tokenize"]["packages"]["sentencepiece"] = "0.1"
        manifests["pack"]["packages"]["sentencepiece"] = "0.1"
        manifests["clean"]["packages"]["torch"] = "1.0"  # decides nothing there
        machine["runtime"]["threads"] = cores + 1
        machine["device_name"] = machine["cpu"] = "Abacus 3000"

    plan = plan_of(record, change)
    lines = plan.matters
    for line in (
        "recipe: train.stepz is not known; did you mean 'train.steps'?; it is left out",
        "clean: code 0000000000000000 -> ",
        "tokenize: sentencepiece 0.1 -> ",
        "pack: sentencepiece 0.1 -> ",
        f"threads {cores + 1} -> {cores}: this machine has no more",
        "device_name Abacus 3000 -> ",
    ):
        assert [one for one in lines if one.startswith(line)], (line, lines)
    assert "torch" not in "".join(lines)
    assert plan.tolerance == 0  # with so much else, the machine explains nothing


def test_a_champion_is_refreshed_without_a_setting_that_is_no_longer_known(trained, run, logged):
    from flows.models.run_record import champion_recipe

    def older(files):
        files["recipe.json"]["train"]["stepz"] = 3

    client, notes = mlflow.MlflowClient(), str(trained.parent / "notes")
    version = client.create_model_version("gpt-mine", notes, copy_of(run, older)).version
    client.set_registered_model_alias("gpt-mine", "champion", version)
    try:
        recipe = champion_recipe(load_recipe("mine", source=notes))
    finally:
        client.set_registered_model_alias("gpt-mine", "champion", "1")
        client.delete_model_version("gpt-mine", version)
    assert recipe.flat() == run.data.params
    assert "recipe of the champion: train.stepz is not known; did you mean 'train.steps'?; it is left out" in logged()


def test_the_record_decides_the_threads(record):
    def change(recipe, manifests, _):
        recipe["runtime"]["threads"] = 0

    plan = plan_of(record, change)
    assert plan.recipe.runtime.threads == 1
    assert plan.tolerance == 0


def test_a_device_that_is_not_here_is_a_difference_that_matters(record):
    def change(recipe, manifests, machine):
        machine |= {"device_name": "another", "dtype": "bfloat16"}
        machine["runtime"]["device"] = "mps" if sys.platform != "darwin" else "cuda"

    plan = plan_of(record, change)
    assert plan.recipe.runtime.device == "cpu"
    assert plan.tolerance == 0.01
    assert {"device_name", "dtype", "device"} <= {line.split()[0] for line in plan.matters}


def test_near_losses_are_enough_only_where_bits_cannot_be_equal(trained, run, record):
    """Compared with the run's own artifacts, as if they were a reproduction's."""
    from flows import reproduce
    from flows.models.run_record import TOLERANCE

    plan = reproduce.plan(record)
    summary = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/summary.json")
    assert reproduce.compare(plan, summary, trained)["verdict"] == "identical"
    for scale, tolerance, verdict in (
        (1.004, TOLERANCE, "within tolerance"),
        (1.004, 0.0, "differs"),
        (1.02, TOLERANCE, "differs"),
    ):
        recorded = deepcopy(record)
        recorded.manifests["train"]["counts"]["val_loss"] *= scale
        recorded.manifests["train"]["files"]["model/model.safetensors"]["sha256"] = "0" * 64
        found = reproduce.compare(replace(plan, record=recorded, tolerance=tolerance), summary, trained)
        assert found["verdict"] == verdict
    assert "(1.96% apart, 1% is tolerated)" in found["says"]
    other = replace(record, manifests=record.manifests | {"clean": record.manifests["clean"] | {"digest": "0" * 64}})
    found = reproduce.compare(replace(plan, record=other, tolerance=TOLERANCE), summary, trained)
    assert found["verdict"] == "differs"
    assert "clean is the first that differs" in found["says"]


def test_data_that_changed_or_are_gone(trained, record, tmp_path, logged):
    """The raw files of the run are read where the home still has them."""
    from flows import UserError, reproduce

    folder, raw = trained.parent / "notes", next(trained.glob("artifacts/mine/download/*/raw"))
    moved, part = folder.rename(tmp_path / "moved"), raw / "part-1.txt"
    kept = part.read_bytes()
    try:
        plan = reproduce.plan(record)
        assert plan.recipe.source.path == str(raw)
        shown = logged()
        assert "does not exist" in shown
        assert "the run's own raw files are still in this home" in shown
        assert plan.tolerance == 0
        part.write_bytes(kept[:-1])  # the home's own copy is damaged, and so no help
        with pytest.raises(UserError, match=r"(?s)the data of run .* cannot be had.*does not exist"):
            reproduce.plan(record)
        shutil.copytree(moved, folder)
        (folder / "part-0.txt").write_text("other lines\n")
        plan = reproduce.plan(record)
        assert [line.split()[:2] for line in plan.matters] == [["data:", "files.part-0.txt"]]
        assert plan.recipe.source.path == str(folder)
    finally:
        part.write_bytes(kept)
        shutil.rmtree(folder, ignore_errors=True)
        moved.rename(folder)


def test_what_cannot_be_reproduced_is_refused(run):
    client, experiment = mlflow.MlflowClient(), run.info.experiment_id
    comparison = client.create_run(experiment, run_name="compare").info.run_id
    client.set_terminated(comparison)

    def older(files):
        del files["recipe.json"]
        del files["train/manifest.json"]["counts"]["machine"]

    def broken(files):
        files["recipe.json"] = {"corpus": "mine"}

    for run_id, *words in (
        ("0" * 32, "0" * 32, "not known to MLflow"),
        ("gpt-mine/7", "gpt-mine/7", "not known"),
        ("gpt-mine@challenger", "gpt-mine@challenger", "not known"),
        ("mine", "'mine' is not known", "run id"),
        (comparison, "(compare) lacks recipe.json", "no training"),
        (copy_of(run, status="FAILED"), "is failed"),
        (copy_of(run, status="RUNNING"), "is running"),
        (copy_of(run, older), "lacks recipe.json: it is", "older version"),
        (copy_of(run, broken), "cannot be used any more", "source is missing"),
    ):
        assert_refused(gpt_here("reproduce", run_id), *words)


def test_a_tracking_server_that_does_not_answer(run, monkeypatch):
    uri = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    try:
        refused = gpt_here("reproduce", run.info.run_id)
        assert_refused(refused, "MLflow does not answer at http://127.0.0.1:9", "MLFLOW_TRACKING_URI")
    finally:
        mlflow.set_tracking_uri(uri)


def test_a_reproduction_begins_in_a_folder_of_its_own(trained, tmp_path):
    from flows import UserError, reproduce

    usual = tmp_path / "reproductions" / "abc"
    assert reproduce._new_home(usual) == usual
    assert reproduce._new_home(usual) == usual  # interrupted, so it goes on
    (usual / reproduce.NOTE).write_text(json.dumps({"run": "abc", "verdict": "identical"}))
    assert reproduce._new_home(usual) == Path(f"{usual}-2")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        reproduce._new_home(tmp_path / "file")
