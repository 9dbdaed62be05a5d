"""Kaggle, end to end against a server that speaks its protocol, through kagglesdk itself."""

import logging
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

from data_contracts import DataError, Unreachable
from data_contracts.sources import files, https
from data_contracts.sources.source import Source, fetch, resolve
from flows.recipe import load_recipe
from flows.stages.definitions import STAGES, Job
from flows.store.artifacts import Store
from tests.data_contracts.stub_server import HTML, LOGIN, Dataset, Reply

HANDLE = "andradaolteanu/rickmorty-scripts"
PINNED = Source("kaggle", handle=f"{HANDLE}/versions/3")
HEADER = "index,season no.,episode no.,episode name,name,line\n"
SCRIPT = (HEADER + "".join(f"{i},1,{1 + i // 50},Pilot,Rick,Line {i} of it\n" for i in range(9000))).encode()
SHORT = SCRIPT[:500]
CUT = 200_000
KEPT = 196_608  # of it: whole chunks of 64 KiB
RESUMED = f"GET a.csv bytes={KEPT - 1}-"
WRONG = Reply(body=b"x" * len(SCRIPT), headers={"x-goog-hash": "md5=AAAAAAAAAAAAAAAAAAAAAA=="})
LIST, LINK, GET = "ListDatasetFiles", "DownloadDataset a.csv", "GET a.csv"


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


@pytest.fixture
def kaggle_has(kaggle_stub):
    """kaggle_has({"a.csv": ...}, link=...) puts a dataset on the server, which it returns."""

    def put(files: dict[str, bytes] | None = None, **how):
        kaggle_stub.datasets[HANDLE] = Dataset({"a.csv": SCRIPT} if files is None else files, **how)
        return kaggle_stub

    return put


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def wait_for(done, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_real_rick_and_morty(kaggle_stub, target, shared_data):
    script = shared_data / "kaggle" / HANDLE / "RickAndMortyScripts.csv"
    kaggle_stub.datasets[HANDLE] = Dataset({script.name: script.read_bytes()})
    source, reported = Source("kaggle", handle=HANDLE), []
    assert resolve(source, "rick-and-morty") == {"handle": HANDLE, "version": 3, "files": ["*.csv"]}
    fetch(PINNED, "rick-and-morty", target, lambda *words: reported.append(words))
    assert names(target) == [script.name]
    assert (target / script.name).read_bytes() == script.read_bytes()
    assert reported[-1] == (1.0, "1/1 files, 210.1 kB of 210.1 kB")


def test_a_pinned_version_needs_no_network_to_be_named():
    assert resolve(PINNED, "rick-and-morty") == {"handle": HANDLE, "version": 3, "files": ["*.csv"]}
    subset = Source("kaggle", handle=PINNED.handle, max_files=2)
    assert resolve(subset, "rick-and-morty") == {"handle": HANDLE, "version": 3, "files": ["*.csv"], "max_files": 2}
    subset = Source("kaggle", handle=PINNED.handle, max_files=1, files=("b.csv", "a.csv"))
    assert resolve(subset, "rick-and-morty")["files"] == ["a.csv", "b.csv"]
    assert resolve(subset, "rick-and-morty")["max_files"] == 1


FILES = {
    "deep/er/c.csv": SHORT,
    "b.csv": SHORT + b"b",
    "A.CSV": SHORT + b"a",
    "._b.csv": b"no",
    ".hidden/x.csv": b"no",
    "__MACOSX/b.csv": b"no",
    "../out.csv": b"no",
    "/abs.csv": b"no",
    "readme.md": b"no",
}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({}, ["A.CSV", "b.csv", "deep/er/c.csv"]),
        ({"files": ("deep/er/c.csv",)}, ["deep/er/c.csv"]),
        ({"max_files": 2}, ["A.CSV", "b.csv"]),
    ],
    ids=["all", "named", "max_files"],
)
def test_only_the_wanted_files_are_downloaded(kaggle_has, target, part, expected):
    stub, reported = kaggle_has(FILES, page=4), []
    fetch(
        Source("kaggle", handle=PINNED.handle, **part), "rick-and-morty", target, lambda *words: reported.append(words)
    )
    assert names(target) == expected
    assert (target / expected[-1]).read_bytes() == FILES[expected[-1]]
    fetched = [line for name in expected for line in (f"DownloadDataset {name}", f"GET {name}")]
    assert stub.requests == [LIST, f"{LIST} 4", f"{LIST} 8", *fetched]
    assert [share for share, _ in reported] == sorted(share for share, _ in reported)
    assert reported[-1][1].startswith(f"{len(expected)}/{len(expected)} files")


