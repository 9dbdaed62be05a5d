"""Versioned artifacts on disk: `<home>/artifacts/<corpus>/<stage>/<key>/`, each with a `manifest.json` written last.

The key identifies what an artifact is made from: its stage, parameters, the digests of its inputs, and the code that makes it.
The digest identifies its files. So equal bytes upstream mean reuse downstream, whatever made them.

Notable: reuse is checked against every file's sha256, never assumed. An artifact is built in a sibling folder under a lock and
renamed into place, so nothing half-made looks finished. Files under `log/`, `card/` and `measured/` are recorded and checked
like the others but are not in the digest: they hold timings, where the data were found, and what no later stage reads.
"""

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from flows.home import shared_home
from flows.progress import log_line
from flows.store.locks import lock
from flows.store.provenance import git_state, package_versions

MANIFEST = "manifest.json"
NOT_DIGESTED = ("log/", "card/", "measured/", "state/")
RESUMABLE_DAYS = 30  # that a training which was stopped keeps its checkpoints


@dataclass(frozen=True)
class Artifact:
    """A finished stage's output: small enough to pass between tasks, enough to find and trust the files."""

    corpus: str
    stage: str
    key: str
    digest: str
    folder: Path
    counts: dict = field(default_factory=dict)
    seconds: float = 0.0
    """what building it took, also when it is reused"""
    reused: bool = False


def make_key(stage: str, parameters: dict, inputs: dict[str, str], code: str) -> str:
    """16 hex digits. inputs: the digest of each input by stage name."""
    return _hash([stage, parameters, inputs, code])[:16]


