"""Zip archives downloaded by hand: what is taken out of them, and what is refused."""

import hashlib
import io
import random
import shutil
import zipfile
from pathlib import Path

import pytest

from data_contracts import DataError
from data_contracts.sources import files
from data_contracts.sources.source import Source, check, fetch, resolve

TEXT = b"text\n" + b"Once upon a time\n" * 5000


def packed(entries: dict[str, bytes] | list[tuple[str, bytes]], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            archive.writestr(name, content)
    return file.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


CONTENT = {
    "deep/er/b.csv": TEXT,
    "a.txt": b"one",
    "windows\\c.txt": b"two",
    "__MACOSX/._a.txt": b"no",
    ".hidden/d.txt": b"no",
    "notes.pdf": b"no",
    "empty/": b"",
}


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_the_readable_files_of_an_archive(folder, target, how):
    here = folder({"mine.zip": packed(CONTENT, how), "readme.pdf": "not read"})
    identity = {"files": {"mine.zip": hashlib.sha256((here / "mine.zip").read_bytes()).hexdigest()}}
    reported = []
    for path in (here, here / "mine.zip"):
        source = Source("local", path=str(path))
        assert resolve(source, "mine") == identity
        check(source, "mine", target, {})
        fetch(source, "mine", target, lambda *words: reported.append(words))
        assert names(target) == ["a.txt", "deep/er/b.csv", "windows/c.txt"]
        assert (target / "deep" / "er" / "b.csv").read_bytes() == TEXT
    assert reported[-1] == (1.0, "3/3 files, 85.0 kB of 85.0 kB")


@pytest.mark.parametrize(
    ("part", "identity", "expected"),
    [
        ({"max_files": 2}, {"max_files": 2}, ["a.txt", "deep/er/b.csv"]),
        ({"fraction": 0.3}, {"fraction": 0.3}, ["a.txt"]),
        ({"files": ("windows/c.txt",)}, {"entries": ["windows/c.txt"]}, ["windows/c.txt"]),
    ],
)
def test_a_part_of_an_archive(folder, target, part, identity, expected):
    source = Source("local", path=str(folder({"mine.zip": packed(CONTENT)})), **part)
    fetch(source, "mine", target)
    assert names(target) == expected
    assert resolve(source, "mine").items() >= identity.items()


def test_a_file_that_can_be_read_as_it_is_comes_before_archives(folder, target):
    here = folder({"mine.zip": packed(CONTENT), "z.txt": "itself"})
    fetch(Source("local", path=str(here)), "mine", target)
    assert names(target) == ["z.txt"]


def test_several_archives(folder, target):
    here = folder(
        {"1.zip": packed({"a.txt": b"x", "LICENCE": b"1"}), "2.ZIP": packed({"b.txt": b"y", "LICENCE": b"2"})}
    )
    fetch(Source("local", path=str(here)), "mine", target)
    assert names(target) == ["a.txt", "b.txt"]
    (here / "3.zip").write_bytes(packed({"a.txt": b"z"}))
    with pytest.raises(DataError, match=r"a.txt is 2 times in 1.zip and 3.zip"):
        fetch(Source("local", path=str(here)), "mine", target)


def spoiled(archive: bytes, at: int, to: bytes) -> bytes:
    return archive[:at] + to + archive[at + len(to) :]


def encrypted() -> bytes:
    archive = packed({"a.txt": b"one"})
    directory = archive.index(b"PK\1\2")
    return spoiled(spoiled(archive, 6, b"\1"), directory + 8, b"\1")


def twice() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate name"):
        return packed([("a.txt", b"1"), ("a.txt", b"2")])


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (
            lambda: packed({"../evil.txt": b"x", "a.txt": b"y"}),
            r"mine.zip is refused: its entry '../evil.txt' points out",
        ),
        (lambda: packed({"/etc/evil.txt": b"x"}), "'/etc/evil.txt' points out"),
        (lambda: packed({"b/..\\..\\evil.txt": b"x"}), "points out"),
        (lambda: packed({"C:\\evil.txt": b"x"}), "points out"),
        (encrypted, "a.txt in mine.zip cannot be unpacked here .*is encrypted"),
        (twice, "a.txt is 2 times in mine.zip"),
        (
            lambda: packed({"a.txt": TEXT})[:-40],
            r"mine.zip is not a zip archive, or is damaged \(.*\): download it again",
        ),
        (lambda: b"Rar!" + TEXT, "mine.zip is not a zip archive"),
        (lambda: b"", "mine.zip is not a zip archive"),
        (lambda: spoiled(packed({"a.txt": TEXT}, 0), 999, b"?"), r"a.txt in mine.zip .*damaged \(Bad CRC-32"),
        (lambda: spoiled(packed({"a.txt": TEXT}), 50, b"????"), "a.txt in mine.zip .*damaged"),
        (
            lambda: spoiled(packed({"a.txt": b"x"}), 8, b"\t").replace(b"\0\0\x08\0", b"\0\0\t\0"),
            "cannot be unpacked here",
        ),
        (
            lambda: packed({"a.png": b"x", "b/": b""}),
            r"holds no file that corpus 'mine' can read .*; it has 1 files: a.png",
        ),
        (lambda: packed({"a.csv": b"<html>"}), "a.csv in mine.zip is an HTML page"),
    ],
    ids=[
        "up",
        "absolute",
        "up by backslash",
        "drive",
        "encrypted",
        "twice",
        "cut",
        "foreign",
        "empty",
        "CRC",
        "zlib",
        "another compression",
        "nothing to read",
        "HTML",
    ],
)
def test_an_archive_that_cannot_be_trusted_or_read(folder, target, tmp_path, archive, message):
    here = folder({"mine.zip": archive()})
    with pytest.raises(DataError, match=message) as error:
        fetch(Source("local", path=str(here)), "mine", target)
    assert len(str(error.value).splitlines()) == 1
    assert not list(tmp_path.rglob("evil*"))


def test_more_than_the_disk_holds(folder, target, monkeypatch):
    """As declared, which is what zipfile keeps to, however often the same bytes are pointed at."""
    here = folder({"mine.zip": packed({"a.txt": TEXT, "b.txt": TEXT})})
    free = 2 * len(TEXT) - 1
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))
    with pytest.raises(DataError, match=r"mine needs 170.0 kB, .* has 170.0 kB free"):
        fetch(Source("local", path=str(here)), "mine", target)
    assert names(target) == []
    fetch(Source("local", path=str(here), max_files=1), "mine", target)


def test_an_entry_that_says_it_is_longer_than_it_is(folder, target):
    archive = packed({"a.txt": b"one"}, zipfile.ZIP_DEFLATED)
    directory = archive.index(b"PK\1\2")
    here = folder({"mine.zip": spoiled(archive, directory + 24, (9).to_bytes(4, "little"))})
    with pytest.raises(DataError, match=r"a.txt in mine.zip .*damaged"):
        fetch(Source("local", path=str(here)), "mine", target)


def test_whatever_is_spoiled_is_reported_and_never_raises_something_else(folder, target):
    chance = random.Random(0)
    here, reported = folder({}), 0
    here.mkdir()
    for i in range(300):
        how = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)[i % 4]
        good = packed({"a.txt": TEXT[:300], "b/c.txt": chance.randbytes(50)}, how)
        (here / "mine.zip").write_bytes(
            spoiled(good, chance.randrange(len(good)), chance.randbytes(chance.randint(1, 4)))
        )
        try:
            fetch(Source("local", path=str(here)), "mine", target)
        except DataError:
            reported += 1
    assert reported > 150
