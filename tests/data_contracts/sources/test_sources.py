"""Sources: what identifies them, how they are fetched, and what is reported when they cannot be."""

import hashlib
import json
import shutil
import socket
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from data_contracts import DataError, Unreachable
from data_contracts.sources import files, https
from data_contracts.sources.source import Source, fetch, resolve
from tests.data_contracts.stub_server import Reply

TEXT = b"Once upon a time\n" * 50_000
SHA = hashlib.sha256(TEXT).hexdigest()


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("url", "usable"), [("HTTPS://a.example/b.txt", True), ("http://:80/b.txt", False)])
def test_an_address_has_a_scheme_in_any_case_and_a_host(url, usable):
    with nullcontext() if usable else pytest.raises(DataError, match="url is not an http"):
        Source("https", url=url, sha256="0" * 64)


def test_every_problem_of_a_source_is_reported_at_once():
    with pytest.raises(DataError) as error:
        Source("https", url="ftp://x", sha256="abc", handle="a/b", files=("../x",), max_files=-1)
    for part in (
        "handle has no effect",
        "url is not an http(s) address",
        "'abc' is not 64 hex",
        "'../x'",
        "max_files has no effect",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "https", "url": "https://example.org/a.txt"}, "sha256 is missing"),
        ({"kind": "local"}, "path is missing"),
        ({"kind": "kaggle", "handle": "https://www.kaggle.com/datasets/a/b"}, "is not owner/dataset"),
        ({"kind": "kaggle", "handle": "a/b/versions/0"}, "is not owner/dataset"),
        ({"kind": "builtin", "path": "x"}, "path has no effect"),
        ({"kind": "builtin", "max_files": 2}, "max_files has no effect"),
    ],
)
def test_a_source_that_cannot_work_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        Source(**arguments)


def test_pydantic_can_read_a_source():
    known = {"kind": "kaggle", "handle": "a/b", "files": ["x.csv"], "max_files": 3}
    assert TypeAdapter(Source).validate_python(known) == Source("kaggle", handle="a/b", files=("x.csv",), max_files=3)
    for wrong in ({"max_files": -3}, {"kind": "ftp"}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            TypeAdapter(Source).validate_python(known | wrong)


def test_builtin_is_identified_by_the_python_that_holds_it():
    version = ".".join(map(str, sys.version_info[:3]))
    assert resolve(Source("builtin"), "python-docs") == {"builtin": "python-docs", "python": version}


def test_a_corpus_that_is_not_built_in_says_so(target):
    with pytest.raises(DataError, match="'shakespeare' is not built in"):
        fetch(Source("builtin"), "shakespeare", target)


def test_moving_a_local_folder_changes_nothing(folder):
    contents = {
        "a.txt": "one",
        "deep/er/b.csv": "text\ntwo\n",
        ".hidden.txt": "no",
        "._a.txt": "no",
        "notes.xlsx": "no",
    }
    here, there = folder(contents, "here"), folder(contents, "there")
    identity = resolve(Source("local", path=str(here)), "mine")
    assert identity == resolve(Source("local", path=str(there)), "mine")
    assert identity == {
        "files": {name: hashlib.sha256(contents[name].encode()).hexdigest() for name in ("a.txt", "deep/er/b.csv")}
    }
    assert str(here) not in json.dumps(identity)


def test_local_files_are_copied_without_the_hidden_ones(folder, target):
    here = folder(
        {"a.txt": "one", "deep/b.csv": "text\ntwo\n", "deep/._b.csv": "no", ".git/c.txt": "no", "d.xlsx": "no"}
    )
    reported = []
    fetch(Source("local", path=str(here)), "mine", target, lambda *words: reported.append(words))
    assert names(target) == ["a.txt", "deep/b.csv"]
    assert reported == [(3 / 12, "1/2 files, 3 bytes of 12 bytes"), (1.0, "2/2 files, 12 bytes of 12 bytes")]
    (here / "a.txt").write_text("edited later")
    assert (target / "a.txt").read_text() == "one"


def test_one_file_or_some_files_of_a_folder(folder, target):
    here = folder({"a.txt": "one", "b.txt": "two"})
    fetch(Source("local", path=str(here), files=("b.txt",)), "mine", target)
    fetch(Source("local", path=str(here / "a.txt")), "mine", target)
    assert names(target) == ["a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("n", "part", "expected"),
    [
        (5, {"max_files": 2}, 2),
        (5, {"max_files": 9}, 5),
        (5, {"max_files": 1, "files": ("4.txt", "3.txt")}, 1),
    ],
)
def test_a_part_of_a_folder_is_its_first_files(folder, target, n, part, expected):
    here = folder({f"{i}.txt": str(i) for i in range(n)})
    source = Source("local", path=str(here), **part)
    fetch(source, "mine", target)
    there = sorted(part.get("files", [f"{i}.txt" for i in range(n)]))
    assert names(target) == there[:expected]
    assert list(resolve(source, "mine")["files"]) == there[:expected]
    assert list(resolve(source, "mine")) == ["files"]


def test_a_disk_that_is_too_small_is_reported_before_anything_is_copied(folder, target, monkeypatch):
    source = Source("local", path=str(folder({"a.txt": "one", "b.txt": "two"})))
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(5, 0, 5))
    with pytest.raises(DataError, match=r"mine needs 6 bytes, .*/target has 5 bytes free\n.*max_files.* GPT_HOME "):
        fetch(source, "mine", target)
    assert names(target) == []


