"""How a command ends where nobody foresaw it: defects, closed pipes, terminals of another encoding."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT, environment, gpt

PROGRAM = """
import sys
from flows.cli import app
def broken(corpus: str = ""):
    raise KeyError("what http://bob:hidden@host/x was")
app.app.registered_commands = [c for c in app.app.registered_commands if c.callback.__name__ != "corpora"]
app.app.command("corpora")(broken)
app.main()
"""


def run(home, *command: str, shell: str = "", **more: str) -> subprocess.CompletedProcess:
    words = ["bash", "-c", f"set -o pipefail; {sys.executable} -m flows.cli {shell}"] if shell else command
    return subprocess.run(
        words, cwd=ROOT, env=environment(home, **more), capture_output=True, text=True, encoding="utf-8", timeout=120
    )


@pytest.mark.parametrize("debug", ["", "1"])
def test_a_defect_is_two_lines_and_a_file(home, debug):
    result = run(home, sys.executable, "-c", PROGRAM, "corpora", GPT_DEBUG=debug)
    assert result.returncode == 70, result.stderr
    assert "hidden" not in result.stderr
    first, second = result.stderr.splitlines()[-2:]
    assert first.startswith("error: gpt corpora met a defect of this program: KeyError:")
    (file,) = (home / "logs").glob("traceback-*.txt")
    assert str(file) in second
    assert "in broken" in file.read_text()
    assert "hidden" not in file.read_text()
    assert ("Traceback" in result.stderr) == bool(debug)


def test_a_home_that_cannot_be_written_costs_no_traceback(home):
    home.write_text("a file")
    result = gpt(home, "corpora")
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: the home {home} cannot be written: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("shell", ["corpora | true", "corpora >&-", "corpora 2>&- >&-", "corpora --json | head -1"])
def test_a_closed_pipe_ends_quietly(home, shell):
    result = run(home, shell=shell)
    assert result.returncode in (0, 1)
    assert result.stderr == ""


def test_text_that_the_terminal_cannot_show_is_shown_by_numbers(home):
    result = gpt(home, "train", "caf\xe9", PYTHONIOENCODING="ascii")
    assert result.returncode == 2
    assert "caf\\xe9" in result.stderr
    assert "Traceback" not in result.stderr