def test_a_list_that_never_ends_is_left(kaggle_has, target):
    again = Reply(body=b'{"datasetFiles": [{"name": "a.csv"}], "nextPageToken": "0"}')
    stub = kaggle_has(listing=[again, again, again])
    fetch(PINNED, "rick-and-morty", target)
    assert stub.requests == [LIST, f"{LIST} 0", LINK, GET]


PAUSED = [LINK, LINK, LINK]


@pytest.mark.parametrize(
    ("how", "asked"),
    [
        ({"listing": [Reply(503), Reply(429)]}, [LIST, LIST, LIST, LINK, GET]),
        ({"link": [Reply(500), Reply(429)]}, [LIST, *PAUSED, GET]),
        ({"storage": [Reply(503)]}, [LIST, LINK, GET, LINK, GET]),
        ({"storage": [Reply(cut=CUT)]}, [LIST, LINK, GET, LINK, RESUMED]),
        ({"storage": [Reply(cut=CUT)], "zipped": True}, [LIST, LINK, GET, LINK, RESUMED]),
        ({"storage": [Reply(cut=CUT)], "hashed": False}, [LIST, LINK, GET, LINK, RESUMED]),
        (
            {"storage": [Reply(cut=CUT), Reply(503)]},
            [LIST, LINK, GET, LINK, RESUMED, LINK, RESUMED],
        ),
        (  # Range is not honoured, and nothing else would tell
            {"storage": [Reply(cut=CUT), Reply(body=SCRIPT)], "hashed": False, "sized": False},
            [LIST, LINK, GET, LINK, RESUMED],
        ),
        (
            {
                "storage": [Reply(cut=CUT), Reply(206, SCRIPT[9:], {"Content-Range": "bytes 9-99/100"})],
                "hashed": False,
                "sized": False,
            },
            [LIST, LINK, GET, LINK, RESUMED, LINK, GET],
        ),
        ({"storage": [WRONG]}, [LIST, LINK, GET, LINK, GET]),
        ({"storage": [Reply(body=b"PK\3\4" + SCRIPT)], "zipped": True, "hashed": False}, [LIST, LINK, GET, LINK, GET]),
        (
            {"storage": [Reply(cut=CUT, headers={"Content-Length": None})], "hashed": False},
            [LIST, LINK, GET, LINK, GET],
        ),
        ({"storage": [Reply(cut=CUT, headers={"Content-Length": None})]}, [LIST, LINK, GET, LINK, GET]),
        ({"storage": [LOGIN], "hashed": False, "sized": False}, [LIST, LINK, GET, LINK, GET]),
        ({"storage": [Reply(body=HTML)], "hashed": False, "sized": False}, [LIST, LINK, GET, LINK, GET]),
        ({"storage": [Reply(body=b'{"code": 500}')], "hashed": False}, [LIST, LINK, GET, LINK, GET]),
        ({"link": [LOGIN]}, [LIST, LINK, LINK, GET]),
        ({"link": [Reply(body=b'{"code": 503, "message": "no"}', headers={"Content-Type": "application/json"})]}, None),
        (  # which kagglesdk would take for an answer of its own, and read into memory
            {"storage": [Reply(headers={"Content-Type": "application/json"})]},
            [LIST, LINK, GET],
        ),
    ],
    ids=[
        "list 503 then 429",
        "link 500 then 429",
        "storage 503",
        "cut",
        "cut zip",
        "cut without hash",
        "cut then 503",
        "Range ignored",
        "another Range",
        "wrong md5",
        "broken zip",
        "short without length or hash",
        "short without length",
        "login page",
        "HTML as data",
        "JSON error as data",
        "login page for a link",
        "JSON error with 200",
        "JSON type",
    ],
)
def test_what_may_pass_is_tried_again(kaggle_has, target, how, asked):
    how |= {hop: {"a.csv": list(how[hop])} for hop in ("link", "storage") if hop in how}
    stub = kaggle_has(**how)
    fetch(PINNED, "rick-and-morty", target)
    assert names(target) == ["a.csv"]
    assert (target / "a.csv").read_bytes() == SCRIPT
    assert stub.requests == (asked or [LIST, LINK, LINK, GET])


