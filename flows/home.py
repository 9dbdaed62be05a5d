"""Where things live, and the settings that Prefect and MLflow read from the environment when they are imported.

`set_defaults` must run before either is imported. It sets only what the user did not, so PREFECT_API_URL, PREFECT_HOME and
MLFLOW_TRACKING_URI keep their meaning.
"""

import logging
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from flows import UserError

ROOT = Path(__file__).resolve().parents[1]
TEMPORARY_PREFECT = "GPT_TEMPORARY_PREFECT"  # has the address of the Prefect server that ends with this command
GPU = "gpu"  # Prefect's limit on trainings at once, which flows.server.bootstrap creates


def home() -> Path:
    """The folder of everything this project writes: GPT_HOME, or `.gpt` in the project root; made when missing. Raises
    UserError when it cannot be written."""
    return _writable_folder("GPT_HOME", ROOT / ".gpt")


def shared_home() -> Path:
    """The part of the home that several machines may share, on one disk, each with a home of its own: GPT_SHARED_HOME, by
    default the home. It holds `artifacts/`, their `locks/` (docs/scale.md says on which disks they hold), and MLflow's files
    (`mlartifacts/`) where MLflow is a database. Raises UserError when it cannot be written."""
    return _writable_folder("GPT_SHARED_HOME", home())


def _writable_folder(name: str, default: Path) -> Path:
    folder = Path(os.environ.get(name) or default).expanduser().resolve()
    if set("%?") & set(str(folder)):  # they mean something else in the address of a database
        raise UserError(f"the home {folder} has a % or a ? in its path; set {name} to a folder without")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        problem = f"the home {folder} cannot be written: {error.strerror}"
        raise UserError(f"{problem}; set {name} to a folder that can") from error
    return folder


@contextmanager
def variables(values: dict[str, str]) -> Iterator[None]:
    """Within the block the environment has these variables; afterwards what it had before."""
    before = {name: os.environ[name] for name in values.keys() & os.environ.keys()}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)


def set_defaults() -> None:
    """Set the variables of defaults.toml: telemetry off, everything under the home."""
    logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)  # what fails is told in a line, not by tracebacks
    folder = str(home())
    for name, value in tomllib.loads((ROOT / "flows" / "defaults.toml").read_text(encoding="utf-8")).items():
        os.environ.setdefault(name, value.replace("{home}", folder))
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    if direct != "*" and "127.0.0.1" not in direct:  # a company's proxy does not reach the servers of this machine
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = f"{direct},127.0.0.1,localhost".lstrip(",")
