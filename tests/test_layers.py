"""The house's own rules: which room may import which, and how large a room may be."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEAVES = {"data_contracts", "gpt", "tokenizers"}
PACKAGES = sorted(LEAVES | {"flows"})
ALLOWED_TO_GPT = {"torch", "numpy", "safetensors", "sentencepiece", "gpt"} | set(sys.stdlib_module_names)
# The rooms of each package, floor by floor from the roof down. A room may import the floors below it, not its neighbours.
FLOORS = {
    "flows": "cli > serving > reproduce variants > train compare maintain > evaluation > models > stages server > tracking"
    " > pages > store > recipe > progress > home",
    "gpt": "export trainer > generation evaluation > checkpoint > machine > model > data > config > settings",
    "data_contracts": "facts > clean > sources > corpora > readers > contracts rules",
}
MOST_FILES = 10


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever it stands; of `from a import b` both a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def modules(package: str, root: Path = ROOT) -> dict[str, Path]:
    files = (path for path in (root / package).rglob("*.py") if "templates" not in path.parts)
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def upward(package: str, root: Path = ROOT) -> list[str]:
    """The imports between rooms that do not point down."""
    order = FLOORS[package].split(" > ")
    floors = {room: depth for depth, rooms in enumerate(order) for room in rooms.split()}
    found = []
    for module, path in modules(package, root).items():
        room = module.split(".")[1] if "." in module else ""
        for name in imports(path):
            other = name.split(".")[1] if name.startswith(f"{package}.") else ""
            if room and other in floors and other != room and floors[other] <= floors[room]:
                found.append(f"{module} imports {name}")
    return sorted(found)


def circle(package: str, root: Path = ROOT) -> list[str]:
    """Modules that import each other, all the way round; empty where none do."""
    known = modules(package, root)
    graph = {module: (imports(path) & known.keys()) - {module, package} for module, path in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_leaves_know_neither_each_other_nor_the_wiring(leaf):
    forbidden = (LEAVES | {"flows", "prefect", "mlflow"}) - {leaf}
    wrong = {str(path): both for path in (ROOT / leaf).rglob("*.py") if (both := packages(path) & forbidden)}
    assert not wrong


def test_gpt_needs_only_what_a_gpu_box_has():
    wrong = {str(path): both for path in (ROOT / "gpt").rglob("*.py") if (both := packages(path) - ALLOWED_TO_GPT)}
    assert not wrong


@pytest.mark.parametrize("package", FLOORS)
def test_arrows_between_rooms_point_down(package):
    assert not upward(package)


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_has_a_floor(package):
    folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    files = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__"}
    assert folders | files == set(FLOORS[package].replace(" > ", " ").split())


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other(package):
    assert not circle(package)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_has_few_files(package):
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    counts = {str(folder.relative_to(ROOT)): len(list(folder.glob("*.py"))) for folder in folders}
    corpora = "data_contracts/corpora"  # one file a corpus, however many there are
    assert {folder for folder, count in counts.items() if count > MOST_FILES} <= {corpora}


def test_no_module_of_flows_bears_a_standard_library_name():
    assert not {path.stem for path in (ROOT / "flows").glob("*.py")} & set(sys.stdlib_module_names)


def test_the_layer_tests_can_fail(tmp_path):
    (tmp_path / "bad.py").write_text("import mlflow.pyfunc\nfrom tokenizers.tokenizer import Tokenizer\n")
    assert packages(tmp_path / "bad.py") == {"mlflow", "tokenizers"}
    for room in ("data", "trainer"):
        (tmp_path / "gpt" / room).mkdir(parents=True)
    (tmp_path / "gpt" / "data" / "shards.py").write_text("def f():\n    from gpt.trainer import loop\n")
    (tmp_path / "gpt" / "trainer" / "loop.py").write_text("from gpt.data.shards import f\n")
    assert upward("gpt", tmp_path) == [
        "gpt.data.shards imports gpt.trainer",
        "gpt.data.shards imports gpt.trainer.loop",
    ]
    assert set(circle("gpt", tmp_path)) == {"gpt.data.shards", "gpt.trainer.loop"}
