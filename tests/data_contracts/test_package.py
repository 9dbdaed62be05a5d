"""The package as a neighbour: cheap to import, leaning on nothing it should not, open to one more corpus."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import data_contracts
from data_contracts import DataError, corpora
from data_contracts.clean.change import text_rules
from data_contracts.rules import Rules
from data_contracts.sources.source import Source, fetch

PACKAGE = Path(data_contracts.__file__).parent


def test_importing_the_package_loads_nothing_heavy():
    heavy = "{'polars', 'pandera', 'pandas', 'kagglehub', 'requests', 'numpy', 'matplotlib'}"
    code = f"import sys, data_contracts; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0


def test_it_imports_no_other_part_of_the_project():
    forbidden = {"flows", "gpt", "tokenizers", "prefect", "mlflow"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not forbidden & {module.split(".")[0] for module in modules}, path


def test_every_corpus_has_all_its_parts():
    assert corpora.names() == sorted(
        [
            "covid-tweets",
            "python-docs",
            "qanon",
            "rick-and-morty",
            "shakespeare",
            "trump",
            "vaccine-myths",
            "wiki",
            "wsb",
        ]
    )
    for name in [*corpora.names(), "my own"]:
        module = corpora.find(name)
        assert all(hasattr(module, part) for part in ("FILES", "Raw", "read", "documents")), name
        everything_on = Rules(entities=True, normalize="NFC", urls="mask", emails="mask", mentions="mask", spaces=True)
        for rule in getattr(module, "RULES", ()):  # no <NAME> of a piece that is not there
            assert not re.search("<[A-Z_]+>", f"{rule.only} {rule.change.keywords['steps']}"), rule.name
        names = [rule.name for rule in text_rules(getattr(module, "RULES", ()), everything_on)]
        assert len(set(names)) == len(names), name


@pytest.mark.parametrize("name", ["shakespear", "rick_and_morty", "xyz"])
def test_an_unknown_corpus_is_a_users_own_and_not_built_in(tmp_path, name):
    assert corpora.find(name) is corpora.find("own")
    with pytest.raises(
        DataError, match=f"corpus '{name}' is not built in: its source needs kind kaggle, https or local"
    ):
        fetch(Source("builtin"), name, tmp_path)