def test_a_login_page_is_no_text(kaggle_has, target):
    """Nothing but its type tells that it is not the file, where any text would do and neither size nor hash is known."""
    kaggle_has({"a.txt": SHORT}, storage={"a.txt": [LOGIN]}, hashed=False, sized=False)
    fetch(PINNED, "mine", target)
    assert (target / "a.txt").read_bytes() == SHORT


def test_a_line_that_breaks_more_often_than_there_are_attempts(kaggle_has, target):
    stub = kaggle_has(storage={"a.csv": [Reply(cut=70_000)] * 5})
    fetch(PINNED, "rick-and-morty", target)
    assert (target / "a.csv").read_bytes() == SCRIPT
    assert len(stub.requests) == 1 + 2 * 6 > 3 * https.ATTEMPTS


MANY = https.ATTEMPTS * 3
SIGN_IN = "KAGGLE_API_TOKEN, or KAGGLE_USERNAME with KAGGLE_KEY, or ~/.kaggle"


@pytest.mark.parametrize(
    ("files", "how", "message", "requests"),
    [
        ({}, {"version": 4}, "Kaggle answered 404\n.*" + SIGN_IN, 1),
        (
            None,
            {"listing": [Reply(403)]},
            r"answered 403\n.*terms on kaggle.com/datasets/\S+rickmorty-scripts, .*" + SIGN_IN,
            1,
        ),
        (None, {"link": [Reply(401)]}, f"cannot download a.csv of {HANDLE}.*answered 401\n.*{SIGN_IN}", 2),
        (None, {"storage": [Reply(404)]}, f"a.csv of {HANDLE}.*: the server answered 404", 3),
        (None, {"listing": [Reply(503)] * MANY}, "Kaggle answered 503, 4 times", 4),
        (None, {"link": [Reply(429)] * MANY}, "a.csv of .*: Kaggle answered 429, 4 times", 5),
        (None, {"listing": [LOGIN] * MANY}, "a web page came, not data", 4),
        (
            None,
            {"storage": [Reply(cut=10)] * MANY},
            "cannot download a.csv .*the connection broke, 4 times",
            9,
        ),
        (None, {"storage": [WRONG] * MANY}, "a.csv .* damaged: its md5 is wrong, 4 times", 9),
        (
            None,
            {"storage": [Reply(body=SHORT)] * MANY, "hashed": False},
            f"damaged: 500 bytes came, Kaggle lists {len(SCRIPT)}, 4 times",
            9,
        ),
        ({"a.csv": b""}, {}, "a.csv is empty", 9),
        ({"a.csv": HTML}, {}, "a.csv is an HTML page", 9),
        ({"a.zip": b"PK", "b.md": b"hi"}, {}, r"holds no file .* \(\*.csv\); it has 2 files: a.zip, b.md", 1),
        ({}, {}, "it has 0 files", 1),
    ],
    ids=[
        "another version",
        "403",
        "401",
        "storage 404",
        "503",
        "429",
        "login page",
        "always cut",
        "always wrong md5",
        "always short",
        "empty",
        "HTML",
        "other files",
        "no files",
    ],
)
def test_what_cannot_be_had_is_reported(kaggle_has, target, monkeypatch, files, how, message, requests):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "hush-hush")
    how |= {hop: {"a.csv": list(how[hop])} for hop in ("link", "storage") if hop in how}
    stub = kaggle_has(files, **how)
    with pytest.raises(DataError, match=message) as error:
        fetch(PINNED, "rick-and-morty", target)
    assert stub.tokens[0] == "Bearer hush-hush"
    assert len(stub.requests) == requests
    assert "hush" not in str(error.value)
    assert "secret" not in str(error.value)
    assert len(str(error.value).splitlines()) <= 2
    assert set(names(target)) <= {"a.csv.part"}
    fresh = kaggle_has({"a.csv": SCRIPT})  # the next run recovers by itself
    fetch(PINNED, "rick-and-morty", target)
    assert (target / "a.csv").read_bytes() == SCRIPT
    assert names(target) == ["a.csv"]
    assert fresh.requests[requests:][0] == LIST


def test_a_named_file_that_is_missing(kaggle_has, target):
    kaggle_has({"a.csv": SHORT})
    with pytest.raises(DataError, match=r"Kaggle's .* does not hold b.csv; it has 1 files: a.csv"):
        fetch(Source("kaggle", handle=PINNED.handle, files=("b.csv",)), "rick-and-morty", target)


