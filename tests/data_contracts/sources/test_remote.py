"""Hugging Face's Hub, S3 and Google's storage: what comes from a local stub of each, and what is said when nothing comes."""

import gzip
import importlib
import shutil
import sys
from pathlib import Path

import pytest

from data_contracts import DataError, Unreachable
from data_contracts.sources.source import Source, check, fetch, pinned, resolve
from tests.data_contracts.store_stub import Store

BELOW = {"hf": "hf://datasets/owner/name", "s3": "s3://bucket", "gs": "gs://bucket"}
PACKAGES = {"hf": "huggingface_hub", "s3": "s3fs", "gs": "gcsfs"}
FILES = {
    "data/a.txt": b"one\n" * 9000,
    "data/deep/b.jsonl": b'{"text": "two"}\n',
    "data/c.xlsx": b"no",
    "other/d.txt": b"three",
}


@pytest.fixture
def stores(tmp_path, monkeypatch):
    for name in (
        "HTTP_PROXY",
        "http_proxy",
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "HF_TOKEN",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ):
        monkeypatch.delenv(name, raising=False)
    with Store() as stub:
        stub.files = dict(FILES)
        for name, value in stub.environment(str(tmp_path)).items():
            monkeypatch.setenv(name, value)
        yield stub


def point_hub_at(stores: Store, monkeypatch) -> None:
    """huggingface_hub looked into the environment when it was loaded."""
    known = importlib.import_module("huggingface_hub.constants")
    template = known.HUGGINGFACE_CO_URL_TEMPLATE.replace(known.ENDPOINT, stores.url)
    monkeypatch.setattr(known, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(known, "ENDPOINT", stores.url)


@pytest.fixture(params=BELOW)
def place(request, stores, monkeypatch) -> str:
    """An address in each of the three stores."""
    pytest.importorskip(PACKAGES[request.param])
    if request.param == "hf":
        point_hub_at(stores, monkeypatch)
    return BELOW[request.param]


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def held(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_files_of_a_folder(place, stores, target):
    source = Source("remote", url=f"{place}/data")
    identity, reported = resolve(source, "mine"), []
    assert identity["files"].keys() == {"a.txt", "deep/b.jsonl"}
    assert fetch(pinned(source, identity), "mine", target, lambda *words: reported.append(words)) == ["c.xlsx"]
    assert held(target) == {"a.txt": FILES["data/a.txt"], "deep/b.jsonl": FILES["data/deep/b.jsonl"]}
    assert reported[-1] == (1.0, "2/2 files, 36.0 kB of 36.0 kB")
    assert stores.tokens == {""}
    check(source, "mine", target, {})


def test_everything_or_one_file(place, target):
    assert resolve(Source("remote", url=place + "/"), "mine")["files"].keys() == {
        "data/a.txt",
        "data/deep/b.jsonl",
        "other/d.txt",
    }
    fetch(Source("remote", url=f"{place}/other/d.txt"), "mine", target)
    assert held(target) == {"d.txt": b"three"}
    assert [*resolve(Source("remote", url=place, max_files=1), "mine")["files"]] == ["data/a.txt"]


def test_an_unchanged_file_has_the_same_version_and_a_changed_one_another(place, stores):
    source = Source("remote", url=place)
    before = resolve(source, "mine")
    assert resolve(source, "mine") == before
    stores.files["other/d.txt"] = b"THREE"
    after = resolve(source, "mine")
    assert [name for name, version in after["files"].items() if before["files"][name] != version] == ["other/d.txt"]


def test_what_changes_between_the_list_and_the_transfer_is_refused(place, stores, target):
    source = Source("remote", url=place)
    asked = pinned(source, resolve(source, "mine"))
    stores.files["other/d.txt"] = b"THREE"
    with pytest.raises(DataError, match="has changed since its files were listed"):
        fetch(asked, "mine", target)


def test_archives_are_unpacked_and_an_interrupted_transfer_goes_on(place, stores, target):
    stores.files = {"a.txt.gz": gzip.compress(b"one"), "b.txt": b"two"}
    source = Source("remote", url=place)
    (target / ".packed").mkdir()
    (target / ".packed/b.txt").write_bytes(b"two")
    stores.requests.clear()
    (target / "fresh").mkdir()
    assert fetch(source, "mine", target / "fresh") == []
    assert held(target / "fresh") == {"a.txt": b"one", "b.txt": b"two"}
    shutil.rmtree(target / "fresh")
    stores.requests.clear()
    assert fetch(source, "mine", target) == []
    assert held(target) == {"a.txt": b"one", "b.txt": b"two"}
    assert not any("b.txt" in asked and asked.startswith("GET") for asked in stores.requests)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["hf", "s3"], indirect=True)  # Google's client tries for four minutes
def test_a_file_that_comes_cut_is_not_kept(place, stores, target):
    stores.broken = {"other/d.txt": 2}
    with pytest.raises(Unreachable) as error:
        fetch(Source("remote", url=f"{place}/other"), "mine", target)
    assert len(str(error.value).splitlines()) == 2
    assert "d.txt" not in held(target)


@pytest.mark.parametrize("status", [401, 403])
def test_without_permission_the_places_of_credentials_are_named(place, stores, status):
    stores.refuse = status
    with pytest.raises(DataError) as error:
        resolve(Source("remote", url=place), "mine")
    assert "may not be read\ncredentials are looked for in" in str(error.value)
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize("wrong", ["/no/such", ""])
def test_what_does_not_exist_is_named(place, wrong):
    url = place + wrong if wrong else f"{place}-is-none"
    with pytest.raises(DataError) as error:
        resolve(Source("remote", url=url), "mine")
    assert url in str(error.value)
    assert "does not exist" in str(error.value)


def test_of_a_dataset_the_parquet_files_are_taken_and_the_rest_is_named(stores, target, monkeypatch):
    pytest.importorskip("huggingface_hub")
    point_hub_at(stores, monkeypatch)
    stores.files = {"README.md": b"a card", "train.txt": b"one"}
    source = Source("remote", url="hf://datasets/owner/name@main")
    assert fetch(source, "mine", target) == ["README.md"]
    (target / "train.txt").unlink()
    stores.files["data/train.parquet"] = b"PAR1"
    assert fetch(source, "mine", target) == ["README.md", "train.txt"]
    assert [*held(target)] == ["data/train.parquet"]


@pytest.mark.parametrize(
    "url",
    [
        "hf://owner/name",
        "s3://KEY:SECRET@bucket/x",
        "s3://bucket/x?sig=SECRET",
        "https://SECRET.org",
        "s3://",
        "hf://datasets/a",
    ],
)
def test_an_address_of_another_form_is_refused_without_showing_it(url):
    with pytest.raises(DataError, match="url is not hf://datasets/OWNER/NAME") as error:
        Source("remote", url=url)
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("scheme", BELOW)
def test_a_missing_extra_is_named(scheme, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[scheme], None)
    with pytest.raises(DataError, match=f"needs the extra {scheme}: uv pip install {PACKAGES[scheme]}"):
        check(Source("remote", url=BELOW[scheme]), "mine", None, {})
