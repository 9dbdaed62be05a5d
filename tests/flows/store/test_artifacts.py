"""Keys, atomic builds, checked reuse, locks, pruning."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import UserError
from flows.store.artifacts import RESUMABLE_DAYS, Store, differences, digest_of, make_key, read_manifest
from flows.store.locks import idle, in_use, lock

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
parameters = st.dictionaries(st.text(max_size=8), json_values, max_size=4)


@pytest.fixture
def store(home, monkeypatch) -> Store:
    store = Store(home)
    store.logged = []
    monkeypatch.setattr("flows.store.artifacts.log_line", store.logged.append)
    return store


def build(store, value=1, *, stage="clean", inputs=None, code="c", **options):
    def make(folder: Path) -> dict:
        (folder / "data.txt").write_text(f"{stage} {value}\n" * 100)
        (folder / "log").mkdir(exist_ok=True)
        (folder / "log" / "times.txt").write_text(str(time.time_ns()))
        return {"value": value}

    return store.build("mine", stage, {"value": value}, inputs or {}, code, make, **options)


class TestKey:
    @given(parameters, parameters, st.text(max_size=5), st.text(max_size=5))
    def test_equal_exactly_when_everything_is_equal(self, first, second, code, other):
        same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True) and code == other
        assert (make_key("clean", first, {}, code) == make_key("clean", second, {}, other)) == same

    @given(parameters)
    def test_order_of_parameters_does_not_matter(self, values):
        assert make_key("a", values, {}, "") == make_key("a", dict(reversed(values.items())), {}, "")

    @given(st.text(), st.text())
    def test_stage_and_inputs_count(self, first, second):
        assert (make_key(first, {}, {}, "") == make_key(second, {}, {}, "")) == (first == second)
        assert (make_key("a", {}, {"raw": first}, "") == make_key("a", {}, {"raw": second}, "")) == (first == second)


class TestReuse:
    def test_second_build_is_reused(self, store):
        first, second = build(store), build(store)
        assert (first.reused, second.reused) == (False, True)
        assert (first.key, first.digest, first.counts) == (second.key, second.digest, second.counts)

    def test_logs_do_not_enter_the_digest_but_are_checked(self, store):
        first = build(store)
        again = build(store, force=True)
        assert not again.reused
        assert again.digest == first.digest
        (again.folder / "log" / "times.txt").write_text("1")
        assert len(store.damage(again)) == 1

    @pytest.mark.parametrize("harm", ["edit", "cut", "delete", "manifest"])
    def test_damage_is_noticed_said_and_mended(self, store, harm):
        first = build(store)
        path = first.folder / "data.txt"
        match harm:
            case "edit":
                path.write_text(path.read_text().replace("clean", "claen"))
            case "cut":
                path.write_bytes(path.read_bytes()[:-10])
            case "delete":
                path.unlink()
            case "manifest":
                (first.folder / "manifest.json").write_text("{")
        again = build(store)
        assert not again.reused
        assert again.digest == first.digest
        assert harm == "manifest" or "data.txt" in store.logged[0]
        assert build(store).reused

    def test_a_failing_build_leaves_nothing_that_looks_finished(self, store):
        def fail(folder):
            (folder / "half.txt").write_text("half")
            raise RuntimeError("no")

        with pytest.raises(RuntimeError):
            store.build("mine", "clean", {}, {}, "c", fail)
        assert store.manifests() == []
        assert not list(store.root.glob("*/*/.*"))
        made = store.build("mine", "clean", {}, {}, "c", lambda folder: {"left": len(list(folder.iterdir()))})
        assert made.counts == {"left": 0}

    def test_a_resumable_build_finds_what_was_left(self, store):
        def fail(folder):
            (folder / "state.txt").write_text("half")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.build("mine", "train", {}, {}, "c", fail, resumable=True)
        made = store.build(
            "mine", "train", {}, {}, "c", lambda folder: {"left": (folder / "state.txt").read_text()}, resumable=True
        )
        assert made.counts == {"left": "half"}


def _half_a_training(home: Path, started) -> None:
    def make(folder: Path) -> dict:
        (folder / "checkpoint").mkdir()
        (folder / "checkpoint" / "step").write_text("7")
        started.set()
        time.sleep(60)
        return {}

    Store(home).build("mine", "train", {}, {}, "c", make, resumable=True)


def _slow_build(home: Path, started, results) -> None:
    def make(folder: Path) -> dict:
        started.set()
        (folder / "data.txt").write_text("x")
        time.sleep(1)
        return {}

    results.put(Store(home).build("mine", "clean", {}, {}, "c", make).reused)


class TestProcesses:
    context = multiprocessing.get_context("spawn")

    def test_two_at_once_build_once(self, home):
        started, results = self.context.Event(), self.context.Queue()
        processes = [self.context.Process(target=_slow_build, args=(home, started, results)) for _ in range(2)]
        for process in processes:
            process.start()
        assert sorted(results.get(timeout=60) for _ in processes) == [False, True]

    def test_a_killed_build_holds_no_lock_and_is_built_again(self, home, store):
        started, results = self.context.Event(), self.context.Queue()
        process = self.context.Process(target=_slow_build, args=(home, started, results))
        process.start()
        assert started.wait(60)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert store.manifests() == []
        assert [path.name[:9] for path in store.prunable(keep=1)] == [".building"]
        assert not store.build("mine", "clean", {}, {}, "c", lambda folder: {}).reused
        assert store.logged == []

    def test_a_killed_training_is_kept_for_a_month_since_it_can_go_on(self, home, store):
        started = self.context.Event()
        process = self.context.Process(target=_half_a_training, args=(home, started))
        process.start()
        assert started.wait(60)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        with idle():
            assert store.prunable(keep=0) == []
        (building,) = home.glob("artifacts/mine/train/.building-*")
        old = time.time() - (RESUMABLE_DAYS + 1) * 86_400
        for path in (building / "checkpoint" / "step", building / "checkpoint"):
            os.utime(path, (old, old))
        assert store.prunable(keep=0) == []  # something in it is younger
        os.utime(building, (old, old))
        assert store.prunable(keep=0) == [building]

        def go_on(folder: Path) -> dict:
            return {"step": int((folder / "checkpoint" / "step").read_text())}

        assert store.build("mine", "train", {}, {}, "c", go_on, resumable=True).counts == {"step": 7}


def test_prune_keeps_what_the_kept_models_were_made_from(store):
    clean_1, clean_2 = build(store, 1), build(store, 2)
    train_1 = build(store, 1, stage="train", inputs={"clean": clean_1.digest})
    train_2 = build(store, 2, stage="train", inputs={"clean": clean_2.digest})
    assert store.prunable(keep=2) == []
    assert set(store.prunable(keep=1)) == {clean_1.folder, train_1.folder}
    assert train_2.folder not in store.prunable(keep=1)
    assert set(store.prunable(keep=0, named={train_1.digest})) == {
        train_2.folder
    }  # and the newest clean artifact stays


def test_half_a_manifest_that_a_full_disk_left_is_no_part_of_the_next_build(store):
    def no_room(folder: Path) -> dict:
        (folder / "data.txt").write_text("x")
        (folder / "manifest.json").write_text('{"corpus": "mi')
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.build("mine", "train", {}, {}, "c", no_room, resumable=True)
    artifact = store.build("mine", "train", {}, {}, "c", lambda folder: {}, resumable=True)
    assert list(read_manifest(artifact.folder)["files"]) == ["data.txt"]
    assert store.build("mine", "train", {}, {}, "c", lambda folder: {}, resumable=True).reused


def test_nothing_is_pruned_while_a_run_is_in_progress(home):
    with idle():
        pass
    with in_use(), in_use(), pytest.raises(UserError, match="in progress"), idle():
        pass
    with idle():
        pass


def test_a_run_that_waits_for_pruning_says_for_whom(home, monkeypatch):
    said, went_on = [], threading.Event()
    monkeypatch.setattr("flows.store.locks.log_line", said.append)

    def use() -> None:
        with in_use():
            went_on.set()

    waiting = threading.Thread(target=use)
    with idle():
        waiting.start()
        assert not went_on.wait(0.5)
        assert said == ["waiting until another process has pruned this home"]
    waiting.join(30)
    assert went_on.is_set()


def test_a_disk_without_locks_is_refused(home, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    for use in (lock(home, "a"), in_use(), idle()):
        with pytest.raises(UserError, match=f"{home}.* has no locks"), use:
            pass


def test_the_artifact_used_last_is_the_newest(store):
    first, second = build(store, 1), build(store, 2)
    assert [m["key"] for m in store.manifests()] == [first.key, second.key]
    build(store, 1)
    assert [m["key"] for m in store.manifests()] == [second.key, first.key]


def test_differences_name_the_setting():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == ["a.c 2 -> 3"]


def test_digest_is_of_names_and_contents():
    one = {"a": {"bytes": 1, "sha256": "x"}}
    beside = {name: {"bytes": 1, "sha256": "y"} for name in ("log/t", "card/card.html")}
    assert digest_of(one | beside) == digest_of(one)
    assert digest_of(one | {"cards": beside["log/t"]}) != digest_of(one)
    assert digest_of(one | beside) != digest_of({"b": {"bytes": 1, "sha256": "x"}})
