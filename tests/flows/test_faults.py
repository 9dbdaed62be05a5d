"""Killed, stopped and interrupted in every stage: a rerun ends with the bytes of an undisturbed run."""

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, environment, gpt
from tests.flows.conftest import settings
from tests.flows.test_command import STAGES, digests

pytestmark = pytest.mark.slow
# python-docs takes long enough in every stage to be caught in it; the checkpoints lie close, so a resumed run has several.
SETTINGS = {
    "tokenizer.vocab_size": 1024,
    "pack.block_size": 64,
    "model.n_layer": 2,
    "model.n_embd": 64,
    "model.dropout": 0.1,
    "train.steps": 120,
    "train.eval_every": 60,
    "train.checkpoint_every": 20,
    "sample.max_tokens": 10,
    "runtime.threads": 1,
}
TRAIN = ("train", "python-docs", *settings(SETTINGS))


def statuses(home: Path) -> list[str]:
    """Of the runs in MLflow, oldest first."""
    with sqlite3.connect(home / "mlflow.db") as database:
        return [status for (status,) in database.execute("select status from runs order by start_time")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, prefect_server) -> dict[str, str]:
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    result = gpt(home, *TRAIN, PREFECT_API_URL=prefect_server)
    assert result.returncode == 0, result.stderr
    return digests(home)


def run_until(home: Path, server: str, stage: str, sent: signal.Signals) -> int:
    """Start the flow, send the signal while `stage` is being built, and return the exit code."""
    command = [sys.executable, "-m", "flows.cli", *TRAIN]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(home, PREFECT_API_URL=server),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    folder = home / "artifacts" / "python-docs" / stage
    until = time.monotonic() + 120
    while not list(folder.glob(".building-*")) or (
        stage == "train" and not list(folder.glob(".building-*/state/step-*"))
    ):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < until
        time.sleep(0.001)
    process.send_signal(sent)
    code = process.wait(60)
    assert not list(folder.glob("[!.]*")), f"{stage} was finished before the signal came"
    return code


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_in_every_stage(tmp_path, prefect_server, undisturbed, sent):
    home = tmp_path / "home"
    expected = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}[sent]
    assert [run_until(home, prefect_server, stage, sent) for stage in STAGES] == [expected] * len(STAGES)
    result = gpt(home, *TRAIN, PREFECT_API_URL=prefect_server)
    assert result.returncode == 0, result.stderr
    assert digests(home) == undisturbed
    assert statuses(home) == ["FINISHED"]  # all of them continued the one MLflow run
    with sqlite3.connect(home / "mlflow.db") as database:
        counted = "select count(*), count(distinct step), max(step) from metrics where key = "
        assert database.execute(counted + "'train/loss'").fetchone() == (13, 13, 120)
        assert database.execute(counted + "'val/bpb'").fetchone() == (2, 2, 120)
        ((doubled,),) = database.execute("select count(*) - count(distinct key || ' ' || step) from metrics")
        assert doubled == 0


def test_a_killed_run_leaves_no_server_behind_for_long(tmp_path):
    """Without a server of one's own, Prefect starts a temporary one; the next run ends it."""

    def servers() -> list[int]:
        return [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if any("prefect.server.api" in word for word in process.info["cmdline"] or ())
            and process.environ().get("GPT_OWNER_HOME") == str(tmp_path / "home")
        ]

    command = [sys.executable, "-m", "flows.cli", *TRAIN]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(tmp_path / "home"), stderr=subprocess.DEVNULL)
    until = time.monotonic() + 100
    while not list(tmp_path.glob("home/artifacts/*/*/.building-*")):
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert len(servers()) == 1
    assert gpt(tmp_path / "home", *TRAIN, "--steps", "2").returncode == 0
    assert servers() == []
    assert statuses(tmp_path / "home") == ["KILLED", "FINISHED"]  # another recipe's run did not continue it


def test_two_fresh_homes_give_the_same_digests(tmp_path, prefect_server, undisturbed):
    """Also with the hash seed and the working directory of another process."""
    result = gpt(tmp_path / "home", *TRAIN, PREFECT_API_URL=prefect_server, PYTHONHASHSEED="7")
    assert result.returncode == 0, result.stderr
    assert digests(tmp_path / "home") == undisturbed