SILENT = [Reply(stall=True)] * https.ATTEMPTS
SILENT_AGAIN = [Reply(cut=10, stall=True)] * https.ATTEMPTS


@pytest.mark.parametrize(
    ("hop", "replies", "reason"),
    [
        ("view", SILENT, "did not answer in time"),
        ("listing", SILENT, "did not answer in time"),
        ("link", SILENT, "did not answer in time"),
        ("storage", SILENT, "did not answer in time"),
        ("storage", SILENT_AGAIN, "went silent"),
    ],
    ids=["version", "list", "link", "storage", "middle"],
)
def test_a_silent_server_is_given_up(kaggle_has, monkeypatch, target, hop, replies, reason):
    """kagglesdk sets no time-out of its own."""
    kaggle_has(**{hop: {"a.csv": replies[:]} if hop in ("link", "storage") else replies[:]})
    monkeypatch.setattr(https, "TIMEOUT_SECONDS", (5, 0.3))
    before = time.monotonic()
    with pytest.raises(Unreachable, match=rf"cannot download .*the server {reason}, 4 times\n.*try again later"):
        fetch(PINNED if hop != "view" else _now(), "rick-and-morty", target)
    assert time.monotonic() - before < 20
    assert "a.csv" not in names(target)


def test_a_download_that_went_silent_is_resumed(kaggle_has, monkeypatch, target):
    silent = [Reply(cut=CUT, stall=True), *SILENT]
    stub, patience = kaggle_has(storage={"a.csv": silent}), https.TIMEOUT_SECONDS
    monkeypatch.setattr(https, "TIMEOUT_SECONDS", (5, 0.3))
    with pytest.raises(Unreachable):
        fetch(PINNED, "rick-and-morty", target)
    monkeypatch.setattr(https, "TIMEOUT_SECONDS", patience)
    stub.asked()
    fetch(PINNED, "rick-and-morty", target)
    assert stub.requests == [LIST, LINK, RESUMED]
    assert (target / "a.csv").read_bytes() == SCRIPT


def _now() -> Source:
    """The source of the current version, as a flow would name it."""
    identity = resolve(Source("kaggle", handle=HANDLE), "rick-and-morty")
    return Source("kaggle", handle=f"{HANDLE}/versions/{identity['version']}")


def test_no_network(kaggle_stub, monkeypatch, target):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
    with pytest.raises(Unreachable, match=r"cannot download .*, 4 times\n") as error:
        fetch(PINNED, "rick-and-morty", target)
    assert len(str(error.value).splitlines()) == 2


def test_a_new_version_is_fetched_anew_and_another_one_not_at_all(kaggle_has, target):
    stub = kaggle_has({"a.csv": SHORT})
    assert _now() == PINNED
    fetch(PINNED, "rick-and-morty", target)
    stub.datasets[HANDLE] = Dataset({"a.csv": SHORT + b"!"}, version=4)
    assert resolve(Source("kaggle", handle=HANDLE), "rick-and-morty")["version"] == 4
    (target / "4").mkdir()
    fetch(_now(), "rick-and-morty", target / "4")
    assert (target / "4" / "a.csv").read_bytes() == SHORT + b"!"


def part_of(target: Path, name: str) -> Path:
    return target / f"{name}.part"


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "zipped"])
@pytest.mark.parametrize("spoiled", [b"", b"x"], ids=["whole", "spoiled"])
def test_a_leftover_of_full_length_is_neither_trusted_nor_sent_again(kaggle_has, target, zipped, spoiled):
    stub = kaggle_has(zipped=zipped, sized=False)
    body = stub.datasets[HANDLE].stored("a.csv")
    part_of(target, "a.csv").write_bytes(spoiled + body[len(spoiled) :])
    fetch(PINNED, "rick-and-morty", target)
    assert (target / "a.csv").read_bytes() == SCRIPT
    assert stub.requests[:3] == [LIST, LINK, f"GET a.csv bytes={len(body) - 1}-"]
    assert stub.requests[3:] == ([LINK, GET] if spoiled else [])
    assert names(target) == ["a.csv"]


def test_killed_while_it_unpacked(kaggle_has, target):
    stub = kaggle_has(zipped=True, sized=False)
    part_of(target, "a.csv").write_bytes(stub.datasets[HANDLE].stored("a.csv"))
    (target / "a.csv.unpacked").write_bytes(SCRIPT[:CUT])
    fetch(PINNED, "rick-and-morty", target)
    assert (target / "a.csv").read_bytes() == SCRIPT
    assert names(target) == ["a.csv"]
    assert len(stub.requests) == 3


