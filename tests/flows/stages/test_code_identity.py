"""stages.lock: who is retrained by a change of code, and who is not."""

import ast
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_contracts.corpora import MIX
from flows.home import ROOT
from flows.recipe import OWN, corpus_names, load_recipe
from flows.stages.code_identity import WIRING, hash_sources, identity, read_lock, source_files
from flows.stages.definitions import STAGES, code_parts
from tests.conftest import environment
from tests.flows.stages.lock import stale, write_lock

PLAIN = "def f(x):\n    return x + 1\n"
# What versions of Python have parsed differently: f-strings above all.
ODD = """
def g(rows, /, width: int = 3, *, name="it's"):
    text = f"{width:>{width}} {rows[0]!r} " "and" f" {name=} {'nested'!s:>10}" f""
    match rows:
        case [first, *_] if first: return (b"\\x00", 1e16, -0.0, 1_000, ..., text)
    async def h(): return [i async for i in rows]
    return lambda *a, **k: (yield)
"""

LOCK = str(Path(__file__).with_name("lock.py"))


@pytest.fixture
def project(tmp_path):
    """A copy of the sources that stages are made by, with a lock of its own."""
    for folder in ("data_contracts", "flows", "gpt", "tokenizers"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_lock_is_up_to_date():
    late = stale(code_parts())
    assert not late, f"the sources of {late} were edited: `make lock` asks whether their output changes"


def test_every_stage_and_reader_has_a_version():
    assert set(read_lock()) == set(STAGES) | {f"reader/{name}" for name in [*corpus_names(), OWN, MIX]}
    assert STAGES["train"].code(load_recipe("wiki")) == f"train {read_lock()['train']['version']}"
    assert STAGES["clean"].code(load_recipe("wiki")).split()[::2] == ["clean", "reader/wiki"]


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_equal_under_every_version_of_python(version, tmp_path):
    found = [*Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), shutil.which(f"python{version}")]
    works = [
        python for python in found if python and subprocess.run([python, "-V"], capture_output=True).returncode == 0
    ]
    if not works:
        pytest.skip(f"no python{version} here")
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "odd.py").write_text(ODD)
    program = f"""
from pathlib import Path
from flows.stages.code_identity import hash_sources
print(hash_sources(("pkg/odd.py",), Path({str(tmp_path)!r})))
for entries in {sorted(code_parts().values())!r}: print(hash_sources(entries))
"""
    there = subprocess.run(
        [works[0], "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    here = [hash_sources(("pkg/odd.py",), tmp_path), *(hash_sources(e) for e in sorted(code_parts().values()))]
    assert there == here


def test_a_version_stays_for_a_change_that_does_not_matter_and_rises_for_one_that_does(tmp_path):
    file, lock, parts = tmp_path / "pkg" / "a.py", tmp_path / "lock", {"train": ("pkg/a.py",), "pack": ("pkg/b.py",)}
    file.parent.mkdir()
    (file.parent / "b.py").write_text(PLAIN)

    def edit(text: str) -> tuple[str, str]:
        file.write_text(text)
        hash_sources.cache_clear()
        return tuple(identity(part, entries, lock, tmp_path) for part, entries in parts.items())

    edit(PLAIN)
    write_lock(parts, set(), lock, tmp_path)
    assert edit(PLAIN) == ("train 1", "pack 1")
    train, pack = edit(PLAIN.replace("1", "2"))
    assert pack == "pack 1"
    assert len(train) == len("train ") + 16  # the hash: nothing that was made before is taken for it
    assert stale(parts, lock, tmp_path) == ["train"]
    write_lock(parts, {"train"}, lock, tmp_path)
    assert edit(PLAIN.replace("1", "2")) == ("train 2", "pack 1")
    assert edit(PLAIN.replace("1", "2") + "# why\n")[0] != "train 2"  # a comment asks, too
    write_lock(parts, set(), lock, tmp_path)
    assert edit(PLAIN.replace("1", "2") + "# why\n") == ("train 2", "pack 1")


IMPORTS = """
import os, pkg.b
from pkg import c as other  # why
from pkg import (
    d,
    e as another,
)
def f():
    from pkg.g import name
"""


def test_imports_of_every_form_are_followed_and_what_wires_the_stages_is_taken_alone(tmp_path):
    for name in "abcdefgh":
        file = tmp_path / "pkg" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(IMPORTS if name == "a" else "import pkg.h\n" if name == "g" else PLAIN)
    for table in ("a", "c", "f"):
        (tmp_path / "pkg" / f"{table}.toml").write_text("rules = []")
    found = [path.name for path in source_files(("pkg/a.py",), tmp_path)]
    assert sorted(name[0] for name in found if name.endswith(".py")) == list("abcdegh")
    assert [name for name in found if name.endswith(".toml")] == ["a.toml", "c.toml"]
    assert source_files((WIRING,)) == [ROOT / WIRING]


def test_edits_in_a_copy_of_the_project(project):
    """An edit of the decoder retrains; a moved file and another message do not, once `make lock` accepted them."""

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=project,
            capture_output=True,
            text=True,
            env=environment(project, PYTHONPATH=str(project)),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def codes() -> dict[str, str]:
        program = "from flows.recipe import load_recipe; from flows.stages.definitions import STAGES; r = load_recipe('wiki')\n"
        return ast.literal_eval(run("-c", program + "print({n: s.code(r) for n, s in STAGES.items()})"))

    def edit(file: str, old: str, new: str) -> None:
        text = (project / file).read_text()
        assert old in text
        (project / file).write_text(text.replace(old, new))

    run(LOCK, "same")  # the copy's lock is up to date, whatever is being edited in the project
    version = read_lock(project / "flows/stages/stages.lock")["train"]["version"]
    before = codes()
    edit("gpt/model/transformer.py", "EPS = 1e-6", "EPS = 1e-5")
    assert {name for name, code in codes().items() if code != before[name]} == {"train"}
    edit("gpt/model/transformer.py", "EPS = 1e-5", "EPS = 1e-6")
    assert codes() == before

    edit("gpt/trainer/optimizers.py", "from gpt.trainer.muon import", "from gpt.trainer.orthogonal import")
    (project / "gpt/trainer/muon.py").rename(project / "gpt/trainer/orthogonal.py")
    edit("gpt/data/shards.py", "no document in the {split} split", "the {split} split has no document")
    assert {name for name, code in codes().items() if code != before[name]} == {"pack", "train"}
    assert run(LOCK, "same").splitlines() == ["pack: same", "train: same"]
    assert codes() == before

    edit("gpt/model/transformer.py", "EPS = 1e-6", "EPS = 1e-5")
    assert run(LOCK, "changed").splitlines() == ["train: changed"]
    assert {name for name, code in codes().items() if code != before[name]} == {"train"}
    assert codes()["train"] == f"train {version + 1}"


def test_the_hashes_of_all_parts_take_no_time():
    """`gpt why` asks for them at every call."""
    hash_sources.cache_clear()
    began = time.process_time()
    stale(code_parts())
    assert time.process_time() - began < 0.5


def test_code_is_all_that_a_stage_imports_of_its_package_and_no_more():
    def names(*entries):
        return {str(path.relative_to(ROOT)) for path in source_files(entries)}

    trained = names("gpt/trainer/loop.py")
    assert {
        "gpt/model/transformer.py",
        "gpt/trainer/optimizers.py",
        "gpt/trainer/muon.py",
        "gpt/data/dataset.py",
        "gpt/checkpoint.py",
    } <= trained
    assert (
        not {"gpt/trainer/__main__.py", "gpt/generation/sample.py"} & trained
    )  # a program's arguments, and what comes after training
    for stage in ("tokenize", "pack"):  # what they read, and the figures of gzip and xz, are made there
        assert "flows/stages/documents.py" in STAGES[stage].sources
    packed = names("gpt/evaluation/baselines.py")  # packing needs no model
    rooms = {
        "": ("", "settings"),
        "data/": ("", "dataset", "shards", "tokenizer"),
        "evaluation/": ("", "baselines"),
    }
    assert packed == {f"gpt/{room}{name or '__init__'}.py" for room, names in rooms.items() for name in names}
