"""How many threads a program gets: by affinity, quota and cores, on made-up systems."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from compiler.support import processors
from compiler.support.processors import cores_of, usable_cores, usable_processors

Allow: TypeAlias = Callable[[set[int]], None]


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Allow:
    def to(numbers: set[int]) -> None:
        monkeypatch.setattr(processors, "_allowed", lambda: numbers)

    return to


def system(folder: Path, siblings: Mapping[int, str], name: str = "core_cpus_list", **files: str) -> Path:
    for number, text in siblings.items():
        place = folder / f"sys/devices/system/cpu/cpu{number}/topology"
        place.mkdir(parents=True)
        (place / name).write_text(text + "\n")
    for path, text in files.items():
        place = folder / path.replace("__", "/").replace("_DOT_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return folder


FOUR_OF_TWO = {n: f"{n % 4},{n % 4 + 4}" for n in range(8)}
PAIRS = {n: f"{n // 2 * 2}-{n // 2 * 2 + 1}" for n in range(8)}


@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
@pytest.mark.parametrize("siblings", [FOUR_OF_TWO, PAIRS])
def test_a_core_gets_one_thread(tmp_path: Path, allow: Allow, siblings: Mapping[int, str], name: str) -> None:
    made = system(tmp_path, siblings, name)
    allow({*range(8)})
    assert (usable_cores(made), usable_processors(made)) == (4, 8)


@pytest.mark.parametrize(("allowed", "cores"), [({0, 1}, 2), ({0, 4}, 1), ({1, 5, 6}, 2), ({7}, 1)])
def test_the_mask_decides_which_cores_count(tmp_path: Path, allow: Allow, allowed: set[int], cores: int) -> None:
    made = system(tmp_path, FOUR_OF_TWO)
    allow(allowed)
    assert usable_cores(made) == cores


def test_where_the_system_does_not_tell_each_is_a_core(tmp_path: Path, allow: Allow) -> None:
    allow({*range(6)})
    assert usable_cores(tmp_path) == 6
    assert usable_cores(system(tmp_path, {0: "nonsense", 1: "5", 2: "", 3: "3-"})) == 6


def test_processors_without_siblings_are_cores(tmp_path: Path) -> None:
    made = system(tmp_path, {0: "0", 1: "1", 2: "2-3", 3: "2-3"})
    assert cores_of({0, 1, 2, 3}, made) == {frozenset({0}), frozenset({1}), frozenset({2, 3})}


@pytest.mark.parametrize(("limit", "threads"), [("max 100000", 8), ("300000 100000", 3), ("50000 100000", 1)])
def test_a_quota_of_version_2_limits_both(tmp_path: Path, allow: Allow, limit: str, threads: int) -> None:
    made = system(tmp_path, {}, sys__fs__cgroup__cpu_DOT_max=limit)
    allow({*range(8)})
    assert (usable_cores(made), usable_processors(made)) == (threads, threads)


def test_a_quota_counts_wherever_it_stands_above_a_process(tmp_path: Path, allow: Allow) -> None:
    allow({*range(8)})
    made = system(
        tmp_path,
        {},
        proc__self__cgroup="0::/outer/inner\n",
        sys__fs__cgroup__outer__inner__cpu_DOT_max="max 100000",
        sys__fs__cgroup__outer__cpu_DOT_max="200000 100000",
    )
    assert usable_cores(made) == 2


@pytest.mark.parametrize(("limit", "threads"), [("-1", 8), ("250000", 2)])
def test_a_quota_of_version_1(tmp_path: Path, allow: Allow, limit: str, threads: int) -> None:
    allow({*range(8)})
    assert usable_cores(_version_1(tmp_path, limit)) == threads


def _version_1(folder: Path, limit: str) -> Path:
    group = folder / "sys/fs/cgroup/cpu/a"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text(limit)
    (group / "cpu.cfs_period_us").write_text("100000")
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text("3:memory:/a\n2:cpu,cpuacct:/a\n")
    return folder
