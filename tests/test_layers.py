"""The house's own rules: who may import whom, and which names a module may not have."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEAVES = {"data_contracts", "gpt", "tokenizers"}
PACKAGES = sorted(LEAVES | {"flows"})
ALLOWED_TO_GPT = {"torch", "numpy", "safetensors", "sentencepiece", "gpt"} | set(sys.stdlib_module_names)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_leaves_know_neither_each_other_nor_the_wiring(leaf):
    forbidden = (LEAVES | {"flows", "prefect", "mlflow"}) - {leaf}
    wrong = {str(path): both for path in (ROOT / leaf).rglob("*.py") if (both := imports(path) & forbidden)}
    assert not wrong


def test_gpt_needs_only_what_a_gpu_box_has():
    wrong = {str(path): both for path in (ROOT / "gpt").rglob("*.py") if (both := imports(path) - ALLOWED_TO_GPT)}
    assert not wrong


def test_no_module_of_flows_bears_a_standard_library_name():
    assert not {path.stem for path in (ROOT / "flows").glob("*.py")} & set(sys.stdlib_module_names)


def test_the_layer_test_can_fail(tmp_path):
    (tmp_path / "bad.py").write_text("import mlflow.pyfunc\nfrom tokenizers.tokenizer import Tokenizer\n")
    assert imports(tmp_path / "bad.py") == {"mlflow", "tokenizers"}


def test_the_prefect_server_of_the_lock_can_be_imported():
    """A newer FastAPI breaks it, while `import prefect` still works."""
    import prefect.server.api.server  # noqa: F401


def test_every_installed_package_is_in_the_lock():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = {line.split("==")[0].lower().replace("_", "-").replace(".", "-") for line in lines if "==" in line}
    assert all("==" in line for line in lines if line and not line.startswith("#"))
    frozen = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--exclude-editable"], capture_output=True, text=True, check=True
    )
    installed = {
        line.split("==")[0].lower().replace("_", "-").replace(".", "-")
        for line in frozen.stdout.splitlines()
        if "==" in line
    }
    # The CUDA libraries come with torch's CUDA build, pinned exactly by torch's own metadata.
    missing = {name for name in installed - locked if not name.startswith(("nvidia-", "cuda-", "triton"))}
    assert not missing
