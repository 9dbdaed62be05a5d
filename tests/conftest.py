"""Every test runs with a home of its own, and without what the machine's user has set."""

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

# A shell starts what it runs in the background deaf to Ctrl-C, and children inherit that: here it is to be heard.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
FOREIGN = ("PREFECT_", "MLFLOW_", "KAGGLE", "GPT_HOME", "GPT_SHARED_HOME")

# Tests share the cores: torch's threads are to wait asleep, and not to burn the time of the others.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Where Python may not write bytecode, each of the hundreds of processes that the tests start would compile Prefect, MLflow and
# torch again. They share a folder for it, which the first process removes at its end.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    bytecode = os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = tempfile.mkdtemp(prefix="gpt-bytecode-")
    sys.dont_write_bytecode = False
    atexit.register(shutil.rmtree, bytecode, ignore_errors=True)


LONGEST = ("test_readme.py", "test_benchmarks.py", "test_tutorial.py", "test_faults.py", "test_operations.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take minutes begin first, so that none of them is left to run alone in the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("GPT_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real sample files, which are not part of the repository."""
    folder = Path(os.environ.get("GPT_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no sample data at {folder} (GPT_SHARED_DATA names another place)")
    return folder


def environment(home: Path, **more: str) -> dict[str, str]:
    """Of a child process that knows only this home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return kept | {"GPT_HOME": str(home), "HOME": str(home.parent), "PYTHONUNBUFFERED": "1"} | more


def gpt(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    """The command line, as a user calls it."""
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(home, **more), capture_output=True, text=True, timeout=600)


def spelled(number: int) -> str:
    """A word for a number. Texts that differ only in their numbers are near copies."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))
