"""The `gpt` command as a user meets it: the whole flow, what it reuses, what it says when something is wrong."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from tests.conftest import ROOT, environment, gpt
from tests.flows.conftest import TINY

STAGES = ["download", "clean", "tokenize", "pack", "train"]


def digests(home: Path) -> dict[str, str]:
    listed = json.loads(gpt(home, "artifacts", "--json").stdout)
    return {row["stage"]: row["digest"] for row in listed}


def reused(output: str) -> list[str]:
    return [
        line.split()[0] for line in output.splitlines() if line.split()[1:2] == ["reused"] and line.split()[0] in STAGES
    ]


def assert_refused(result: subprocess.CompletedProcess, *words: str) -> None:
    """Exit code 2, the words, no traceback, and no more than a line or two after `error:`."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    message = result.stderr[result.stderr.lower().index("error:") :]
    assert len(message.strip().splitlines()) <= 3, message
    for word in words:
        assert word in message


def test_the_life_of_a_corpus(command, home, notes):
    """Trained, reused, changed, damaged, asked why, verified, pruned: one home, in the order in which a user would."""
    train = ("train", "--from", str(notes), "--name", "mine", *TINY)
    first = command(*train)
    assert first.returncode == 0, first.stderr
    assert reused(first.stderr) == []
    for expected in (
        "60 kept",
        "300 pieces",
        "bits per byte",
        "gzip",
        "bigram",
        "runs?workflowType=machine_learning",
        "gpt generate mine",
    ):
        assert expected in first.stderr
    original = digests(home)

    second = command(*train)
    assert second.returncode == 0, second.stderr
    assert reused(second.stderr) == STAGES

    assert reused(command(*train, "--set", "train.lr=0.001").stderr) == STAGES[:4]
    # A rule that changes nothing in the text reruns cleaning alone; one that does reruns all that follows.
    assert reused(command(*train, "--set", "clean.min_chars=64").stderr) == ["download", "tokenize", "pack", "train"]
    assert reused(command(*train, "--set", "clean.split_chars=300").stderr) == ["download"]
    why = command("why", *train[1:], "--set", "clean.min_chars=99").stdout
    assert "min_chars 1 -> 99" in why
    assert "split_chars 300 -> 8000" in why

    clean_key = json.loads(command("why", *train[1:], "--json").stdout)[1]["because"].split()[0]
    documents = home / "artifacts" / "mine" / "clean" / clean_key / "documents" / "00000.parquet"
    before = documents.read_bytes()
    documents.write_bytes(before[:-7])
    assert command("verify").returncode == 1
    mended = command(*train)
    assert "documents/00000.parquet has" in mended.stderr
    assert reused(mended.stderr) == ["download", "tokenize", "pack", "train"]
    assert documents.read_bytes() == before
    verified = command("verify", "mine")
    assert verified.returncode == 0, verified.stdout

    generated = command("generate", "mine", "the river", "--max-tokens", "10", "--seed", "3")
    assert generated.returncode == 0, generated.stderr
    assert generated.stdout.startswith("the river")
    assert command("generate", "mine", "the river", "--max-tokens", "10", "--seed", "3").stdout == generated.stdout

    champion = mlflow.MlflowClient().get_model_version_by_alias("gpt-mine", "champion")
    assert_refused(command("prune", "--keep", "1"), "nothing was removed")
    pruned = command("prune", "--keep", "0", "--yes")
    assert "folder artifacts/mine/train/" in pruned.stderr
    left = json.loads(command("artifacts", "--json").stdout)
    assert [row["digest"] for row in left if row["stage"] == "train"] == [champion.tags["digest"]]
    assert {digest for row in left for digest in row["inputs"].values()} <= {row["digest"] for row in left}
    assert original["download"] == digests(home)["download"]
    assert command("pin", f"gpt-mine/{champion.version}").stdout == f"gpt-mine/{champion.version} is pinned\n"
    assert_refused(command("pin", "gpt-mine/99"), "gpt-mine/99", "not known")


def test_without_any_server_the_flow_still_runs(home, notes):
    # Behind a company's proxy too: the servers of this machine are asked directly.
    result = gpt(home, "train", "--from", str(notes), "--name", "mine", *TINY, HTTP_PROXY="http://127.0.0.1:9")
    assert result.returncode == 0, result.stderr
    with sqlite3.connect(home / "prefect" / "prefect.db") as database:
        states = dict(database.execute("select name, state_name from task_run"))
        assert states == dict.fromkeys(STAGES, "Completed")
        keys = {key for (key,) in database.execute("select key from artifact")}
        assert {"data-card-mine", "mlflow-mine", "packing-report-mine"} <= keys
        lines = [line for (line,) in database.execute("select message from log")]
        assert [line.split()[0] for line in lines if line.split()[0] in STAGES] == STAGES
    assert_refused(gpt(home, "train", "--from", str(notes), "--name", "mine", *TINY, "--set", "tokenizer.vocab_size=9000"),
                   "vocab_size 9000", "largest possible")  # fmt: skip
    with sqlite3.connect(home / "prefect" / "prefect.db") as database:
        ended = database.execute("select name, state_name from task_run order by expected_start_time").fetchall()[5:]
        assert ended == [("download", "Reused"), ("clean", "Reused"), ("tokenize", "Failed")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "wikii"], ["wikii", "gpt corpora"]),
        (["train", "python-doc"], ["did you mean 'python-docs'"]),
        (["train"], ["name a corpus"]),
        (["train", "python-docs", "--size", "huge"], ["huge", "modern-large"]),
        (["train", "python-docs", "--set", "train.stepz=1"], ["train.stepz", "did you mean 'train.steps'"]),
        (["train", "python-docs", "--force", "packing"], ["packing", "pack"]),
        (["train", "python-docs", "--steps", "0"], ["--steps"]),
        (["train", "--name", "mine"], ["--from"]),
        (["train", "--from", "/no/such/folder", "--name", "mine"], ["/no/such/folder"]),
        (["generate", "nothing-like-it"], ["nothing-like-it", "gpt artifacts"]),
        (["generate", "python-docs"], ["gpt train python-docs"]),
        (["generate", "gpt-python-docs@champion"], ["gpt-python-docs@champion"]),
        (["generate", "gpt-python-docs/7"], ["gpt-python-docs/7"]),
        (["generate", "0" * 32], ["0" * 32]),
        (["explain", "nothing-like-it", "--step", "1"], ["nothing-like-it", "gpt artifacts"]),
        (["explain", "0" * 32, "--step", "1"], ["0" * 32]),
        (["why", "python-docs", "--set", "pack.block_size=1"], ["pack.block_size = 1"]),
        (["why", "python-docs", "--set", "model.norm=batchnorm"], ["model.norm", "rmsnorm"]),
        (["why", "python-docs", "--set", "tokenizer.model_type=words"], ["tokenizer.model_type", "char"]),
        (["why", "python-docs", "--set", "tokenizer.vocab_size=many"], ["tokenizer.vocab_size", "auto"]),
        (["why", "wikii"], ["wikii"]),
        (["nonsense"], ["nonsense"]),
    ],
)
def test_wrong_words_are_refused_in_a_line_or_two(command, home, arguments, words):
    """Nothing of Prefect or MLflow is started before the words are checked."""
    assert_refused(command(*arguments), *words)
    assert not list(home.glob("artifacts/*/*"))


