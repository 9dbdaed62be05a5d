"""The process that makes the first stages before Prefect is loaded: the flow takes its artifacts, its errors, or the rest."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment

PROGRAM = """
import json, sys, time
from pathlib import Path
from contextlib import nullcontext
from dataclasses import replace
from flows.home import home
from flows.recipe import load_recipe
from flows.stages import early
from flows.stages.definitions import STAGES, Job, build

def clean(job):
    import data_contracts.clean
    data_contracts.clean.SHARD_BYTES = 1  # a shard a file
    return original(job)

original, STAGES["clean"] = STAGES["clean"].make, replace(STAGES["clean"], make=clean)
when, folder, said = sys.argv[1], sys.argv[2], []
recipe = load_recipe("mine", source=folder)
early.begin(recipe, "", ("download", "clean"))
assert "polars" not in sys.modules, "a fork after that is not safe"
if when == "in the middle":
    while not list(home().glob("artifacts/mine/clean/.building-*/work/*.json")):
        time.sleep(0.001)
elif when == "in the beginning":
    while not list(home().glob("artifacts/mine/clean/.building-*")):
        time.sleep(0.001)
else:
    while not list(home().glob("artifacts/mine/clean/[!.]*")):
        time.sleep(0.01)
made = {}
for name in ("download", "clean"):
    artifact = early.take(name, recipe, lambda *report: said.append(report))
    spread = lambda workers: nullcontext(map)
    begun = len(list(home().glob("artifacts/mine/clean/.building-*/work/*.json")))
    def make(parameters, folder):
        return STAGES[name].make(Job(recipe, parameters, made, folder, lambda *_: None, None, None, spread))
    made[name] = artifact or build(name, recipe, {key: made[key] for key in STAGES[name].inputs}, False, make)
    print(json.dumps([name, artifact is not None, begun, made[name].digest, made[name].reused]))
"""


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("texts") / "texts"
    folder.mkdir()
    for i in range(80):
        (folder / f"{i:02}.txt").write_text(f"the miller counts his {i} sacks of barley while it rains\n" * (i + 3))
    return folder


def made(home: Path, when: str, texts: Path) -> dict[str, list]:
    """By stage: whether it was made early, the shards that lay there when the flow took over, its digest, whether reused."""
    command = [sys.executable, "-c", PROGRAM, when, str(texts)]
    done = subprocess.run(command, cwd=ROOT, env=environment(home), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}


def test_the_flow_takes_over_in_the_middle_and_the_bytes_are_the_same(tmp_path, texts):
    whole, cut = (made(tmp_path / when, when, texts) for when in ("at the end", "in the middle"))
    assert whole["clean"][0]
    assert not cut["clean"][0]
    assert 0 < cut["clean"][1] < 80
    assert [whole[stage][2] for stage in whole] == [cut[stage][2] for stage in cut]
    assert not any(stages[stage][3] for stages in (whole, cut) for stage in stages)  # nobody calls them reused
    again = made(tmp_path / "at the end", "at the end", texts)
    assert [again[stage][3] for stage in again] == [True, True]


def test_what_cannot_be_made_is_raised_where_the_flow_takes_it(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_bytes(b"caf\xe9 au lait")
    command = [sys.executable, "-c", PROGRAM, "in the beginning", str(tmp_path / "texts")]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path / "home"), capture_output=True, text=True)
    assert "in take" in done.stderr
    assert "data_contracts.DataError" in done.stderr
    assert "a.txt" in done.stderr
