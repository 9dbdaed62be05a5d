"""Zip archives downloaded by hand: what is taken out of them, and what is refused."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import pyarrow
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
    "notes.xlsx": b"no",
    "empty/": b"",
}


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_the_readable_files_of_an_archive(folder, target, how):
    here = folder({"mine.zip": packed(CONTENT, how), "readme.xlsx": "not read"})
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
    assert fetch(Source("local", path=str(here)), "shakespeare", target) == ["mine.zip"]
    assert names(target) == ["z.txt"]


def tarred(entries: dict[str, bytes], how: str = "") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{how}") as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return file.getvalue()


def zstd(content: bytes) -> bytes:
    return bytes(pyarrow.compress(content, "zstd", asbytes=True))


def test_whatever_is_packed_in_whatever_beside_other_files(folder, target):
    here = folder(
        {
            "z.txt": "itself",
            "photo.PNG": b"\x89PNG",
            "1.jsonl.gz": gzip.compress(b'{"text": "1"}'),
            "2.csv.bz2": bz2.compress(TEXT),
            "3.txt.xz": lzma.compress(TEXT),
            "deep/4.txt.zst": zstd(TEXT),
            "5.tar": tarred({"./a.txt": b"5", "a.exe": b"no"}),
            "6.tar.gz": tarred({"d/a.txt.gz": gzip.compress(TEXT)}, "gz"),
            "7.TGZ": tarred({"a.txt": b"7"}, "gz"),
            "8.tar.zst": zstd(tarred({"a.txt": b"8"})),
            "9.zip": packed(
                {"a.txt": b"9", "in.zip": packed({"a.txt": b"10", "in.tar.xz": tarred({"a.md": b"11"}, "xz")})}
            ),
        }
    )
    source = Source("local", path=str(here))
    check(source, "mine", target, {})
    assert fetch(source, "mine", target) == ["5.tar/a.exe", "photo.PNG"]
    content = {name: (target / name).read_bytes() for name in names(target)}
    assert content == {
        "z.txt": b"itself", "1.jsonl": b'{"text": "1"}', "2.csv": TEXT, "3.txt": TEXT, "deep/4.txt": TEXT,
        "5.tar/a.txt": b"5", "6.tar.gz/d/a.txt": TEXT, "7.TGZ/a.txt": b"7", "8.tar.zst/a.txt": b"8", "9.zip/a.txt": b"9",
        "9.zip/in.zip/a.txt": b"10", "9.zip/in.zip/in.tar.xz/a.md": b"11",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"a.txt.gz": gzip.compress(TEXT)[:-9]}, r"a.txt.gz is not a gz archive, or is damaged \("),
        ({"a.txt.bz2": bz2.compress(TEXT)[:-9]}, "a.txt.bz2 is not a bz2 archive, or is damaged"),
        ({"a.txt.xz": b"PK" + TEXT}, "a.txt.xz is not a xz archive, or is damaged"),
        ({"a.txt.zst": zstd(TEXT)[:-9]}, "a.txt.zst is not a zst archive, or is damaged"),
        ({"a.tar": tarred({"a.txt": TEXT})[:9999]}, "a.tar is not a tar archive, or is damaged"),
        ({"a.tar": tarred({"../a.txt": TEXT})}, "a.tar is refused: its entry '../a.txt' points out"),
        ({"a.zip": packed({"b.zip": packed({"a.txt": b""})})}, "a.txt in b.zip in a.zip is empty"),
        ({"a.txt": b"x", "a.txt.gz": gzip.compress(b"y")}, "a.txt is 2 times in a.txt and a.txt.gz"),
    ],
)
def test_what_is_packed_and_damaged(folder, target, contents, message):
    with pytest.raises(DataError, match=message) as error:
        fetch(Source("local", path=str(folder(contents))), "mine", target)
    assert len(str(error.value).splitlines()) == 1


def test_archives_within_archives_without_end(folder, target):
    inner = packed({"a.txt": b"x"})
    for _ in range(6):
        inner = packed({"a.zip": inner})
    with pytest.raises(DataError, match="an archive in 4 others"):
        fetch(Source("local", path=str(folder({"a.zip": inner}))), "mine", target)


def test_what_says_no_size_ends_where_the_disk_does(folder, target, monkeypatch):
    free = iter([1 << 30, 1 << 30, 100])
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, next(free)))
    here = folder({"a.txt.gz": gzip.compress(bytes(10 << 20))})
    with pytest.raises(DataError, match=r"mine needs 1.0 MB, .* has 100 bytes free"):
        fetch(Source("local", path=str(here)), "mine", target)
    assert (target / "a.txt").stat().st_size == 1 << 20


def test_any_name_and_a_linked_folder_once(folder, target, tmp_path):
    odd = ["[2024] a*?.txt", "100% #1, b.TXT", "x" * 246 + ".txt", "line\nend.txt"]
    here = folder(dict.fromkeys(odd, "x"))
    Path(os.fsdecode(os.fsencode(here) + b"/caf\xe9.txt")).write_text("x")
    elsewhere = folder({"linked.txt": "x", "deep/b.txt": "x"}, "elsewhere")
    (here / "one").symlink_to(elsewhere)
    (here / "two").symlink_to(elsewhere / "deep")
    (here / "up").symlink_to(tmp_path)
    (here / "gone").symlink_to(tmp_path / "nowhere")
    fetch(Source("local", path=str(here)), "mine", target)
    assert names(target) == sorted([*odd, "caf\\xe9.txt", "one/deep/b.txt", "one/linked.txt"])


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


def test_a_window_of_zstd_that_is_too_large_is_told(folder, target):
    frame = b"\x28\xb5\x2f\xfd\x00\xa8" + b"\x29\x00\x00text\n"  # of a window of 2 GiB, with a raw block of 5 bytes
    here = folder({"RC_2012-01.zst": frame})
    with pytest.raises(DataError, match="zstd -d --long=31"):
        fetch(Source("local", path=str(here)), "mine", target)
    good = folder({"RC_2012-01.zst": pyarrow.compress(b'{"body": "one"}', "zstd", asbytes=True)}, "good")
    fetch(Source("local", path=str(good)), "mine", target)
    assert names(target) == ["RC_2012-01.jsonl"]