def one_long(folder: Path) -> None:
    """Of these files leave the first, ten times over."""
    first, *others = sorted(folder.iterdir())
    first.write_text(first.read_text() * 10)
    for path in others:
        path.unlink()


@pytest.mark.parametrize(
    ("change", "settings", "words"),
    [
        (lambda folder: [path.unlink() for path in folder.iterdir()], [], ["notes"]),
        (lambda folder: [path.write_text("") for path in folder.iterdir()], [], ["note-00.txt", "empty"]),
        (lambda folder: (folder / "note-07.txt").write_bytes("caf\xe9".encode() * 16 + b"\xe9"), [], ["note-07.txt"]),
        (lambda folder: (folder / "table.parquet").write_bytes(b"PAR1 but cut"), [], ["table.parquet"]),
        (lambda folder: (folder / "rows.jsonl").write_text('{"text": "a"}\n{"text": '), [], ["rows.jsonl"]),
        (lambda folder: None, ["tokenizer.vocab_size=9000"], ["vocab_size 9000", "largest possible"]),
        (lambda folder: None, ["pack.block_size=100000"], ["100000", "at most"]),
        (
            one_long,
            ["clean.split_chars=0"],
            ["1 documents are too few", "split_chars"],
        ),
        (lambda folder: None, ["clean.min_chars=100000", "clean.split_chars=0"], ["too_short 60"]),
    ],
    ids=[
        "no file",
        "empty files",
        "wrong encoding",
        "cut parquet",
        "cut jsonl",
        "vocabulary",
        "T",
        "one document",
        "all dropped",
    ],
)
def test_text_that_cannot_be_used_is_refused_and_nothing_is_half_written(command, home, notes, change, settings, words):
    change(notes)
    more = [part for setting in settings for part in ("--set", setting)]
    result = command("train", "--from", str(notes), "--name", "mine", *TINY, *more)
    assert_refused(result, *words)
    for folder in home.glob("artifacts/*/*/[!.]*"):
        assert (folder / "manifest.json").is_file()
    with sqlite3.connect(home / "mlflow.db") as database:
        # What is told before anything starts leaves no run.
        assert {status for (status,) in database.execute("select status from runs")} <= {"FAILED"}


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
def test_a_home_that_cannot_be_written_is_told(tmp_path):
    place = tmp_path / "file"
    place.write_text("not a folder")
    assert_refused(gpt(place / "home", "train", "python-docs"), str(place), "GPT_HOME")


def test_a_full_disk_is_told_and_the_next_run_goes_on(tmp_path, prefect_server, notes):
    """A real file system of 3 MB, where the caller may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs more rights")
    try:
        more = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "PREFECT_API_URL": prefect_server}
        train = ("train", "python-docs", *TINY, "--set", "tokenizer.vocab_size=512")
        full = gpt(disk, *train, **more)
        assert_refused(full, "cleaning python-docs needs", "free", "make room")
        assert not list(disk.glob("artifacts/*/clean/[!.]*"))
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        again = gpt(disk, *train, **more)
        assert again.returncode == 0, again.stderr
        database = shutil.copy(tmp_path / "mlflow.db", disk)
        subprocess.run(["dd", "if=/dev/zero", f"of={disk}/filler"], capture_output=True)
        assert_refused(
            gpt(disk, "pin", "gpt-python-docs/1", MLFLOW_TRACKING_URI=f"sqlite:///{database}"),
            "disk is full",
            "make room",
        )
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_two_runs_of_one_corpus_at_once_both_end_well(home, prefect_server, notes):
    command = [
        sys.executable,
        "-m",
        "flows.cli",
        "train",
        "--from",
        str(notes),
        "--name",
        "mine",
        *TINY,
        "--set",
        "train.steps=200",
    ]
    more = environment(home, PREFECT_API_URL=prefect_server)
    runs = [subprocess.Popen(command, cwd=ROOT, env=more, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[1] for process in runs]
    assert [process.returncode for process in runs] == [0, 0], outputs
    assert sorted(stage for output in outputs for stage in reused(output)) == sorted(STAGES)
