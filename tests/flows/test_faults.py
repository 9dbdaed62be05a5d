"""Killed, stopped, cut off and damaged: what ends well, or a rerun ends with the bytes of an undisturbed run.

MLflow that is gone: test_outbox.py. A full disk: test_command.py.
"""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.server import dead_runs
from flows.server.bootstrap import AUTOMATIONS, create_automations
from tests.conftest import ROOT, environment, gpt, spelled
from tests.data_contracts.stub_server import Reply, Stub
from tests.flows.cli.test_command import STAGES, digests
from tests.flows.conftest import settings
from tests.flows.workshop import SETTINGS, TRAIN, Workshop, command_lines, until

pytestmark = pytest.mark.slow
injections: dict[str, list[int]] = {}


def statuses(home: Path) -> list[str]:
    """Of the runs in MLflow, oldest first."""
    with sqlite3.connect(home / "mlflow.db") as database:
        return [status for (status,) in database.execute("select status from runs order by start_time")]


@contextmanager
def injected(fault: str, times: int = 1) -> Iterator[None]:
    """For the table: faults injected, and survived if nothing is raised."""
    counts = injections.setdefault(fault, [0, 0])
    counts[0] += times
    yield
    counts[1] += times


@pytest.fixture(scope="module", autouse=True)
def table(request) -> Iterator[None]:
    yield
    rows = [
        f"{fault:<48} {times:>8} {survived:>8} {times - survived:>6}" for fault, (times, survived) in injections.items()
    ]
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("", f"{'fault':<48} {'injected':>8} {'survived':>8} {'lost':>6}", *rows, sep="\n")


@pytest.fixture(scope="module")
def shop(tmp_path_factory, empty_prefect):
    shop = Workshop(tmp_path_factory.mktemp("server"), empty_prefect)
    try:
        yield shop
    finally:
        shop.close()


@pytest.fixture(scope="module")
def undisturbed_home(tmp_path_factory, shop) -> Path:
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    result = gpt(home, *TRAIN, PREFECT_API_URL=shop.api)
    assert result.returncode == 0, result.stderr
    return home


