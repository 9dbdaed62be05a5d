"""Kaggle, end to end against a server that speaks its protocol: kagglehub itself runs, in its own process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import psutil
import pytest

from data_contracts import DataError, kaggle
from data_contracts.cleaning import Rules, clean
from data_contracts.kaggle_child import _harmless
from data_contracts.sources import Source, fetch, resolve
from tests.data_contracts.stub_server import HTML, Dataset, Reply

HANDLE = "andradaolteanu/rickmorty-scripts"
PINNED = Source("kaggle", handle=f"{HANDLE}/versions/3")
HEADER = "index,season no.,episode no.,episode name,name,line\n"
SCRIPT = (HEADER + "".join(f"{i},1,{1 + i // 50},Pilot,Rick,Line {i} of it\n" for i in range(200))).encode()


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def test_rick_and_morty_from_kaggle_to_documents(kaggle_stub, target, shared_data, tmp_path):
    script = shared_data / "kaggle" / HANDLE / "RickAndMortyScripts.csv"
    kaggle_stub.datasets[HANDLE] = Dataset({script.name: script.read_bytes()}, version=3)
    source = Source("kaggle", handle=HANDLE)
    shares = []
    assert resolve(source, "rick-and-morty") == {"handle": HANDLE, "version": 3, "files": []}
    fetch(source, "rick-and-morty", target, shares.append)
    assert [path.name for path in target.iterdir()] == [script.name]
    assert (target / script.name).read_bytes() == script.read_bytes()
    assert shares[-1] == 1.0
    figures = clean("rick-and-morty", target, tmp_path / "out", Rules(split_chars=2000))
    assert (figures["rows"], figures["texts"]) == (1905, 11)
    assert pl.read_parquet(tmp_path / "out" / "documents.parquet").height == figures["documents"]


def test_a_pinned_version_needs_no_network_to_be_named():
    assert resolve(PINNED, "rick-and-morty") == {"handle": HANDLE, "version": 3, "files": []}


def test_some_files_of_a_dataset(kaggle_stub, target):
    kaggle_stub.datasets[HANDLE] = Dataset({"deep/a.csv": SCRIPT, "b.csv": SCRIPT})
    fetch(Source("kaggle", handle=f"{HANDLE}/versions/1", files=("deep/a.csv",)), "rick-and-morty", target)
    assert (target / "deep" / "a.csv").read_bytes() == SCRIPT
    assert [path.name for path in target.iterdir()] == ["deep"]


@pytest.mark.parametrize(
    "bad",
    [
        {"link": [Reply(500), Reply(429)]},
        {"storage": [Reply(body=b"PK" + b"x" * 3_000_000, cut=2_000_000)]},
        {"storage": [Reply(body=b"not what was hashed", headers={"x-goog-hash": "md5=AAAAAAAAAAAAAAAAAAAAAA=="})]},
        {"storage": [Reply(body=b"x" * len(Dataset({"a.csv": SCRIPT}).archive()), headers={"Accept-Ranges": "bytes"})]},
        {"storage": [Reply(body=HTML, headers={"Content-Type": "text/html"})]},
    ],
    ids=["500 then 429", "cut", "wrong hash", "damaged", "HTML"],
)
def test_what_may_pass_is_tried_again(kaggle_stub, target, bad):
    kaggle_stub.datasets[HANDLE] = Dataset({"a.csv": SCRIPT}, version=3, **bad)
    fetch(PINNED, "rick-and-morty", target)
    assert [path.name for path in target.iterdir()] == ["a.csv"]
    assert (target / "a.csv").read_bytes() == SCRIPT


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (None, "Kaggle has no dataset .*404"),
        (Dataset({}, link=[Reply(403)] * 4), "Kaggle refuses .*403.*\n.*KAGGLE_API_TOKEN"),
        (Dataset({}, link=[Reply(401)] * 4), "Kaggle refuses .*401"),
        (Dataset({}, storage=[Reply(503)] * 4), "Kaggle answered 503"),
        (Dataset({"a.csv": b""}), "a.csv from Kaggle's .* is empty"),
        (Dataset({"a.csv": HTML}), "a.csv from Kaggle's .* is an HTML page"),
        (Dataset({"a.zip": b"PK", "readme.md": b"hi"}), r"no \*.csv file among the 2 files: a.zip, readme.md"),
    ],
    ids=["404", "403", "401", "503", "empty", "HTML", "other files"],
)
def test_what_cannot_be_had_is_said(kaggle_stub, target, monkeypatch, dataset, said):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "hush-hush")
    if dataset:
        kaggle_stub.datasets[HANDLE] = dataset
    with pytest.raises(DataError, match=said) as error:
        fetch(PINNED, "rick-and-morty", target)
    assert kaggle_stub.tokens[0] == "Bearer hush-hush"
    assert "hush" not in str(error.value)
    assert "secret" not in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


def test_a_login_page_instead_of_a_version(kaggle_stub):
    kaggle_stub.datasets[HANDLE] = Dataset({}, view=[Reply(body=HTML, headers={"Content-Type": "text/html"})] * 4)
    with pytest.raises(DataError, match="is a web page, not data"):
        resolve(Source("kaggle", handle=HANDLE), "rick-and-morty")


def test_details_of_an_error_show_no_address():
    error = OSError("no room for https://storage/a.zip?X-Goog-Signature=secret in /home/me/x\nmore")
    assert _harmless(error) == "OSError: no room for ... in ..."


def test_no_network(kaggle_stub, monkeypatch, target):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
    with pytest.raises(DataError, match="cannot reach Kaggle for") as error:
        fetch(PINNED, "rick-and-morty", target)
    assert len(str(error.value).splitlines()) == 2


def test_a_silent_server_is_given_up(kaggle_stub, monkeypatch, target):
    monkeypatch.setattr(kaggle, "STALL_SECONDS", 2.0)
    kaggle_stub.datasets[HANDLE] = Dataset({}, link=[Reply(stall=True)])
    before = time.monotonic()
    with pytest.raises(DataError, match=r"sent nothing of .* for 2 s"):
        fetch(PINNED, "rick-and-morty", target)
    assert time.monotonic() - before < 10
    assert list(target.iterdir()) == []


@pytest.mark.slow
def test_the_downloader_does_not_outlive_a_killed_program(kaggle_stub, target):
    kaggle_stub.datasets[HANDLE] = Dataset({}, link=[Reply(stall=True)])
    code = "import sys; from pathlib import Path; from data_contracts import kaggle; "
    code += f"kaggle.download({PINNED.handle!r}, (), Path(sys.argv[1]), lambda _: None)"
    program = subprocess.Popen([sys.executable, "-c", code, str(target)], env=os.environ, cwd=Path(__file__).parents[2])
    _wait(lambda: kaggle_stub.requests)
    [child] = psutil.Process(program.pid).children()
    assert json.loads(child.cmdline()[-1])["handle"] == PINNED.handle
    program.send_signal(signal.SIGKILL)
    program.wait()
    _wait(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def _wait(done, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.05)
