"""Each benchmark runs to its end in its smallest form, and leaves its figures and tables. What they measure is not judged."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT, environment
from tests.flows.conftest import settings

pytestmark = pytest.mark.slow
TINY_TRAINING = {"clean.val_fraction": 0.01, "tokenizer.vocab_size": 512, "model.n_layer": 1, "sample.max_tokens": 5,
                 "sample.evaluation_tokens": 0}  # fmt: skip
SMALLEST = {
    "cleaning": ["--megabytes", "1", "--runs", "1", "--memory", "1"],
    "encoding": ["--megabytes", "1", "--runs", "1", "--load", "0.1", "--memory", "1"],
    "decoder": ["--runs", "1", "--seconds", "0.1", "--tokens", "8", "--modes", "eager-float32", "--iterations", "4"],
    "overhead": ["--runs", "1", "--only", "commands,training", "--steps", "2,4", *settings(TINY_TRAINING)],
}


@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs_and_leaves_its_figures(name, tmp_path, shared_data):
    more = ["--text", str(shared_data / "tinyshakespeare" / "input.txt")] if name == "decoder" else []
    command = [sys.executable, "-m", f"benchmarks.{name}", "--cache", str(tmp_path), *SMALLEST[name], *more]
    env = environment(tmp_path / "home", GPT_SHARED_DATA=str(shared_data))
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / f"{name}.json").read_text())
    assert figures["machine"]["cpu"]
    parts = {part: runs for part, runs in figures.items() if isinstance(runs, list)}
    assert parts
    assert all(parts.values()), parts
    assert "| " in (tmp_path / f"{name}.md").read_text()


def test_figures_are_written_as_they_come(tmp_path):
    from benchmarks.tables import Results

    found = Results(tmp_path / "some.json", "runs")
    found.add("runs", {"seconds": 1})
    assert json.loads((tmp_path / "some.json").read_text())["runs"] == [{"seconds": 1}]
