"""The cores that a process may use, where the system allows it fewer than it has."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpt.machine.hardware import cgroup_quota, usable_cores
from tests.conftest import ROOT

COUNT = "from gpt.machine.hardware import usable_cores; print(usable_cores())"


def counted(before: str = "") -> int:
    """By a process that first runs some code."""
    done = subprocess.run([sys.executable, "-c", before + COUNT], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_tied_to_one_core_uses_one():
    core = min(os.sched_getaffinity(0))
    assert counted(f"import os; os.sched_setaffinity(0, {{{core}}})\n") == 1


def test_a_process_with_a_quota_uses_no_more():
    """A real control group, where the caller may make one."""
    group = Path("/sys/fs/cgroup/cpu/gpt-tests")
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text("150000")
    except OSError:
        pytest.skip("making a control group needs more rights, or version 1")
    try:
        assert counted(f"import os; open('{group}/cgroup.procs', 'w').write(str(os.getpid()))\n") == 1
    finally:
        group.rmdir()


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "max 100000"}, math.inf),
        ("0::/\n", {"cpu.max": "250000 100000"}, 2.5),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1.0),
        ("0::/of/the/host\n", {"cpu.max": "50000 100000"}, 0.5),
        ("4:memory:/\n1:cpu,cpuacct:/a\n", {"cpu,cpuacct/a/cpu.cfs_quota_us": "300000",
                                            "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 3.0),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("", {}, math.inf),
    ],
)  # fmt: skip
def test_quotas_of_both_versions_are_read(tmp_path, own, files, quota):
    root, file = tmp_path / "cgroup", tmp_path / "own"
    file.write_text(own)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    assert cgroup_quota(root, file) == quota


def test_one_core_is_always_used(monkeypatch):
    monkeypatch.setattr("gpt.machine.hardware.cgroup_quota", lambda: 0.5)
    assert usable_cores() == 1
