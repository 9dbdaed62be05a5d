"""What is told before Prefect, MLflow or torch are loaded, or a server starts: about sources, columns and addresses."""

import socket
import subprocess
import sys

import pytest

from tests.conftest import ROOT, environment
from tests.flows.cli.test_lazy import PROGRAM

LOADED = {"prefect", "mlflow", "torch", "pandera"}
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def refused(home, *arguments: str, **more: str) -> str:
    """The message of a command that is refused with nothing loaded and nothing started."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env=environment(home, **more),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2, result.stderr
    message, _, loaded = result.stderr.partition("loaded:")
    assert not LOADED.intersection(loaded.split())
    assert not (home / "prefect").exists()
    message = message[message.index("error: ") :]
    assert len(message.splitlines()) <= 2, message
    return message


@pytest.mark.parametrize(
    ("name", "content", "settings", "words"),
    [
        ("a.png", PNG, [], "a.png"),
        ("a.txt", PNG, [], "a.txt is a PNG image"),
        ("a.txt", b"text", ["--set", "options.encoding=rot13"], "'rot13' is no encoding of text"),
        ("a.txt", b"", [], "a.txt is empty"),
        ("a.csv", b"id,rating\n1,2\n", [], "which column holds the text?"),
        ("a.csv", b"id,text\n1,2\n", ["--set", "options.text_column=body"], "a.csv has no column 'body'"),
        ("a.csv", b"id,text\n1,2\n", ["--set", "options.colum=body"], "takes no option colum"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n' + b'{"text": "b"}\n' * 99, [], "a.jsonl line 2"),
        ("a.parquet", b"PAR1 but cut", [], "a.parquet cannot be read"),
    ],
)
def test_a_source_that_cannot_be_used(home, tmp_path, name, content, settings, words):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / name).write_bytes(content)
    assert words in refused(home, "clean", "--from", str(tmp_path / "raw"), "--name", "mine", *settings)


def test_too_little_text_to_learn_from(home, tmp_path):
    (tmp_path / "a.txt").write_text("text\n" * 300)
    said = refused(home, "train", "--from", str(tmp_path / "a.txt"), "--name", "mine")
    assert "mine has 1,500 bytes, too few to learn from: bring 2,000 characters or more" in said


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"MLFLOW_TRACKING_URI": "./mlruns"}, "MLFLOW_TRACKING_URI './mlruns' cannot be used"),
        ({"MLFLOW_TRACKING_URI": "databricks"}, "MLFLOW_TRACKING_URI 'databricks' cannot be used"),
        ({"MLFLOW_TRACKING_URI": "azureml://bob:hidden@x/y"}, "azureml://x/y"),
        ({"MLFLOW_TRACKING_URI": "http://bob:hidden@127.0.0.1:PORT"}, "MLflow does not answer at http://127.0.0.1"),
        ({"PREFECT_API_URL": "http://bob:hidden@127.0.0.1:PORT/api"}, "Prefect does not answer at http://127.0.0.1"),
        (
            {"PREFECT_API_URL": "http://bob:hidden@127.0.0.1:port/api"},
            "Prefect does not answer at http://127.0.0.1:port/api: Port",
        ),
        ({"PREFECT_API_URL": "127.0.0.1:4200"}, "Prefect does not answer at 127.0.0.1:4200: it is no address"),
        ({"SSL_CERT_FILE": "/no/such/file"}, "cannot be used"),
        ({"ALL_PROXY": "socks9://127.0.0.1:1"}, "cannot be used: Unknown scheme"),
    ],
)
def test_an_address_that_cannot_work(home, variables, words):
    port = str(closed_port())
    message = refused(
        home, "clean", "python-docs", **{name: value.replace("PORT", port) for name, value in variables.items()}
    )
    assert words in message
    assert "hidden" not in message
    if "MLFLOW_TRACKING_URI" in variables and "PORT" not in variables["MLFLOW_TRACKING_URI"]:
        assert words in refused(home, "runs", **variables)
