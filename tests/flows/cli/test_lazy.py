"""Commands that only answer a question do not load what trains, cleans and tracks: loading it takes ten times as long."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT, environment

HEAVY = {"prefect", "mlflow", "torch", "polars", "numpy", "sentencepiece", "requests", "matplotlib"}
PROGRAM = """
import sys
from flows.cli.app import main
try:
    main()
finally:
    print("loaded:", *sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("command", [["--help"], ["train", "--help"], ["corpora"], ["artifacts"]])
def test_an_answer_loads_only_what_it_needs(tmp_path, command):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command],
        cwd=ROOT,
        env=environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    loaded = result.stderr.partition("loaded:")[2].split()
    assert "typer" in loaded
    assert not HEAVY.intersection(loaded)
