"""The environment is the one that pyproject.toml asks for and uv.lock pins."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, packages_distributions, version
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
OURS = ["data_contracts", "flows", "gpt", "tokenizers"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
# `make TORCH=...` takes torch from its own index; another build brings other CUDA libraries.
FROM_ANOTHER_INDEX = re.compile("torch|(nvidia|cuda)-.*|triton")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(project: dict) -> dict[str, list[Requirement]]:
    """Every requirement of pyproject.toml by the name of its distribution; those of the benchmarks' own venv apart."""
    groups = project["dependency-groups"]
    lines = [*project["project"]["dependencies"], *groups["dev"]]
    for extra in project["project"]["optional-dependencies"].values():
        lines += extra
    found: dict[str, list[Requirement]] = {}
    for requirement in map(Requirement, lines):
        found.setdefault(canonical(requirement.name), []).append(requirement)
    return found


def undeclared(paths: list[Path], names: set[str]) -> dict[str, set[str]]:
    """The third-party modules that these files import although no distribution in `names` brings them, and where."""
    brought = packages_distributions()
    found: dict[str, set[str]] = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            for module in (name.split(".")[0] for name in modules):
                if module in sys.stdlib_module_names or module in OURS:
                    continue
                if not {canonical(name) for name in brought.get(module, [])} & names:
                    found.setdefault(module, set()).add(str(path))
    return found


def sources() -> list[Path]:
    files = (path for package in OURS for path in (ROOT / package).rglob("*.py"))
    return sorted(path for path in files if "templates" not in path.parts)


def test_every_installed_package_is_in_the_lock():
    locked = {package["name"]: package["version"] for package in LOCK["package"]}
    installed = {canonical(found.name): found.version for found in distributions()}
    wrong = {name: both for name in installed if (both := (installed[name], locked.get(name)))[0] != both[1]}
    assert not {name: both for name, both in wrong.items() if not FROM_ANOTHER_INDEX.fullmatch(name)}


def test_torch_is_the_locked_version_whatever_its_build():
    locked = {package["name"]: package["version"] for package in LOCK["package"]}
    assert version("torch").split("+")[0] == locked["torch"]


def test_the_lock_agrees_with_the_project():
    locked = {package["name"]: package["version"] for package in LOCK["package"]}
    requirements = [requirement for several in declared(PROJECT).values() for requirement in several]
    requirements += map(Requirement, PROJECT["dependency-groups"]["bench"])
    wrong = {str(line): locked.get(canonical(line.name), "absent") for line in requirements}
    assert not {
        line: found for line, found in wrong.items() if found == "absent" or found not in Requirement(line).specifier
    }
    uv = shutil.which("uv") or shutil.which("uv", path=ROOT / ".venv-uv")
    if uv:
        own = {
            name: value for name, value in os.environ.items() if not name.startswith("UV_")
        }  # no mirror of this machine
        command = [uv, "lock", "--check", "--offline", "--python", sys.executable]
        check = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True)
        assert not check.returncode, f"run `uv lock`: {check.stderr}"


def test_the_lock_names_one_public_index_and_a_hash_for_every_file():
    packages = [package for package in LOCK["package"] if package["name"] != PROJECT["project"]["name"]]
    assert {str(package["source"]) for package in packages} == {str({"registry": "https://pypi.org/simple"})}
    files = [file for package in packages for file in [*package.get("wheels", []), package.get("sdist")] if file]
    assert all(file["url"].startswith("https://files.pythonhosted.org/") for file in files)
    assert all(file["hash"].startswith("sha256:") for file in files)


def test_what_the_code_imports_is_declared():
    assert not undeclared(sources(), set(declared(PROJECT)))


def test_an_undeclared_import_is_found(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("import numpy.linalg\nfrom starlette import routing\nimport json, flows\n")
    assert undeclared([path], {"numpy"}) == {"starlette": {str(path)}}


def test_the_prefect_server_of_the_lock_can_be_imported():
    """A newer FastAPI breaks it, while `import prefect` still works."""
    import prefect.server.api.server  # noqa: F401


def test_the_command_is_installed():
    """From another folder, so that it is the editable install that finds the code."""
    command = [Path(sys.executable).parent / "gpt", "--help"]
    assert subprocess.run(command, cwd="/", capture_output=True).returncode == 0
