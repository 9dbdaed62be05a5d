"""`gpt up` as its user meets it: with a password and open to other machines, killed, in a terminal, and refusing."""

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, environment, gpt
from tests.flows.conftest import free_port
from tests.flows.server.test_bootstrap import HEAD
from tests.flows.server.test_deployments import SMALL
from tests.flows.workshop import PATIENCE, until

pytestmark = pytest.mark.slow
USER, PASSWORD = "gpt", "Open-Sesame-4711"
SECRET = {"PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{PASSWORD}"}
FOR_LONG = ("-p", "steps=1000000", "-p", f"overrides={json.dumps(SMALL | {'train.eval_every': 500})}")


def alive(home: Path) -> list[str]:
    """The processes that know this home, and their commands."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("GPT_HOME") == str(home):
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
    return found


def prefect(api: str, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    folder = Path(more.pop("folder"))
    command = [sys.executable, "-m", "prefect", *arguments]
    variables = environment(folder, PREFECT_HOME=str(folder / "prefect"), PREFECT_API_URL=api, **more)
    variables.pop("GPT_HOME")  # of a second terminal, whose processes are none of `gpt up`
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=600)


def ask(url: str, password: str = "", method: str = "POST", **body: object) -> tuple[int, dict]:
    """Status and answer."""
    headers = {"Content-Type": "application/json"}
    if password:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)

    def answered() -> tuple[int, dict] | None:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return None if error.code == 503 else (error.code, {})  # 503: its database is locked at the moment

    return until(answered, url)


def search(ports: tuple[str, ...]) -> str:
    return f"http://127.0.0.1:{ports[3]}/api/2.0/mlflow/runs/search"


def building(home: Path) -> list[Path]:
    """What a stopped training goes on from."""
    return sorted(home.glob("artifacts/python-docs/train/.building-*/state/step-*/state.json"))


def assert_told(home: Path, *states: str) -> None:
    """The states of the trainings that were asked for, oldest first; the stopped one went on in its own MLflow run."""
    with contextlib.closing(sqlite3.connect(f"file:{home}/prefect/prefect.db?mode=ro", uri=True)) as database:
        asked = "select state_type from flow_run join flow on flow.id = flow_id where flow.name = 'train'"
        found = database.execute(f"{asked} and not auto_scheduled order by flow_run.created")
        assert [row[0] for row in found] == [*states]
    assert [run["status"] for run in json.loads(gpt(home, "runs", "--json").stdout)] == ["killed", "finished"]


def assert_no_other_page_may_ask(ports: tuple[str, ...]) -> None:
    """What a browser sends for a page of another site, and for a name of another site that was made to mean this machine."""
    for port, path in ((ports[1], "/api/flows/filter"), (ports[3], "/api/2.0/mlflow/runs/search")):
        own, foreign = f"127.0.0.1:{port}", "evil.example"

        def ask_as(method: str, port: str = port, path: str = path, **headers: str) -> tuple[int, str]:
            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
            with contextlib.closing(connection):
                connection.request(method, path, "{}", {"Content-Type": "application/json", **headers})
                answer = connection.getresponse()
                return answer.status, answer.getheader("access-control-allow-origin", "")

        assert ask_as("POST", Host=own)[0] in (200, 400)  # 400: MLflow misses the experiment in it
        assert ask_as("POST", Host=own, Origin=f"http://{own}")[0] in (200, 400)
        for method in ("POST", "OPTIONS"):
            for headers in ({"Host": foreign}, {"Host": own, "Origin": f"http://{foreign}"}):
                more = {"Access-Control-Request-Method": "POST"} if method == "OPTIONS" else {}
                status, allowed = ask_as(method, **headers, **more)
                assert status >= 400 or (method == "OPTIONS" and not allowed), (path, method, headers)
                assert allowed in ("", f"http://{own}"), (path, method, headers)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def home(folder) -> Iterator[Path]:
    """One for all tests here, in their order: databases are made once."""
    yield folder / "home"
    assert gpt(folder / "home", "down").returncode == 0
    assert alive(folder / "home") == []


@pytest.fixture(scope="module")
def ports() -> tuple[str, ...]:
    return ("--port", str(free_port()), "--mlflow-port", str(free_port()), "--serve-port", str(free_port()))


@pytest.fixture(scope="module")
def guarded(home, ports) -> dict:
    """A `gpt up --detach` that other machines may reach, with a password: what it wrote and said."""
    up = gpt(home, "up", "--detach", "--host", "0.0.0.0", *ports, **SECRET)
    assert up.returncode == 0, up.stderr
    return json.loads((home / "up.json").read_text()) | {"said": up.stdout}


def test_both_servers_ask_for_the_password(guarded, ports):
    for url, body in ((f"{guarded['api']}/flows/filter", {}), (search(ports), {"experiment_ids": ["1"]})):
        for address in (url, url.replace("127.0.0.1", socket.gethostname())):
            assert ask(address, **body)[0] == 401
            assert ask(address, "not-" + PASSWORD, **body)[0] == 401
            assert ask(address, PASSWORD, **body)[0] == 200


def test_the_playground_asks_for_the_password_and_takes_it_as_a_key(guarded, ports):
    port = int(ports[5])
    assert f"playground     http://{socket.gethostname()}:{port}/" in guarded["said"]
    for headers, status in (({}, 401), ({"Authorization": f"Bearer {PASSWORD}"}, 200)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/v1/models", headers=headers)
            answer = connection.getresponse()
            assert (answer.status, "data" in json.load(answer)) == (status, status == 200)


def test_a_run_goes_through_the_password(guarded, home, folder):
    given = {"PREFECT_API_AUTH_STRING": SECRET["PREFECT_SERVER_API_AUTH_STRING"], "folder": folder / "terminal"}
    command = ("deployment", "run", "train/python-docs", "--watch")
    settings = ("-p", "steps=10", "-p", f"overrides={json.dumps(SMALL)}")
    done = prefect(guarded["api"], *command, *settings, **given)
    assert done.returncode == 0, done.stdout + done.stderr
    status = gpt(home, "status", "--json", **SECRET)
    assert status.returncode == 0, status.stdout + status.stderr
    shown = json.loads(status.stdout)
    assert {row["service"]: row["state"] for row in shown["services"]} == dict.fromkeys(
        ["prefect", "mlflow", "playground", "worker"], "up"
    )

    def comparisons() -> dict:  # an automation asks the server from within
        return ask(f"{guarded['api']}/flow_runs/filter", PASSWORD, flows={"name": {"any_": ["compare"]}})[1]

    until(comparisons, "the comparison after the training")
    assert json.loads(gpt(home, "runs", "--json").stdout)[0]["status"] == "finished"


def test_a_second_one_says_that_it_is_up(guarded, home, ports):
    again = gpt(home, "up", *ports)
    assert again.returncode == 0, again.stderr
    assert "is up already" in again.stdout
    assert guarded["prefect"] in again.stdout
    assert json.loads((home / "up.json").read_text())["pid"] == guarded["pid"]


def test_the_password_stands_nowhere(guarded, home):
    lines = alive(home)
    assert len(lines) >= 5  # itself, three servers, a worker
    assert PASSWORD not in "\n".join(lines) + guarded["said"]
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {"mlflow.db", "prefect.db", "worker.log"} <= {path.name for path in files}
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []


def test_what_dies_is_told_and_started_again(guarded, home, ports):
    before = psutil.Process(guarded["services"]["mlflow"]["pid"])
    children = before.children(recursive=True)  # they keep the port, were they left
    before.kill()

    def again() -> bool:
        now = json.loads((home / "up.json").read_text())["services"]["mlflow"]
        if now["pid"] == before.pid or any(child.is_running() for child in children):
            return False
        with contextlib.suppress(OSError):
            return ask(search(ports), PASSWORD, experiment_ids=["1"])[0] == 200
        return False

    until(again, "MLflow")
    assert "mlflow ended with code -9; restarting it" in (home / "logs" / "up.log").read_text()


def test_down_ends_what_a_killed_one_left_and_the_training_keeps_its_state(guarded, home, folder):
    given = {"PREFECT_API_AUTH_STRING": SECRET["PREFECT_SERVER_API_AUTH_STRING"], "folder": folder / "terminal"}
    started = prefect(guarded["api"], "deployment", "run", "train/python-docs", *FOR_LONG, **given)
    assert started.returncode == 0, started.stdout + started.stderr
    until(lambda: building(home), "a checkpoint")
    os.kill(guarded["pid"], signal.SIGKILL)
    until(
        lambda: not psutil.pid_exists(guarded["pid"]) or psutil.Process(guarded["pid"]).status() == "zombie", "its end"
    )
    assert len(alive(home)) >= 5
    shown = gpt(home, "status", **SECRET)
    assert shown.returncode == 1
    assert "gpt down ends what is left" in shown.stdout

    down = gpt(home, "down")
    assert down.returncode == 0, down.stderr
    assert re.search(r"ended \d+ processes that an earlier gpt up left", down.stdout)
    assert alive(home) == []
    assert building(home)
    assert_told(home, "COMPLETED", "CRASHED")
    nothing = gpt(home, "status")
    assert (nothing.returncode, nothing.stdout.strip()) == (1, "nothing is up; gpt up starts it")


def test_ctrl_c_ends_all_and_the_training_keeps_its_state(guarded, home, ports, folder):
    """On the same home and ports, without a password; a run that had to wait is still there after the next start."""
    log = folder / "terminal.log"
    with log.open("w") as out:
        up = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "up", *ports], cwd=ROOT, env=environment(home), stdout=out, stderr=out
        )
    try:
        until(lambda: up.poll() is not None or "gpt down stops it" in log.read_text(), "gpt up")
        assert up.poll() is None, log.read_text()
        api = json.loads((home / "up.json").read_text())["api"]
        assert_no_other_page_may_ask(ports)
        cleaned = gpt(home, "clean", "python-docs")  # a second terminal needs no export
        assert cleaned.returncode == 0, cleaned.stderr
        assert f"Prefect at {api})" in cleaned.stderr
        assert f"export PREFECT_API_URL={api}" in gpt(home, "status").stdout

        def ask_for_one() -> None:
            started = prefect(api, "deployment", "run", "train/python-docs", *FOR_LONG, folder=folder / "terminal")
            assert started.returncode == 0, started.stdout + started.stderr

        before = building(home)
        ask_for_one()
        until(lambda: set(building(home)) - set(before), "a later checkpoint")
        ask_for_one()  # only now: of two that were asked for at once, the worker begins with either

        def waits() -> dict:
            state = {"state": {"name": {"any_": ["AwaitingConcurrencySlot"]}}}
            return ask(f"{api}/flow_runs/filter", flow_runs=state)[1]

        assert len(until(waits, "the second run")) == 1
        up.send_signal(signal.SIGINT)
        assert up.wait(PATIENCE) == 0, log.read_text()
    finally:
        if up.poll() is None:
            up.kill()
    assert "everything is down" in log.read_text()
    assert alive(home) == []
    assert building(home)
    assert_told(home, "COMPLETED", "CRASHED", "CRASHED", "SCHEDULED")


def test_stopped_while_it_starts_it_leaves_nothing(tmp_path):
    home = tmp_path / "home"
    command = [sys.executable, "-m", "flows.cli", "up", "--port", str(free_port()), "--mlflow-port", str(free_port())]
    command += ["--serve-port", str(free_port())]
    up = subprocess.Popen(command, cwd=ROOT, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until(lambda: (home / "logs" / "set-up.log").exists() or up.poll() is not None, "the set-up")
    down = gpt(home, "down")
    assert down.returncode == 0, down.stderr
    assert up.wait(PATIENCE) == 0, up.stdout.read()
    assert alive(home) == []


def test_a_port_in_use_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        refused = gpt(tmp_path, "up", "--port", str(taken))
        assert_refused(
            refused, f"prefect cannot listen on 127.0.0.1 port {taken}: Address already in use", f"--port {taken + 1}"
        )
        free = ("up", "--port", str(free_port()), "--mlflow-port")
        refused = gpt(tmp_path, *free, str(free_port()), "--serve-port", str(taken))
        assert_refused(refused, f"playground cannot listen on 127.0.0.1 port {taken}", f"--serve-port {taken + 1}")
        refused = gpt(tmp_path, *free, str(taken))
        assert_refused(refused, f"mlflow cannot listen on 127.0.0.1 port {taken}", f"--mlflow-port {taken + 1}")
        assert_refused(gpt(tmp_path, "ui", "--port", str(taken)), f"port {taken}", "--port")
    assert_refused(gpt(tmp_path, "up", "--port", "4999", "--mlflow-port", "4999"), "port 4999")
    assert_refused(gpt(tmp_path, "up", "--mlflow-port", "4998", "--serve-port", "4998"), "cannot share port 4998")


def test_a_wide_door_takes_a_good_password(tmp_path):
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        assert_refused(gpt(tmp_path, "up", "--host", host), f"--host {host}", "export PREFECT_SERVER_API_AUTH_STRING=")
    for weak in ("gpt:short", "longenoughbutnouser", ":" + PASSWORD):
        refused = gpt(tmp_path, "up", PREFECT_SERVER_API_AUTH_STRING=weak)
        assert_refused(refused, "user:password", "12 characters")
        assert weak not in refused.stderr


def test_a_database_that_is_away_or_damaged_is_told(tmp_path):
    ports = ("--port", str(free_port()), "--mlflow-port", str(free_port()), "--serve-port", str(free_port()))
    away = f"postgresql+asyncpg://me:{PASSWORD}@127.0.0.1:{free_port()}/prefect"
    refused = gpt(tmp_path / "away", "up", *ports, PREFECT_API_DATABASE_CONNECTION_URL=away)
    assert_refused(
        refused, "prefect ended", "Connect call failed", away.rpartition(":")[2].split("/")[0], "prefect.log"
    )
    assert PASSWORD not in refused.stderr
    assert alive(tmp_path / "away") == []

    home = tmp_path / "damaged"
    (home / "prefect").mkdir(parents=True)
    (home / "prefect" / "prefect.db").write_bytes(bytes(range(256)) * 100)
    assert_refused(gpt(home, "up", "--detach", *ports), "prefect ended", "file is not a database", "prefect.log")
    assert alive(home) == []


def test_a_wrong_prefect_yaml_is_told_and_nothing_stays_up(tmp_path):
    file = tmp_path / "mine.yaml"
    ports = ("--port", str(free_port()), "--mlflow-port", str(free_port()), "--serve-port", str(free_port()))
    file.write_text(HEAD + "  parametrs: {}\n")
    refused = gpt(tmp_path / "home", "up", *ports, "--prefect-file", str(file))
    assert_refused(refused, "mine.yaml, deployments.0.parametrs: Extra inputs are not permitted")
    assert alive(tmp_path / "home") == []


def test_ui_leaves_no_child(tmp_path, empty_mlflow):
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    shutil.copy(empty_mlflow, home)
    command = [sys.executable, "-m", "flows.cli", "ui", "--port", str(port)]
    page = subprocess.Popen(command, cwd=ROOT, env=environment(home), stdout=subprocess.PIPE, text=True)
    assert f":{port}/#/experiments" in page.stdout.readline()
    until(lambda: alive(home) or page.poll() is not None, "the server")
    page.terminate()
    assert page.wait(PATIENCE) == -signal.SIGTERM
    assert alive(home) == []


def assert_refused(result: subprocess.CompletedProcess, *words: str) -> None:
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    message = result.stderr[result.stderr.index("error:") :]
    assert len(message.strip().splitlines()) <= 2, message
    for word in words:
        assert word in message
