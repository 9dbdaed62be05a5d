"""Cleaning spread over processes, by Prefect and by Dask: the bytes, the errors and the task runs that come out of it."""

import importlib.util
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from flows.recipe import Workers
from flows.stages.workers import SETTINGS, spread
from tests.conftest import ROOT, environment
from tests.data_contracts.clean.test_clean import SCRIPT, clean_all, contents, some_of_each_kind

# Cleans a folder of raw files, then one with a bad row, with the same workers, and prints what was raised as JSON.
PROGRAM = """
import json, os, sys
from pathlib import Path
from prefect import flow
from data_contracts import clean
from data_contracts.rules import Rules
from flows.recipe import Workers
from flows.stages.workers import SETTINGS, spread
from tests.data_contracts.clean.test_clean import clean_all

@flow(name="fan-out")
def spread_out(folder: Path, count: int, dask: str):
    with spread(Workers(count=count, dask=dask)) as fan_out:
        clean_all(folder / "good", folder / "out", fan_out=fan_out)
        assert list(fan_out(abs, [-3, -1, -2])) == [3, 1, 2]
        clean.SHARD_BYTES = 1
        clean.clean_corpus("rick-and-morty", folder / "bad", folder / "failed", Rules(), fan_out=fan_out)

if __name__ == "__main__":
    try:
        spread_out(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    except Exception as error:
        left = [name for name, value in SETTINGS.items() if os.environ.get(name) == value]
        raised = {"kind": type(error).__name__, "message": str(error), "left": left}
        print(json.dumps(raised))
"""


def of_each_kind(folder: Path) -> Path:
    (folder / "good").mkdir()
    for name, content in some_of_each_kind().items():
        (folder / "good" / name).write_text(content)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, prefect_server):
    """run(count, dask) -> the folder, and what was raised about its bad row."""
    home = tmp_path_factory.mktemp("program")
    (home / "program.py").write_text(PROGRAM)
    more = environment(home / "home", PREFECT_API_URL=prefect_server, PYTHONPATH=str(ROOT))

    def run(count: int, dask: str = "") -> tuple[Path, dict]:
        folder = of_each_kind(tmp_path_factory.mktemp("spread"))
        (folder / "bad").mkdir()
        for name, season in (("a", 1), ("b", "one"), ("c", 1)):
            text = f"{SCRIPT}0,1,1,Pilot,Rick,x\n1,{season},1,Pilot,Rick,y\n"
            (folder / "bad" / f"{name}.csv").write_text(text)
        command = [sys.executable, str(home / "program.py"), str(folder), str(count), dask]
        ended = subprocess.run(command, cwd=home, env=more, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr
        return folder, json.loads(ended.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, bytes]:
    """What this process makes of it by itself."""
    folder = of_each_kind(tmp_path_factory.mktemp("alone"))
    clean_all(folder / "good", folder / "out")
    return contents(folder / "out")


def task_runs(server: str) -> dict[str, int]:
    """How many finished task runs there are of each name."""
    request = urllib.request.Request(
        f"{server}/task_runs/filter",
        json.dumps({"flows": {"name": {"any_": ["fan-out"]}}, "limit": 200}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = [row["name"].rsplit("-", 1)[0] for row in json.load(answer) if row["state"]["type"] == "COMPLETED"]
    return {name: found.count(name) for name in found}


def assert_as_it_was_raised(raised: dict) -> None:
    assert raised["kind"] == "DataError"
    assert raised["message"].startswith("raw rows of rick-and-morty breaks its contract: season no.: ")
    assert raised["message"].endswith("\n  b.csv row 1  season no. = 'one'")
    assert raised["left"] == []  # of what the workers inherited


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one_and_say_what_is_wrong(run, alone, prefect_server):
    before = task_runs(prefect_server)
    folder, raised = run(2)
    assert contents(folder / "out") == alone
    assert_as_it_was_raised(raised)
    assert [path.name for path in (folder / "failed").iterdir()] == ["work"]
    after = task_runs(prefect_server)
    assert after["clean-shard"] - before.get("clean-shard", 0) >= 6  # every shard is a task run that can be seen
    assert after["finish-shard"] - before.get("finish-shard", 0) == 6


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("prefect_dask") is None, reason="the extra `dask` is not installed")
def test_dask_gives_the_bytes_of_one_process_and_says_what_is_wrong(run, alone):
    folder, raised = run(2, "local")
    assert contents(folder / "out") == alone
    assert_as_it_was_raised(raised)


KILLED = """
import os, signal, sys
from prefect import flow
from flows import UserError
from flows.recipe import Workers
from flows.stages.workers import spread

@flow
def killed():
    with spread(Workers(count=2)) as over:
        list(over(lambda shard: os.kill(os.getpid(), signal.SIGKILL) if shard else None, [0, 1, 0]))

if __name__ == "__main__":
    try:
        killed()
    except UserError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_worker_that_is_killed_is_told_in_a_line(tmp_path, prefect_server):
    (tmp_path / "killed.py").write_text(KILLED)
    more = environment(tmp_path / "home", PREFECT_API_URL=prefect_server, PYTHONPATH=str(ROOT))
    command = [sys.executable, str(tmp_path / "killed.py")]
    ended = subprocess.run(command, cwd=tmp_path, env=more, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    [line] = ended.stdout.splitlines()
    assert line.startswith("one of 2 workers was killed")
    assert "workers.count" in line


def test_one_worker_or_one_shard_stays_in_this_process():
    with spread(Workers(count=1)) as over:
        assert list(over(lambda shard: (shard, os.getpid()), [3, 1, 2])) == [(n, os.getpid()) for n in (3, 1, 2)]
    with spread(Workers(count=8)) as over:
        assert list(over(lambda shard: os.getpid(), ["one"])) == [os.getpid()]
        assert list(over(lambda shard: os.getpid(), [])) == []
    assert not {name for name, value in SETTINGS.items() if os.environ.get(name) == value}
