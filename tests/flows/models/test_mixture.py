"""A model of a mixture of corpora: made of their clean documents, scored on each of them, and refused where it is none."""

import json

import mlflow
import pytest

from flows.store.artifacts import Store
from tests.flows.cli.test_command import assert_refused
from tests.flows.conftest import TINY, gpt_here, own_home, settings
from tests.flows.models.test_start import notes

MIX = settings({"mix.one": 0.7, "mix.two": 0.3})


@pytest.fixture(scope="module")
def folder(tmp_path_factory, prefect_server, empty_mlflow):
    """With a home in which `one` and `two` were cleaned, and `blend` trained on both."""
    folder = tmp_path_factory.mktemp("mixed")
    with own_home(folder / "home", prefect_server, empty_mlflow):
        for name, step in (("one", 3), ("two", 5)):
            assert gpt_here("clean", "--from", notes(folder / name, step), "--name", name).returncode == 0
        made = gpt_here("train", "blend", *MIX, *TINY)
        assert made.returncode == 0, made.stderr
        assert "of each part" in made.stderr
        yield folder


def test_each_part_is_scored_and_named(folder):
    [run] = mlflow.search_runs(search_all_experiments=True, output_format="list")
    parts = {name: value for name, value in run.data.metrics.items() if name.startswith("test/bpb/")}
    assert parts.keys() == {"test/bpb/one", "test/bpb/two"}
    assert min(parts.values()) <= run.data.metrics["test/bpb"] <= max(parts.values())
    explained = json.loads(gpt_here("explain", "blend", "--step", "1", "--json").stdout)
    assert {row["file"].split("/")[0] for row in explained} == {"one", "two"}


def test_it_is_made_of_the_newest_documents_of_its_parts(folder):
    why = ("why", "blend", *MIX, *TINY, "--json")
    assert {row["would"] for row in json.loads(gpt_here(*why).stdout)} == {"be reused"}
    (folder / "two" / "61.txt").write_text("a text that came later, " * 9)
    assert gpt_here("clean", "--from", str(folder / "two"), "--name", "two").returncode == 0
    stages = json.loads(gpt_here(*why).stdout)
    assert stages[0]["would"] == "run"
    assert stages[0]["because"].startswith("mix.two [0.3, ")


def test_a_part_without_documents_is_cleaned(folder):
    made = gpt_here("clean", "more", *settings({"mix.python-docs": "auto", "mix.one": "auto"}))
    assert made.returncode == 0, made.stderr
    assert [manifest["corpus"] for manifest in Store(folder / "home").manifests("*", "clean")][-2:] == [
        "python-docs",
        "more",
    ]


@pytest.mark.parametrize(
    ("corpus", "mix", "expected"),
    [
        ("one", {"mix.one": 1, "mix.two": 1}, "a mixture has no source, and gives each of some other corpora a share"),
        ("bad", {"mix.one": 0, "mix.two": 1}, "greater than 0"),
        ("bad", {"mix.one": "auto", "mix.two": 1}, "other corpora a share, or each auto"),
        ("bad", {"mix.one": 1, "mix.nobody": 1}, "corpus 'nobody' is not known"),
    ],
)
def test_what_is_no_mixture_is_refused(folder, corpus, mix, expected):
    assert_refused(gpt_here("train", corpus, *settings(mix), *TINY), expected)