def test_a_disk_that_is_full_in_the_middle(folder, target):
    (target / "a.txt").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        fetch(Source("local", path=str(folder({"a.txt": "one"}))), "mine", target)


@pytest.mark.parametrize(
    ("path", "corpus", "message"),
    [
        ("nowhere", "mine", "does not exist"),
        ("raw", "rick-and-morty", r"holds no file that corpus 'rick-and-morty' can read \(\*.csv\)"),
        ("raw/a.xlsx", "mine", "a.xlsx holds no file that corpus 'mine' can read .*; it has 1 files: a.xlsx"),
    ],
)
def test_a_local_path_that_cannot_be_used(folder, tmp_path, path, corpus, message):
    folder({"a.xlsx": "x", "b.txt": "y"})
    for use in (resolve, lambda source, name: fetch(source, name, tmp_path)):
        with pytest.raises(DataError, match=message):
            use(Source("local", path=str(tmp_path / path)), corpus)


def test_a_named_file_that_is_missing(folder):
    with pytest.raises(DataError, match=r"does not hold c.txt; it has 1 files: a.txt"):
        resolve(Source("local", path=str(folder({"a.txt": "x"})), files=("c.txt",)), "mine")


def test_https(stub, target):
    stub.files["/data/input.txt"] = [Reply(body=TEXT)]
    source = Source("https", url=f"{stub.url}/data/input.txt?token=hush", sha256=SHA.upper())
    reported = []
    fetch(source, "shakespeare", target, lambda *words: reported.append(words))
    assert names(target) == ["input.txt"]
    assert (target / "input.txt").read_bytes() == TEXT
    assert len(reported) > 2
    assert reported[-1] == (1.0, "1/1 files, 850.0 kB of 850.0 kB")
    assert resolve(source, "shakespeare") == {"sha256": SHA}


@pytest.mark.parametrize("bad", [Reply(500), Reply(429), Reply(503), Reply(body=TEXT, cut=100_000)])
def test_https_tries_again_what_may_pass(stub, target, bad):
    stub.files["/input.txt"] = [bad, bad, Reply(body=TEXT)]
    fetch(Source("https", url=f"{stub.url}/input.txt", sha256=SHA), "shakespeare", target)
    assert (target / "input.txt").read_bytes() == TEXT
    assert stub.requests[0] == "GET /input.txt"
    assert len(stub.requests) == 3


RANGES = {"Accept-Ranges": "bytes"}
KEPT = 131_072  # of 150,000 bytes: whole blocks