class Store:
    """All artifacts under one home; safe to use from several processes at once, and from several machines that share it."""

    def __init__(self, home: Path | None = None):
        self.root = (home or shared_home()) / "artifacts"

    def manifests(self, corpus: str = "*", stage: str = "*") -> list[dict]:
        """Manifests of finished artifacts, each with its `path`; the last made or reused at the end."""
        paths = self.root.glob(f"{corpus}/{stage}/[!.]*/{MANIFEST}")
        newest_last = sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path))
        return [manifest for path in newest_last if (manifest := read_manifest(path.parent))]

    def made_from(self, manifest: dict, stage: str) -> dict | None:
        """The manifest of an input, if it is still here."""
        known = reversed(self.manifests(manifest["corpus"], stage))
        return next((m for m in known if m["digest"] == manifest["inputs"].get(stage)), None)

    def find(self, corpus: str, stage: str, key: str) -> Artifact | None:
        """The artifact, if its manifest is there. Its files are not checked (see `damage`)."""
        manifest = read_manifest(self.root / corpus / stage / key)
        return to_artifact(manifest) if manifest else None

    def damage(self, artifact: Artifact) -> list[str]:
        """What is wrong with the files, a line each: missing, cut or edited. Reads every byte."""
        manifest = read_manifest(artifact.folder) or {"files": {}}
        problems = [_check_file(artifact.folder / name, name, entry) for name, entry in manifest["files"].items()]
        return [problem for problem in problems if problem]

    def verify(self, corpus: str = "*") -> Iterator[tuple[dict, list[str]]]:
        """Every manifest with its artifact's `damage`."""
        return ((manifest, self.damage(to_artifact(manifest))) for manifest in self.manifests(corpus))

    def build(
        self,
        corpus: str,
        stage: str,
        parameters: dict,
        inputs: dict[str, str],
        code: str,
        make: Callable[[Path], dict],
        *,
        resumable: bool = False,
        force: bool = False,
    ) -> Artifact:
        """The artifact of this key: reused if it is there and undamaged, else made by `make(folder) -> counts`. Waits when
        another process builds the same key. resumable: a folder that an interrupted build left is handed to `make` again;
        otherwise it is emptied first. force: build even if an undamaged one is there."""
        key = make_key(stage, parameters, inputs, code)
        name = f"{corpus}/{stage}/{key}"
        final = self.root / corpus / stage / key
        building = final.with_name(f".building-{key}")
        with lock(self.root.parent, name):
            found = self.find(corpus, stage, key)
            problems = self.damage(found) if found else []
            if found and not problems and not force:
                touch(found.folder)
                return replace(found, reused=True)
            for problem in problems:
                log_line(f"{name}: {problem}; it is built again")
            if not resumable or force:
                shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True, exist_ok=True)
            (building / MANIFEST).unlink(missing_ok=True)  # a build that ran out of disk left half of one
            started = time.monotonic()
            try:
                counts = make(building)
            except BaseException:
                if not resumable:
                    shutil.rmtree(building, ignore_errors=True)
                raise
            seconds = round(time.monotonic() - started, 3)
            paths = [path for path in sorted(building.rglob("*")) if path.is_file()]
            files = {str(path.relative_to(building)): describe(path) for path in paths}
            manifest = {
                "corpus": corpus,
                "stage": stage,
                "key": key,
                "digest": digest_of(files),
                "inputs": inputs,
                "parameters": parameters,
                "code": code,
                "files": files,
                "counts": counts,
                "seconds": seconds,
                "git": git_state(),
                "packages": package_versions(),
                "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            }
            with (building / MANIFEST).open("w") as file:
                file.write(json.dumps(manifest, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            touch(building)
            shutil.rmtree(final, ignore_errors=True)
            building.rename(final)
            return to_artifact(manifest | {"path": str(final)})

    def prunable(self, keep: int, named: Collection[str] = ()) -> list[Path]:
        """Folders that may be removed: all but the `keep` newest training artifacts of each corpus, those with a digest among
        `named`, the newest of each other stage, and what all of them were made from; also what interrupted builds left, but
        for trainings that may go on (RESUMABLE_DAYS). Nothing may be removed but while the home is `idle`."""
        manifests = self.manifests()[::-1]
        newer: Counter[tuple[str, str]] = Counter()
        needed: set[tuple[str, str]] = set()  # (corpus, digest)
        for manifest in manifests:
            corpus, stage = manifest["corpus"], manifest["stage"]
            if newer[corpus, stage] < (keep if stage == "train" else 1) or manifest["digest"] in named:
                needed.add((corpus, manifest["digest"]))
            newer[corpus, stage] += 1
        added = set(needed)
        while added:
            makers = [m for m in manifests if (m["corpus"], m["digest"]) in added]
            inputs = {(m["corpus"], digest) for m in makers for digest in m["inputs"].values()}
            starts = {m["parameters"]["start"] for m in makers if "start" in m["parameters"]}
            files = ((m, file["sha256"]) for m in manifests for file in m["files"].values())
            inputs |= {(m["corpus"], m["digest"]) for m, sha256 in files if sha256 in starts}
            added = inputs - needed
            needed |= inputs
        old = [Path(m["path"]) for m in manifests if (m["corpus"], m["digest"]) not in needed]
        return [*old, *(folder for folder in self.root.glob("*/*/.*-*") if not _may_go_on(folder))]


def touch(folder: Path) -> None:
    """Mark an artifact as used now. The kernel's own stamps are too coarse to order two builds within a few milliseconds."""
    os.utime(folder / MANIFEST, ns=(time.time_ns(),) * 2)


def to_artifact(manifest: dict) -> Artifact:
    names = ("corpus", "stage", "key", "digest", "counts", "seconds")
    return Artifact(folder=Path(manifest["path"]), **{name: manifest[name] for name in names})


def digest_of(files: dict[str, dict]) -> str:
    """64 hex digits over the names and contents of the files, those of NOT_DIGESTED left out."""
    counted = [name for name in sorted(files) if not name.startswith(NOT_DIGESTED)]
    return _hash([[name, files[name]["sha256"]] for name in counted])


def describe(path: Path) -> dict:
    with path.open("rb") as handle:
        sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": sha256}


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """`name old -> new` for every leaf in which two nested dicts differ; of a long value the first 40 characters."""
    lines = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, "(absent)"), new.get(name, "(absent)")
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            lines.append(f"{prefix}{name} {before!s:.40} -> {after!s:.40}")
    return lines


def _hash(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_manifest(folder: Path) -> dict | None:
    """The manifest with the `path` of its folder, or None if there is no whole one."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text()) | {"path": str(folder)}
        return manifest if {"digest", "files", "created", "counts"} <= manifest.keys() else None
    except (OSError, ValueError, TypeError):
        return None


def _may_go_on(building: Path) -> bool:
    """Whether this is a training that was stopped, and wrote something within RESUMABLE_DAYS."""
    oldest, written = time.time() - RESUMABLE_DAYS * 86_400, (building, *building.rglob("*"))
    return building.match("train/.building-*") and any(path.stat().st_mtime > oldest for path in written)


def _check_file(path: Path, name: str, entry: dict) -> str:
    if not path.is_file():
        return f"{name} is missing"
    if path.stat().st_size != entry["bytes"]:
        return f"{name} has {path.stat().st_size} bytes instead of {entry['bytes']}"
    return "" if describe(path) == entry else f"{name} was edited (its sha256 differs)"