@pytest.fixture(scope="module")
def undisturbed(undisturbed_home) -> dict[str, str]:
    return digests(undisturbed_home)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Where much happens."""
    return tmp_path_factory.mktemp("disturbed") / "home"


@pytest.fixture
def here(shop, home, monkeypatch):
    """This process takes part in the workshop: its functions can be called."""
    monkeypatch.setenv("GPT_HOME", str(home))
    with temporary_settings({PREFECT_API_URL: shop.api}):
        yield


def until_in(home: Path, stage: str, going_on=lambda: True) -> None:
    """Until a run that was just started is in the middle of a stage; of a training, until it has saved a state of its own."""
    inside = ".building-*/state/step-*" if stage == "train" else ".building-*"
    folder = home / "artifacts" / "python-docs" / stage
    before = set(folder.glob(inside))

    def there() -> set[Path]:
        assert going_on(), f"it ended before it was in {stage}"
        return set(folder.glob(inside)) - before

    until(there, f"in the middle of {stage}", every=0.002)


def unfinished(home: Path, stage: str) -> bool:
    return not list((home / "artifacts" / "python-docs" / stage).glob("[!.]*"))


def forget(shop: Workshop) -> None:
    """The automations."""
    for automation in shop.ask("automations/filter", {}):
        shop.ask(f"automations/{automation['id']}", method="DELETE")


def states(shop: Workshop, run: str) -> list[str]:
    """The names of all states of a flow run, oldest first."""
    found = shop.ask(f"flow_run_states/?flow_run_id={run}")
    return [state["name"] for state in sorted(found, key=lambda state: state["timestamp"])]


def start(home: Path, api: str, *more: str) -> subprocess.Popen:
    command, env = [sys.executable, "-m", "flows.cli", *TRAIN, *more], environment(home, PREFECT_API_URL=api)
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_worker_killed_with_its_run_in_every_stage_then_either_alone(shop, home, undisturbed, here):
    with injected("worker and flow run killed, once in each stage", 5):
        for stage in STAGES:
            worker = shop.start_worker(home)
            run = shop.run("train/python-docs", overrides=SETTINGS)
            until_in(home, stage)
            shop.kill(worker)
            assert unfinished(home, stage)
            assert shop.ask(f"flow_runs/{run}")["state"]["name"] == "Running"
            seen: dict = {}
            while "Crashed" not in states(shop, run):
                seen = dead_runs.look(shop.api, seen)
            assert shop.wait(run, "Crashed")["state"]["message"] == "Its process is gone."

    worker = shop.start_worker(home)
    create_automations(AUTOMATIONS.read_text().replace("within: 60\n", "within: 45\n"))
    shop.ask("v2/concurrency_limits/gpu", method="DELETE")  # a killed training has its slot for a minute
    with injected("flow run killed, its worker not, twice: it is started again once", 2):
        run = shop.run("train/python-docs", overrides=SETTINGS)
        for killed in (1, 2):
            until_in(home, "train")
            for child in worker.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            assert unfinished(home, "train")
            until(lambda killed=killed: states(shop, run).count("Crashed") == killed, "the worker tells")
        time.sleep(60)  # the first time, it took less until it was started again
        assert [name for name in states(shop, run) if name in ("Crashed", "Restarted")] == [
            "Crashed",
            "Restarted",
            "Crashed",
        ]
    forget(shop)
    with injected("worker killed, its flow run not"):
        run = shop.run("train/python-docs", overrides=SETTINGS)
        until_in(home, "train")
        worker.kill()
        shop.wait(run, "Crashed")  # Prefect ends what its worker has left behind
        worker = shop.start_worker(home)
        shop.wait(shop.run("train/python-docs", overrides=SETTINGS), "Completed")

    shop.kill(worker)
    assert digests(home) == undisturbed
    assert statuses(home) == ["FINISHED"]  # all of them continued the one MLflow run
    with sqlite3.connect(home / "mlflow.db") as database:
        counted = "select count(*), count(distinct step), max(step) from metrics where key = "
        assert database.execute(counted + "'train/loss'").fetchone() == (37, 37, 360)
        assert database.execute(counted + "'val/bpb'").fetchone() == (2, 2, 360)
        doubled = "select count(*) - count(distinct key || ' ' || step) from metrics where key not like 'system/%'"
        assert database.execute(doubled).fetchone() == (0,)


def test_the_server_is_started_again_in_the_middle_of_a_training(shop, home, undisturbed, here):
    create_automations()  # with a limit, whose slot the training holds
    forget(shop)  # no comparison, please
    worker = shop.start_worker(home)
    with injected("Prefect's server killed and started again"):
        run = shop.run("train/python-docs", overrides=SETTINGS, force="train")
        until_in(home, "train")
        assert shop.ask("v2/concurrency_limits/gpu")["active_slots"] == 1
        shop.kill(psutil.Process(shop.server.pid))
        shop.server.wait()
        shop.start_server()
        shop.wait(run, "Completed")
        assert digests(home) == undisturbed
        until(lambda: shop.ask("v2/concurrency_limits/gpu")["active_slots"] == 0, "the slot comes back")
    shop.kill(worker)


def test_damage_in_every_stage_is_found_and_mended(shop, home, undisturbed):
    worker = shop.start_worker(home)
    with injected("a flipped byte in an artifact of each stage", 5):
        shop.wait(shop.run("train/python-docs", overrides=SETTINGS), "Completed", "Unchanged")
        for folder in home.glob("artifacts/python-docs/*/[!.]*"):
            largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
            content = bytearray(largest.read_bytes())
            content[len(content) // 2] ^= 1
            largest.write_bytes(content)
        run = shop.run("train/python-docs", overrides=SETTINGS)
        shop.wait(run, "Completed")
        assert shop.tasks(run) == dict.fromkeys(STAGES, "Completed")
        assert digests(home) == undisturbed
        assert gpt(home, "verify").returncode == 0
    shop.kill(worker)


def test_two_workers_and_the_same_corpus_at_once(shop, tmp_path, undisturbed):
    workers = [shop.start_worker(tmp_path / "home", "--limit", "1") for _ in range(2)]
    with injected("two workers, the same corpus at the same time"):
        runs = [shop.run("prepare/corpus", corpus="python-docs", overrides=SETTINGS),
                shop.run("train/python-docs", overrides=SETTINGS)]  # fmt: skip
        for run in runs:
            shop.wait(run, "Completed")
        prepared, trained = map(shop.tasks, runs)
        assert [sorted((prepared[s], trained[s])) for s in STAGES[:4]] == [["Completed", "Reused"]] * 4
        assert digests(tmp_path / "home") == undisturbed
    for worker in workers:
        shop.kill(worker)


def test_one_of_two_processes_killed(shop, tmp_path, undisturbed_home):
    home, two = tmp_path / "home", settings({"runtime.parallel": "ddp", "runtime.processes": 2})
    for stage in STAGES[:4]:
        shutil.copytree(*(one / "artifacts" / "python-docs" / stage for one in (undisturbed_home, home)))
    training = start(home, shop.api, *two)
    with injected("kill -9 of one of two processes of a training"):
        until_in(home, "train", lambda: training.poll() is None)
        commands = command_lines(psutil.Process(training.pid).children())
        ranks = [psutil.Process(pid) for pid, command in commands.items() if "gpt.trainer" in command]
        assert len(ranks) == 1  # the training itself is the first of the two
        ranks[0].kill()
        assert training.wait(300) not in (0, None)
        assert not psutil.wait_procs(ranks, timeout=60)[1]
        result = gpt(home, *TRAIN, *two, PREFECT_API_URL=shop.api)
        assert result.returncode == 0, result.stderr
        (manifest,) = home.glob("artifacts/python-docs/train/[!.]*/manifest.json")
        assert '"resumed_from": 0' not in manifest.read_text()
        assert statuses(home) == ["FINISHED"]


def test_the_network_goes_away_in_a_download(shop, tmp_path):
    text = "".join(f"MIRANDA:\nO brave new world, number {spelled(i)}.\n\n" for i in range(9000)).encode()
    home, ranges = tmp_path / "home", {"Accept-Ranges": "bytes"}

    def command(stub: Stub) -> list[str]:
        where = {"source.url": f"{stub.url}/input.txt", "source.sha256": sha256(text).hexdigest()}
        return [sys.executable, "-m", "flows.cli", "clean", "shakespeare", *settings(where)]

    env = environment(home, PREFECT_API_URL=shop.api)
    with injected("the network gone in a download"):
        with Stub() as stub:
            stub.files["/input.txt"] = [Reply(body=text, headers=ranges, cut=200_000, stall=True)]
            cut = subprocess.Popen(command(stub), cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
            until(lambda: [p for p in home.rglob("*") if p.name.startswith("input.txt") and p.stat().st_size],
                  "some of it is here")  # fmt: skip
        errors = cut.communicate(timeout=300)[1]
        assert cut.returncode == 2, errors
        assert "cannot download" in errors
        with Stub() as stub:
            stub.files["/input.txt"] = [Reply(body=text, headers=ranges)]
            again = subprocess.run(command(stub), cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
            assert again.returncode == 0, again.stderr
            assert stub.requests[0].startswith("GET /input.txt bytes=")  # it went on where it was


def test_stopped_in_every_stage(shop, tmp_path, undisturbed):
    """By Ctrl-C and by SIGTERM in turn, and in the training by both."""
    home, signals = tmp_path / "home", [signal.SIGINT, signal.SIGTERM]
    with injected("Ctrl-C and SIGTERM, in each stage", 6):
        for number, stage in enumerate([*STAGES, "train"]):
            process, sent = start(home, shop.api), signals[number % 2]
            until_in(home, stage, lambda process=process: process.poll() is None)
            process.send_signal(sent)
            assert process.wait(120) == 128 + sent
            assert unfinished(home, stage), f"{stage} was finished before the signal came"
        result = gpt(home, *TRAIN, PREFECT_API_URL=shop.api)
        assert result.returncode == 0, result.stderr
        assert digests(home) == undisturbed
        assert statuses(home) == ["FINISHED"]


def test_a_killed_run_leaves_no_process_behind(tmp_path):
    """Without a server of one's own a run has a temporary one, which ends with it."""
    home = tmp_path / "home"

    def living() -> list[int]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("GPT_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    def runs_of_prefect() -> int:
        with suppress(sqlite3.Error), closing(sqlite3.connect(home / "prefect" / "prefect.db")) as database:
            return database.execute("select count(*) from flow_run").fetchone()[0]
        return 0

    def kill_when(done: Callable[[], object], what: str) -> None:
        command = [sys.executable, "-m", "flows.cli", *TRAIN]
        process = subprocess.Popen(command, cwd=ROOT, env=environment(home), stderr=subprocess.DEVNULL)
        until(done, what, every=0.01)
        assert len(living()) > 1
        process.kill()
        process.wait()
        until(lambda: not living(), "what the run has started ends, too")

    with injected("kill -9 without a server, before and after it is up", 2):
        kill_when(lambda: len(living()) > 1, "the temporary server starts")
        assert runs_of_prefect() == 0
        kill_when(runs_of_prefect, "the flow has begun")
        assert gpt(home, *TRAIN, "--steps", "2").returncode == 0
        assert living() == []
        assert statuses(home)[-1:] == ["FINISHED"]  # another recipe's run did not continue it
        assert set(statuses(home)[:-1]) <= {"KILLED"}


def test_two_fresh_homes_give_the_same_digests(tmp_path, shop, undisturbed):
    """Also with the hash seed and the working directory of another process."""
    result = gpt(tmp_path / "home", *TRAIN, PREFECT_API_URL=shop.api, PYTHONHASHSEED="7")
    assert result.returncode == 0, result.stderr
    assert digests(tmp_path / "home") == undisturbed