@pytest.mark.parametrize(
    ("then", "asked"),
    [
        ([Reply(body=TEXT, headers=RANGES)], [f"bytes={KEPT - 1}-"]),
        ([Reply(body=TEXT)], [f"bytes={KEPT - 1}-"]),
        ([Reply(503), Reply(body=TEXT, headers=RANGES)], [f"bytes={KEPT - 1}-", f"bytes={KEPT - 1}-"]),
        ([Reply(416), Reply(body=TEXT)], [f"bytes={KEPT - 1}-", ""]),
        ([Reply(206, TEXT, {"Content-Range": "bytes 0-9/10"}), Reply(body=TEXT)], [f"bytes={KEPT - 1}-", ""]),
        ([Reply(body=TEXT[::-1], headers=RANGES), Reply(body=TEXT)], [f"bytes={KEPT - 1}-", ""]),
    ],
    ids=["goes on", "Range ignored", "503", "416", "another range", "another file"],
)
def test_https_goes_on_where_it_broke_off(stub, target, then, asked):
    stub.files["/input.txt"] = [Reply(body=TEXT, cut=150_000), *then]
    source, reported = Source("https", url=f"{stub.url}/input.txt", sha256=SHA), []
    fetch(source, "shakespeare", target, lambda *words: reported.append(words))
    assert (target / "input.txt").read_bytes() == TEXT
    assert reported[-1][1] == "1/1 files, 850.0 kB of 850.0 kB"
    assert names(target) == ["input.txt"]
    assert stub.requests == ["GET /input.txt", *(f"GET /input.txt {part}".strip() for part in asked)]


def test_https_over_a_line_that_breaks_more_often_than_there_are_attempts(stub, target):
    whole = Reply(body=TEXT, headers=RANGES)
    stub.files["/input.txt"] = [Reply(body=TEXT, headers=RANGES, cut=100_000)] * 6 + [whole]
    fetch(Source("https", url=f"{stub.url}/input.txt", sha256=SHA), "shakespeare", target)
    assert (target / "input.txt").read_bytes() == TEXT
    assert len(stub.requests) == 7


def test_https_goes_on_in_the_next_run(stub, target):
    source = Source("https", url=f"{stub.url}/input.txt", sha256=SHA)
    stub.files["/input.txt"] = [Reply(body=TEXT, cut=150_000), Reply(503)]
    with pytest.raises(Unreachable, match=r"answered 503 \(Service Unavailable\), 4 times\n.*what came is kept"):
        fetch(source, "shakespeare", target)
    assert names(target) == ["input.txt.part"]
    stub.files["/input.txt"] = [Reply(body=TEXT, headers=RANGES)]
    stub.asked()
    fetch(source, "shakespeare", target)
    assert stub.requests == [f"GET /input.txt bytes={KEPT - 1}-"]
    assert names(target) == ["input.txt"]


@pytest.mark.parametrize(
    ("reply", "message"),
    [(Reply(stall=True), "in time"), (Reply(body=TEXT, cut=150_000, stall=True), "went silent")],
    ids=["start", "middle"],
)
def test_https_gives_a_silent_server_up(stub, target, monkeypatch, reply, message):
    monkeypatch.setattr(https, "TIMEOUT_SECONDS", (0.2, 0.2))
    stub.files["/input.txt"] = [reply]
    before = time.monotonic()
    with pytest.raises(Unreachable, match=f"{message}, 4 times"):
        fetch(Source("https", url=f"{stub.url}/input.txt", sha256=SHA), "shakespeare", target)
    assert time.monotonic() - before < 5
    assert "input.txt" not in names(target)


def test_https_needs_room(stub, target, monkeypatch):
    stub.files["/input.txt"] = [Reply(body=TEXT)]
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(5, 0, 5))
    with pytest.raises(DataError, match=r"input.txt needs 850.0 kB, .* has 5 bytes free"):
        fetch(Source("https", url=f"{stub.url}/input.txt", sha256=SHA), "shakespeare", target)
    assert names(target) == []


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
    with pytest.raises(Unreachable, match="no connection, 4 times") as error:
        fetch(Source("https", url=f"http://127.0.0.1:{port}/input.txt", sha256=SHA), "shakespeare", target)
    assert len(str(error.value).splitlines()) == 2


def test_progress_is_optional(folder, target):
    fetch(Source("local", path=str(folder({"a.txt": "x"}))), "mine", target)
    assert names(target) == ["a.txt"]