def test_finished_files_stay(kaggle_has, target):
    stub = kaggle_has({"a.csv": SHORT, "b/c.csv": SHORT, "d.csv": SHORT})
    for name, content in {"a.csv": SHORT, "b/c.csv.part": SHORT[:9]}.items():
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_bytes(content)
    fetch(PINNED, "rick-and-morty", target)
    assert names(target) == ["a.csv", "b/c.csv", "d.csv"]
    assert (target / "b" / "c.csv").read_bytes() == SHORT
    assert LINK not in stub.requests
    assert len(stub.asked()) == 5
    fetch(PINNED, "rick-and-morty", target)
    assert stub.requests == [LIST]


def program(target: Path) -> subprocess.Popen:
    """Another process that fetches the dataset."""
    code = "import sys; from pathlib import Path; from data_contracts.sources.source import Source, fetch; "
    code += f"fetch(Source('kaggle', handle={PINNED.handle!r}), 'rick-and-morty', Path(sys.argv[1]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(target)], env=os.environ, cwd=Path(__file__).parents[3], stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_killed_download_goes_on_where_it_was(kaggle_has, target, how):
    middle = {"b.csv": [Reply(cut=CUT, stall=True)]}
    stub = kaggle_has({"a.csv": SHORT, "b.csv": SCRIPT, "c.csv": SHORT}, storage=middle)
    part = part_of(target, "b.csv")
    running = program(target)
    wait_for(lambda: part.exists() and part.stat().st_size == KEPT)
    running.send_signal(how)
    running.communicate(timeout=20)
    assert names(target) == ["a.csv", part.name]
    stub.asked()
    fetch(PINNED, "rick-and-morty", target)
    rest = [f"GET b.csv bytes={KEPT - 1}-", "DownloadDataset c.csv", "GET c.csv"]
    assert stub.requests == [LIST, "DownloadDataset b.csv", *rest]
    assert names(target) == ["a.csv", "b.csv", "c.csv"]
    assert (target / "b.csv").read_bytes() == SCRIPT


def test_what_does_not_fit_is_refused_before_it_is_fetched(kaggle_has, monkeypatch, target):
    stub = kaggle_has({"a.csv": SCRIPT, "b.csv": SCRIPT})
    free = 3 * len(SCRIPT) - 1  # two files, and one again while it is unpacked
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))
    with pytest.raises(DataError, match=r"rick-and-morty needs 1.0 MB, .*target has 1.0 MB free\n.*source.max_files"):
        fetch(PINNED, "rick-and-morty", target)
    assert stub.asked() == [LIST]
    part_of(target, "a.csv").write_bytes(b"x")  # what is there need not find room again
    fetch(PINNED, "rick-and-morty", target)


