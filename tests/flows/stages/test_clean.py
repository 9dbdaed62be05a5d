"""`gpt clean`: two stages, what they explain, and what Prefect's pages show of them."""

import hashlib
import json
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import spelled
from tests.data_contracts.stub_server import Reply, Stub
from tests.flows.conftest import gpt_here, own_home, settings

ROWS = [
    {"id": str(n), "title": f"Title {n}", "text": f"An article about number {spelled(n)}. " * 20} for n in range(40)
]


EARLIER = "texts and measures are those of an earlier cleaning"


@pytest.fixture
def run(home, prefect_server):
    with own_home(home, prefect_server):
        yield gpt_here


def artifacts(server: str, key: str) -> list[dict]:
    """What Prefect has under a key, oldest first."""
    request = urllib.request.Request(
        f"{server}/artifacts/filter",
        json.dumps({"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC"}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)[::-1]


def stages(output: str) -> list[list[str]]:
    return [line.split()[:2] for line in output.splitlines() if line.split()[:1] in (["download"], ["clean"])]


def test_clean_explains_and_reuses(run, home, notes, prefect_server):
    (notes / "note-97.txt").write_text("Write to somebody@example.org, and the miller answers before the rain comes.")
    (notes / "note-98.txt").write_text("short <b>")
    (notes / "note-99.txt").write_text((notes / "note-01.txt").read_text())
    asked = ("clean", "--from", str(notes), "--name", "explained", *settings({"clean.min_chars": 20}))
    first = run(*asked, "--explain")
    assert first.returncode == 0, first.stderr
    assert "61 documents kept, 2 dropped" in first.stderr
    assert "e-mail addresses in 1 texts are masked as <email>; clean.emails=keep keeps them" in first.stderr
    for expected in (
        "too_short",
        "min_chars=20",
        "short <b>",
        "duplicate",
        "edges",
    ):
        assert expected in first.stdout, expected
    assert not (home / "mlflow.db").exists()
    assert {path.name for path in (home / "artifacts" / "explained").iterdir()} == {"download", "clean"}

    second = run(*asked, "--json")
    assert stages(second.stderr) == [["download", "reused"], ["clean", "reused"]]
    facts = json.loads(second.stdout)
    card = Path(second.stderr.splitlines()[-1].removeprefix("data card: ")).parent
    assert "masked as" not in second.stderr  # said once, when it is done
    assert facts == json.loads((card / "card.json").read_text())
    assert {row["reason"]: row["texts"] for row in facts["funnel"] if row["texts"]} == {"too_short": 1, "duplicate": 1}
    assert facts["source"]["kind"] == "local"
    assert str(notes) not in "".join((card / name).read_text() for name in ("card.json", "card.md", "card.html"))

    shown = artifacts(prefect_server, "data-card-explained")
    assert len(shown) == 2  # of the reused stage too
    assert shown[1]["data"].count("data:image/png;base64,") == 1
    assert shown[1]["task_run_id"]
    assert "too_short" in shown[1]["data"]

    forced = run(*asked, "--force")
    assert [name for name, how in stages(forced.stderr) if how == "reused"] == ["download"]
    assert forced.stdout == ""
    assert EARLIER not in first.stderr + forced.stderr

    limited = run(*asked, *settings({"clean.min_chars": 30}))
    assert "61 documents kept, 2 dropped" in limited.stderr
    assert EARLIER in limited.stderr
    for measured in (home / "artifacts" / "explained" / "clean").glob("*/measured/00000.parquet"):
        measured.write_bytes(measured.read_bytes()[:-1])
    assert EARLIER not in run(*asked, *settings({"clean.min_chars": 40})).stderr  # damaged ones are none


def test_rows_that_break_their_contract_are_named(run, tmp_path):
    raw = tmp_path / "wiki"
    raw.mkdir()
    (raw / "b.json").write_text(json.dumps([*ROWS[:10], ROWS[10] | {"id": "x1"}, *ROWS[11:]]))
    result = run("clean", "wiki", "--from", str(raw))
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert "b.json row 10  id = 'x1'" in result.stderr
    assert "raw rows of wiki breaks its contract" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["wikii"], "gpt corpora"),
        ([], "name a corpus"),
        (["python-docs", "--set", "clean.min_char=3"], "did you mean 'clean.min_chars'"),
        (["--from", "/no/such/folder", "--name", "mine"], "/no/such/folder"),
    ],
)
def test_wrong_words_are_refused(run, arguments, words):
    result = run("clean", *arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_secret_in_an_address_stays_in_the_environment(run, home, prefect_server, monkeypatch):
    """Prefect keeps the parameters of a run: such an address is refused there, and a variable may stand for it."""
    text = "".join(f"MIRANDA:\nO brave new world, number {spelled(n)}.\n\n" for n in range(900)).encode()
    with Stub() as stub:
        stub.files["/input.txt"] = [Reply(body=text)]
        address = f"{stub.url}/input.txt?token=hush-hush-4711"
        known = {"source.sha256": hashlib.sha256(text).hexdigest()}
        refused = run("clean", "shakespeare", *settings(known | {"source.url": address}))
        assert refused.returncode == 2
        assert "source.url may hold a secret" in refused.stderr
        assert "hush-hush" not in refused.stderr
        assert stub.requests == []
        missing = run("clean", "shakespeare", *settings(known | {"source.url": "${MY_URL}"}))
        assert missing.returncode == 2
        assert "the variable MY_URL, which the environment does not have" in missing.stderr
        monkeypatch.setenv("MY_URL", address)
        cleaned = run("clean", "shakespeare", *settings(known | {"source.url": "${MY_URL}"}))
        assert cleaned.returncode == 0, cleaned.stderr
        assert len(stub.requests) == 1
    asked = urllib.request.Request(f"{prefect_server}/flow_runs/filter", b"{}", {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        known_runs = answer.read().decode()
    assert "${MY_URL}" in known_runs
    assert "hush-hush" not in known_runs
    assert [path for path in home.rglob("*") if path.is_file() and b"hush-hush" in path.read_bytes()] == []
