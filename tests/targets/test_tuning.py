"""The record of tuning: what a number may be, how a machine's is kept, and that no bit of a result depends on it."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from native import compiled, host

from compiler import driver, tuning
from compiler.driver import TRAINING, Options
from compiler.errors.diagnostics import DataError
from compiler.kept_tuning import KeptTuning, forget_tuning, has_tunings, keep_tuning, kept_tuning, tuning_file
from compiler.machine import AVX2, AVX512
from compiler.programs.stages import graph_of, prepared, scheduled
from compiler.support.cache import ObjectCache
from compiler.targets.registry import kernel_target_of
from compiler.tuning import NUMBERS, Tuning, tuning_of
from runtime.analysis.tuning import CHOICES, WORKLOADS, Search, Workload

MODEL = """
model Small {
    input x: f32[batch, 6]
    output y = x |> dense(5) |> tanh |> dense(3)
}

train Small {
    target wanted: i32[batch] in 0..3
    loss = cross_entropy(y, wanted)
    optimizer = adam(lr = 0.1)
    batch = 4
}
"""
OTHER = Tuning(serial_work=1000, steps_ahead=4)


def kept_in(folder: Path) -> KeptTuning:
    kept = KeptTuning(tuning_file(AVX2, folder), OTHER, "2026-01-02", 2, {"serial_work": 1.5})
    keep_tuning(kept)
    return kept


def test_each_number_has_its_unit_and_reason_beside_it() -> None:
    lines = [line for line in inspect.getsource(tuning).splitlines() if re.match(r"    \w+: (int|float) = ", line)]
    assert len(lines) == len(NUMBERS)
    assert all(len(line.partition("# ")[2]) > 10 for line in lines)


def test_the_numbers_that_are_not_the_usual_ones() -> None:
    assert Tuning().changes == {}
    assert OTHER.changes == {"serial_work": 1000, "steps_ahead": 4}
    assert tuning_of(OTHER.changes) == OTHER


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"serial": 1}, "there is no number `serial`"),
        ({"tile_rows": 29}, "from 1 to 28"),
        ({"tile_rows": 0}, "from 1 to 28"),
        ({"tile_rows": True}, "cannot be True"),
        ({"tile_rows": 4.0}, "cannot be 4.0"),
        ({"tile_rows": "4"}, "cannot be '4'"),
        ({"tile_rows": None}, "cannot be None"),
        ({"shard_rows": 14}, "from 15"),
        ({"unrolled_steps": 3}, "power of two"),
        ({"rows_share": float("nan")}, "cannot be nan"),
        ({"rows_share": float("inf")}, "cannot be inf"),
        ({"block_sum": 10**30}, "cannot be 1000"),
        ({"block_sum": 10**3000}, "0...0"),
        ({"overwritten_bytes": 0}, "a whole number from 1 to 16777216"),
        ({"x" * 3000: 1}, "...xx"),
    ],
)
def test_a_number_from_outside_is_one_that_code_can_be_made_with(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        tuning_of(changes)


def test_every_value_that_is_tried_is_allowed() -> None:
    for choice in CHOICES:
        for value in choice.values:
            assert tuning_of({choice.number: value}).changes == {choice.number: value}
    assert {choice.workload for choice in CHOICES} == {workload.name for workload in WORKLOADS}


def test_a_tuning_is_kept_by_processor(tmp_path: Path) -> None:
    assert not has_tunings(tmp_path)
    kept = kept_in(tmp_path)
    assert has_tunings(tmp_path)
    assert kept_tuning(AVX2, tmp_path) == kept_tuning(replace(AVX2, tuning=OTHER), tmp_path) == kept
    assert kept_tuning(AVX512, tmp_path) is None
    assert kept_tuning(replace(AVX2, l2_bytes=AVX2.l2_bytes * 2), tmp_path) is None
    assert [file.name for file in (tmp_path / "tuning").iterdir()] == [kept.file.name]
    assert forget_tuning(AVX2, tmp_path)
    assert not forget_tuning(AVX2, tmp_path)
    assert kept_tuning(AVX2, tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"{}",
        b"[" * 60_000,
        b" " * 70_000,
        b'{"version": 2, "measured": "", "threads": 1, "numbers": {}, "gains": {}}',
        b'{"version": 1, "measured": "", "threads": 1, "numbers": {"tile_rows": 400}, "gains": {}}',
        b'{"version": 1, "measured": "", "threads": 1, "numbers": {"__class__": 1}, "gains": {}}',
        b'{"version": 1, "measured": "", "threads": 1, "numbers": [], "gains": {}}',
        b'{"version": 1, "measured": "", "threads": 1, "numbers": {}, "gains": {}}',
        b'{"version": 1, "measured": 20260102, "threads": 1, "numbers": {}, "gains": {}}',
        b'{"version": 1, "measured": "2026-01-02", "threads": "x", "numbers": {}, "gains": {}}',
        b'{"version": 1, "measured": "2026-01-02", "threads": 0, "numbers": {}, "gains": {}}',
        b'{"version": 1, "measured": "2026-01-02", "threads": 1e999, "numbers": {}, "gains": {}}',
        b'{"version": 1, "measured": "2026-01-02", "threads": 1, "numbers": {}, "gains": {"a": "b"}}',
        b'{"version": 1, "measured": "2026-01-02", "threads": 1, "numbers": {}, "gains": {"a": NaN}}',
        b'{"version": 1, "measured": "2026-01-02", "threads": 1, "numbers": {}, "gains": {"a": 1e999}}',
        b'{"version": 1, "measured": "2026-01-02", "threads": 1, "numbers": {"long_sum": %s}, "gains": {}}'
        % (b"9" * 6000),
    ],
)
def test_a_damaged_file_is_an_error_and_stays(content: bytes, tmp_path: Path) -> None:
    file = kept_in(tmp_path).file
    file.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(file))) as caught:
        kept_tuning(AVX2, tmp_path)
    assert "dlc tune" in caught.value.fix
    assert len(str(caught.value)) < len(str(file)) + 200
    assert file.read_bytes() == content
    kept = kept_in(tmp_path)
    assert kept_tuning(AVX2, tmp_path) == kept


def test_a_file_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    file = kept_in(tmp_path).file
    file.chmod(0o666)
    with pytest.raises(DataError, match="others may write"):
        kept_tuning(AVX2, tmp_path)
    assert forget_tuning(AVX2, tmp_path)


def test_the_place_that_is_at_fault_is_named(tmp_path: Path) -> None:
    file = kept_in(tmp_path).file
    file.parent.chmod(0o777)
    for access in (kept_tuning, forget_tuning):
        with pytest.raises(DataError, match=rf"^{re.escape(str(file.parent))}: others may write there") as caught:
            access(AVX2, tmp_path)
        assert "owners and permissions" in caught.value.fix
    file.parent.chmod(0o700)
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=rf"^{re.escape(str(file))}: this is a link"):
        kept_tuning(AVX2, tmp_path)


@pytest.mark.parametrize("name", ["x" * 300, "file/below"])
def test_a_folder_that_cannot_be_has_no_tunings(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not has_tunings(tmp_path / name)


def test_a_file_holds_no_more_than_what_differs(tmp_path: Path) -> None:
    content = json.loads(kept_in(tmp_path).file.read_text())
    assert content["numbers"] == OTHER.changes
    assert (content["version"], content["threads"], content["measured"]) == (1, 2, "2026-01-02")


def test_a_program_of_another_tuning_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    program, usual = driver.load_text(MODEL, "model.dl"), Options(threads=1, batch=4, cache=tmp_path)
    tuned = replace(usual, tuning=OTHER)
    missing = [driver.compile_ahead(program, (TRAINING,), options) for options in (usual, usual, tuned, tuned, usual)]
    assert missing == [1, 0, 1, 0, 0]


def test_clearing_the_cache_of_code_keeps_the_tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path))
    kept = kept_in(tmp_path)
    ObjectCache().clear()
    assert kept_tuning(AVX2) == kept


def test_the_usual_numbers_are_allowed() -> None:
    for name in NUMBERS:
        tuning_of({name: getattr(Tuning(), name)})


EXTREMES = [
    Tuning(**{choice.number: choice.values[0] for choice in CHOICES}),  # type: ignore[arg-type]
    Tuning(**{choice.number: choice.values[-1] for choice in CHOICES}),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_no_bit_depends_on_what_is_tried(workload: Workload, code_cache: Path) -> None:
    search = Search(Options(threads=2, cache=code_cache), [workload])
    weights = [search.steps(workload.name, each).tensors for each in (Tuning(), *EXTREMES)]
    for name in weights[0].names():
        assert all(np.array_equal(weights[0][name], others[name]) for others in weights[1:]), name


def ends(number: int) -> Tuning:
    """Every number is as small (0) or as large (1) as a file may have it."""
    usual = Tuning()
    limits = {name: tuning.limits_of(name) for name in NUMBERS}
    return tuning_of({name: type(getattr(usual, name))(limits[name][number]) for name in NUMBERS})


ENDS = {"least": ends(0), "most": replace(ends(1), unrolled_steps=8)}  # longer code takes long to compile


@pytest.mark.parametrize("each", ENDS.values(), ids=ENDS)
def test_whatever_a_file_may_have_gives_the_same_bits(each: Tuning, code_cache: Path) -> None:
    body = "input x: f32[batch, 96]\n    output y = x |> dense(192) |> relu |> dense(10)"
    search = Search(Options(threads=2, cache=code_cache), [Workload("layers", 512, body)])
    search.steps("layers", Tuning())
    search.steps("layers", each)  # raises where bits differ


ODD = {**ENDS, "long steps": Tuning(unrolled_steps=256), "short sums": Tuning(copied_sum=1)}


@pytest.mark.parametrize("each", ODD.values(), ids=ODD)
def test_whatever_a_file_may_have_becomes_code(each: Tuning) -> None:
    attention = next(workload for workload in WORKLOADS if workload.name == "attention")
    options = Options(batch=attention.batch)
    ready = prepared(graph_of(driver.load_text(attention.text, "model.dl"), TRAINING, options), options)
    for machine in (replace(AVX2, tuning=each), replace(AVX512, tuning=each)):
        plan = scheduled(ready, options, machine)
        kernel_target_of(options).lower(ready, plan, machine, options.batch)


def test_a_tuning_reaches_the_schedule_and_the_code() -> None:
    options = Options(batch=4)
    graph = prepared(graph_of(driver.load_text(MODEL, "model.dl"), TRAINING, options), options)
    machines = [replace(host(), tuning=each) for each in (Tuning(), Tuning(serial_work=1), Tuning(steps_ahead=3))]
    usual, sharing, other = (compiled(graph, batch=4, machine=machine) for machine in machines)
    assert not any(i.parallel for i in usual.plan.instances)
    assert all(i.parallel for i in sharing.plan.instances if i.reads and i.writes)
    assert usual.lowered.texts.keys() == sharing.lowered.texts.keys() != other.lowered.texts.keys()