def test_a_disk_that_is_full_in_the_middle(kaggle_has, target):
    kaggle_has()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)  # the nearest to it that a test can have
    resource.setrlimit(resource.RLIMIT_FSIZE, (CUT, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large"):
            fetch(PINNED, "rick-and-morty", target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    "token",
    ["hush-hush", "hush-hush\n", "hush…hush", "hush" * 99],
    ids=["plain", "a line end in it", "not ASCII", "too long to be the name of a file"],
)
def test_no_token_and_no_signed_address_is_ever_shown(kaggle_has, monkeypatch, target, caplog, capfd, token):
    """Not in an error, its traceback, a log of any level or on a stream, whatever fails."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    monkeypatch.setenv("KAGGLE_LOGGING_ENABLED", "true")
    caplog.set_level(logging.DEBUG)
    moved = Reply(302, b"", {"Location": "http://localhost/nowhere?X-Goog-Signature=secret"})
    faults = [Reply(500), Reply(403), Reply(404, HTML), LOGIN, Reply(429), moved]
    odd = [Reply(cut=10), Reply(body=b"?"), Reply(body=b"[]")]
    stored = [*faults, Reply(cut=10), Reply(body=b"?"), WRONG]
    monkeypatch.setattr(https, "ATTEMPTS", 1)
    calls = {
        "view": (faults + odd, lambda: resolve(Source("kaggle", handle=HANDLE), "rick-and-morty")),
        "listing": (faults + odd, lambda: fetch(PINNED, "rick-and-morty", target)),
        "link": ({"a.csv": faults[:]}, lambda: fetch(PINNED, "rick-and-morty", target)),
        "storage": ({"a.csv": stored}, lambda: fetch(PINNED, "rick-and-morty", target)),
    }
    errors: list[Exception] = []
    for hop, (replies, call) in calls.items():
        queue = replies["a.csv"] if isinstance(replies, dict) else replies
        stub = kaggle_has(**{hop: replies})
        for _ in range(len(queue)):
            with pytest.raises(DataError) as error:
                call()
            errors.append(error.value)
        assert token != "hush-hush" or not queue
    if token == "hush-hush":
        assert len({str(error) for error in errors}) > 9
        assert set(stub.tokens) == {"Bearer hush-hush"}
        assert "X-Goog" not in caplog.text
        assert "/storage/" in caplog.text  # so that the log was listened to
    shown = "".join(line for error in errors for line in traceback.format_exception(error))
    shown += caplog.text + "".join(capfd.readouterr())
    assert "hush" not in shown.replace("test_no_token", "")
    assert "secret" not in shown


# The download stage of the flow, which rests on all this.


def test_code_decides_only_what_is_built_in(home):
    """A change to a reader or to the downloader is no reason to fetch 22 GiB again."""
    download = STAGES["download"]
    assert download.code(load_recipe("wiki")) == download.code(load_recipe("shakespeare")) == ""
    assert download.code(load_recipe("python-docs"))


@pytest.fixture
def stage(home, monkeypatch):
    """build(recipe) -> the download artifact; shown: the lines for whoever watches."""
    shown = []
    for room in ("stages.parameters", "store.artifacts"):
        monkeypatch.setattr(f"flows.{room}.log_line", shown.append)

    def build(handle: str = HANDLE, **source):
        overrides = {f"source.{name}": value for name, value in {"handle": handle, **source}.items()}
        recipe, stage = load_recipe("rick-and-morty", overrides=overrides), STAGES["download"]
        parameters = stage.parameters(recipe)
        nothing = lambda *_: None  # noqa: E731
        return Store(home).build(
            recipe.corpus,
            "download",
            parameters,
            {},
            "code",
            lambda folder: stage.make(Job(recipe, parameters, {}, folder, nothing, nothing, nothing)),
            resumable=stage.resumable,
        )

    build.shown = shown
    return build


def test_an_unchanged_version_is_reused_and_reported(kaggle_has, stage):
    stub = kaggle_has({"a.csv": SHORT})
    first, again = stage(), stage()
    assert (first.reused, again.reused, first.counts) == (False, True, {"files": 1, "bytes": 500})
    assert stage.shown == [f"kaggle {HANDLE}: current version is 3"] * 2
    assert stub.requests.count(LINK) == 1
    assert "secret" not in (again.folder / "manifest.json").read_text()
    stub.datasets[HANDLE].version = 4
    assert not stage().reused


def test_an_interrupted_stage_goes_on(kaggle_has, stage):
    stub = kaggle_has({"a.csv": SHORT, "b.csv": SHORT}, storage={"b.csv": [Reply(503)] * MANY})
    with pytest.raises(DataError):
        stage()
    stub.datasets[HANDLE].storage.clear()
    stub.asked()
    assert stage().counts["files"] == 2
    assert stub.requests == ["GetDataset", LIST, "DownloadDataset b.csv", "GET b.csv"]


def test_without_kaggle_the_newest_version_that_is_here(kaggle_has, stage, monkeypatch):
    stub = kaggle_has({"a.csv": SHORT, "b.csv": SHORT}, version=9)
    stage(f"{HANDLE}/versions/9", max_files=1)
    for version in (2, 10):
        stub.datasets[HANDLE].version = version
        stage()
    stub.datasets[HANDLE].version = 3
    stage()
    stage.shown.clear()
    for trouble in ([Reply(503)] * MANY, [LOGIN] * MANY):
        stub.datasets[HANDLE].view = trouble
        assert stage().reused
        assert "going on with version 10, the newest that is here" in stage.shown.pop()
    for refusal in (401, 403, 404):
        stub.datasets[HANDLE].view = [Reply(refusal)]
        with pytest.raises(DataError, match=str(refusal)):
            stage()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert stage().reused
    assert stage(max_files=1).reused
    assert "no connection, 4 times" in stage.shown[-1]
    assert "version 9," in stage.shown[-1]
    with pytest.raises(Unreachable):
        stage(max_files=7)
