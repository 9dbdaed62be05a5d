"""Sources: what identifies them, how they are fetched, and what is said when they cannot be."""

import hashlib
import json
import socket
import sys
from pathlib import Path

import pytest

from data_contracts import DataError, sources
from data_contracts.sources import Source, fetch, resolve
from tests.data_contracts.stub_server import Reply

TEXT = b"Once upon a time\n" * 50_000
SHA = hashlib.sha256(TEXT).hexdigest()


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_every_problem_of_a_source_is_said_at_once():
    with pytest.raises(DataError) as error:
        Source("https", url="ftp://x", sha256="abc", handle="a/b", files=("../x",))
    for part in ("handle has no effect", "url is not an http(s) address", "'abc' is not 64 hex", "'../x'"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"kind": "ftp"}, "kind is not one of builtin, https, local, kaggle"),
        ({"kind": "https", "url": "https://example.org/a.txt"}, "sha256 is missing"),
        ({"kind": "local"}, "path is missing"),
        ({"kind": "kaggle", "handle": "https://www.kaggle.com/datasets/a/b"}, "is not owner/dataset"),
        ({"kind": "kaggle", "handle": "a/b/versions/0"}, "is not owner/dataset"),
        ({"kind": "builtin", "path": "x"}, "path has no effect"),
    ],
)
def test_a_source_that_cannot_work_is_refused(arguments, said):
    with pytest.raises(DataError, match=said):
        Source(**arguments)


def test_pydantic_can_read_a_source():
    from pydantic import TypeAdapter

    source = TypeAdapter(Source).validate_python({"kind": "kaggle", "handle": "a/b", "files": ["x.csv"]})
    assert source == Source("kaggle", handle="a/b", files=("x.csv",))


def test_builtin_is_identified_by_the_python_that_holds_it():
    version = ".".join(map(str, sys.version_info[:3]))
    assert resolve(Source("builtin"), "python-docs") == {"builtin": "python-docs", "python": version}


def test_a_corpus_that_is_not_built_in_says_so(target):
    with pytest.raises(DataError, match="'shakespeare' is not built in"):
        fetch(Source("builtin"), "shakespeare", target)


def test_moving_a_local_folder_changes_nothing(folder):
    contents = {"a.txt": "one", "deep/er/b.csv": "text\ntwo\n", ".hidden.txt": "no", "._a.txt": "no", "notes.md": "no"}
    here, there = folder(contents, "here"), folder(contents, "there")
    identity = resolve(Source("local", path=str(here)), "mine")
    assert identity == resolve(Source("local", path=str(there)), "mine")
    assert identity == {
        "files": {name: hashlib.sha256(contents[name].encode()).hexdigest() for name in ("a.txt", "deep/er/b.csv")}
    }
    assert str(here) not in json.dumps(identity)


def test_local_files_are_copied_without_the_hidden_ones(folder, target):
    here = folder(
        {"a.txt": "one", "deep/b.csv": "text\ntwo\n", "deep/._b.csv": "no", ".git/c.txt": "no", "d.pdf": "no"}
    )
    shares = []
    fetch(Source("local", path=str(here)), "mine", target, shares.append)
    assert names(target) == ["a.txt", "deep/b.csv"]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    (here / "a.txt").write_text("edited later")
    assert (target / "a.txt").read_text() == "one"


def test_one_file_or_some_files_of_a_folder(folder, target):
    here = folder({"a.txt": "one", "b.txt": "two"})
    fetch(Source("local", path=str(here), files=("b.txt",)), "mine", target)
    fetch(Source("local", path=str(here / "a.txt")), "mine", target)
    assert names(target) == ["a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("path", "corpus", "said"),
    [
        ("nowhere", "mine", "does not exist"),
        ("raw", "rick-and-morty", r"holds no file that corpus 'rick-and-morty' can read \(\*.csv\)"),
        ("raw/a.pdf", "mine", "is not a file that corpus 'mine' can read"),
    ],
)
def test_a_local_path_that_cannot_be_used(folder, tmp_path, path, corpus, said):
    folder({"a.pdf": "x", "b.txt": "y"})
    for use in (resolve, lambda source, name: fetch(source, name, tmp_path)):
        with pytest.raises(DataError, match=said):
            use(Source("local", path=str(tmp_path / path)), corpus)


def test_a_named_file_that_is_missing(folder):
    with pytest.raises(DataError, match=r"does not hold c.txt; it has 1 files: a.txt"):
        resolve(Source("local", path=str(folder({"a.txt": "x"})), files=("c.txt",)), "mine")


def test_a_file_that_cannot_be_written_is_named(folder, target):
    (target / "a.txt").mkdir()
    with pytest.raises(DataError, match=r"a.txt: Is a directory"):
        fetch(Source("local", path=str(folder({"a.txt": "one"}))), "mine", target)


def test_https(stub, target):
    stub.files["/data/input.txt"] = [Reply(body=TEXT)]
    source = Source("https", url=f"{stub.url}/data/input.txt?token=hush", sha256=SHA.upper())
    shares = []
    fetch(source, "shakespeare", target, shares.append)
    assert names(target) == ["input.txt"]
    assert (target / "input.txt").read_bytes() == TEXT
    assert len(shares) > 2
    assert shares[-1] == 1.0
    assert resolve(source, "shakespeare") == {"sha256": SHA}


@pytest.mark.parametrize("bad", [Reply(500), Reply(429), Reply(503), Reply(body=TEXT, cut=100_000)])
def test_https_tries_again_what_may_pass(stub, target, bad):
    stub.files["/input.txt"] = [bad, bad, Reply(body=TEXT)]
    fetch(Source("https", url=f"{stub.url}/input.txt", sha256=SHA), "shakespeare", target)
    assert (target / "input.txt").read_bytes() == TEXT
    assert len(stub.requests) == 3


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (500, 4)])
def test_https_gives_up(stub, target, status, requests):
    stub.files["/input.txt"] = [Reply(status)]
    with pytest.raises(DataError, match=f"input.txt.* answered {status}") as error:
        fetch(Source("https", url=f"{stub.url}/input.txt?token=hush", sha256=SHA), "shakespeare", target)
    assert "hush" not in str(error.value)
    assert len(stub.requests) == requests
    assert names(target) == []


def test_https_with_another_sha256_names_both(stub, target):
    stub.files["/input.txt"] = [Reply(body=TEXT + b"!")]
    with pytest.raises(DataError) as error:
        fetch(Source("https", url=f"{stub.url}/input.txt", sha256=SHA), "shakespeare", target)
    assert SHA in str(error.value)
    assert hashlib.sha256(TEXT + b"!").hexdigest() in str(error.value)
    assert names(target) == []


def test_no_network(stub, target):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(DataError, match="no connection, 4 times") as error:
        fetch(Source("https", url=f"http://127.0.0.1:{port}/input.txt", sha256=SHA), "shakespeare", target)
    assert len(str(error.value).splitlines()) == 2


def test_progress_is_optional():
    assert sources.ignore(0.5) is None
