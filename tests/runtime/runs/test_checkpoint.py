"""Checkpoints: what is written is what is read; damage, full disks and kills lose nothing that was there before."""

import errno
import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from compiler.errors.diagnostics import CheckpointError
from runtime.runs.checkpoint import (
    Checkpoint,
    best_checkpoint,
    checkpoints_in,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from runtime.runs.position import Position, Stagnation
from runtime.runs.tensor_files import match_tensors, read_tensors, write_tensors


def at(step: int, **position: Any) -> Checkpoint:
    weights = {"a.W": np.full((3, 2), step, np.float32), "a.mean": np.arange(4, dtype=np.float64)}
    return Checkpoint(weights, {"a.W/m": np.zeros((3, 2), np.float32)}, Position(step=step, **position), 5)


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    written = at(7, sums={"loss": 0.1 + 0.2, "accuracy": 1 / 3}, rows=96, best_value=float("nan"), best_epoch=2)
    plateau = {"stopping": Stagnation(0.5, 3), "plateau": Stagnation(0.25, 1), "rate_factor": 0.1}
    written = replace(written, position=replace(written.position, **plateau))
    found = newest_checkpoint(write_checkpoint(tmp_path / "checkpoints", written, is_best=False).parent)
    read = found.checkpoint
    assert found.notes == ()
    assert read.seed == 5
    assert repr(read.position) == repr(written.position)
    assert list(read.weights) == sorted(written.weights)
    for name, values in written.weights.items():
        assert read.weights[name].dtype == values.dtype
        np.testing.assert_array_equal(read.weights[name], values)
    np.testing.assert_array_equal(read.optimizer["a.W/m"], written.optimizer["a.W/m"])


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 7):
        write_checkpoint(tmp_path, at(step), is_best=step in (1, 3))
    assert [path.name for path in checkpoints_in(tmp_path)] == ["000003-step-3-best", "000005-step-5", "000006-step-6"]
    assert newest_checkpoint(tmp_path).checkpoint.position.step == 6
    assert best_checkpoint(tmp_path).checkpoint.position.step == 3
    assert {path.name[0] for path in tmp_path.iterdir()} == {"0"}, "nothing else is left behind"


def test_a_later_checkpoint_of_an_earlier_step_is_newer(tmp_path: Path) -> None:
    for step in (10, 4, 4):
        write_checkpoint(tmp_path, at(step), is_best=False)
    assert newest_checkpoint(tmp_path).path.name == "000003-step-4"


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "position.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, file: str, damage: str) -> None:
    write_checkpoint(tmp_path, at(1), is_best=False)
    newest = write_checkpoint(tmp_path, at(2), is_best=True) / file
    content = newest.read_bytes()
    match damage:
        case "flip":
            middle = len(content) // 2
            newest.write_bytes(content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :])
        case "truncate":
            newest.write_bytes(content[:-1])
        case "remove":
            newest.unlink()
        case _:
            newest.write_bytes(b"")
    if file == "manifest.json" and damage == "truncate":
        newest.write_bytes(content[:-2])  # the last byte is only a newline
    found = newest_checkpoint(tmp_path)
    assert found.checkpoint.position.step == 1
    assert len(found.notes) == 1
    assert "000002-step-2-best is passed over" in found.notes[0]
    assert best_checkpoint(tmp_path).checkpoint.position.step == 1


def test_no_checkpoint_and_none_whole(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        newest_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no such file"):
        newest_checkpoint(tmp_path / "absent")
    (write_checkpoint(tmp_path, at(1), is_best=False) / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="every checkpoint is damaged") as caught:
        newest_checkpoint(tmp_path)
    assert "weights.safetensors" in str(caught.value)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", range(1, 9))
def test_a_failing_disk_leaves_earlier_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: int
) -> None:
    before = write_checkpoint(tmp_path, at(1), is_best=False)
    calls = 0

    def failing(original: Any) -> Any:
        def wrapped(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                raise OSError(code, os.strerror(code))
            return original(*arguments)

        return wrapped

    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(os, "rename", failing(os.rename))
    if call <= 6:
        with pytest.raises(CheckpointError, match="checkpoint of step 2 cannot be written") as caught:
            write_checkpoint(tmp_path, at(2), is_best=False)
        assert caught.value.fix
        assert ("disk is full" in str(caught.value)) == (code == errno.ENOSPC)
    if call < 6:
        assert checkpoints_in(tmp_path) == [before]
        assert [path.name for path in tmp_path.iterdir()] == [before.name], "the half-written one is removed"
    assert read_checkpoint(before).position.step == 1
    monkeypatch.undo()
    write_checkpoint(tmp_path, at(3), is_best=False)
    assert newest_checkpoint(tmp_path).checkpoint.position.step == 3


def test_a_really_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs more rights")
    try:
        write_checkpoint(disk / "checkpoints", at(1), is_best=False)
        large = Checkpoint({"W": np.zeros(200_000, np.float32)}, {}, Position(step=2), 0)
        with pytest.raises(CheckpointError, match="the disk is full"):
            write_checkpoint(disk / "checkpoints", large, is_best=True)
        assert newest_checkpoint(disk / "checkpoints").checkpoint.position.step == 1
        write_checkpoint(disk / "checkpoints", at(3), is_best=False)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


_ROOT = Path(__file__).parents[3]
_WRITER = """
import sys
import numpy as np
from pathlib import Path
from runtime.runs.checkpoint import Checkpoint, write_checkpoint
from runtime.runs.position import Position
for step in range(1, 100000):
    weights = {f"w{i}": np.full(20000, step, np.float32) for i in range(5)}
    write_checkpoint(Path(sys.argv[1]), Checkpoint(weights, dict(weights), Position(step=step), 0), step % 3 == 0)
    print(step, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.0007, 0.0019, 0.0037, 0.0061])
def test_a_kill_at_any_moment_loses_no_finished_checkpoint(tmp_path: Path, delay: float) -> None:
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=_ROOT)
    assert writer.stdout is not None
    finished = [int(writer.stdout.readline()) for _ in range(4)][-1]
    time.sleep(delay)
    writer.send_signal(signal.SIGKILL)
    rest = writer.communicate()[0].split()
    finished = int(rest[-1]) if rest else finished
    found = newest_checkpoint(tmp_path)
    assert found.notes == ()
    assert found.checkpoint.position.step in (finished, finished + 1)
    assert (found.checkpoint.weights["w4"] == found.checkpoint.position.step).all()
    assert best_checkpoint(tmp_path).path.name.endswith("-best")
    write_checkpoint(tmp_path, at(1), is_best=False)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "leftovers are cleared"


@pytest.mark.parametrize("stop_before", ["files.write_bytes", "files.sync_folder", "_remove_old"])
def test_stopping_between_two_acts_leaves_whole_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_before: str
) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, at(step), is_best=False)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"runtime.runs.checkpoint.{stop_before}", stop)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, at(3), is_best=False)
    monkeypatch.undo()
    found = newest_checkpoint(tmp_path)
    assert found.notes == ()
    assert found.checkpoint.position.step == (3 if stop_before == "_remove_old" else 2)


def test_files_are_plain_safetensors(tmp_path: Path) -> None:
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "scalar": np.array(3.5, np.float32),
        "empty": np.zeros((0, 4), np.float64),
        "turned": np.arange(6, dtype=np.int64).reshape(2, 3).T,
        "bytes": np.arange(5, dtype=np.uint8),
        "bits": np.array([True, False]),
        "kind ü": np.arange(3, dtype=np.int32),
    }
    write_tensors(tmp_path / "w.safetensors", tensors)
    for found in (load_file(tmp_path / "w.safetensors"), read_tensors(tmp_path / "w.safetensors")):
        assert set(found) == set(tensors)
        for name, values in tensors.items():
            assert found[name].dtype == values.dtype
            assert found[name].shape == values.shape
            np.testing.assert_array_equal(found[name], values)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    save_file({"h": np.array([1.5, -2.0], np.float16)}, tmp_path / "h.safetensors")
    assert read_tensors(tmp_path / "h.safetensors")["h"].dtype == np.float32
    brain = np.array([1.0, -3.140625], np.float32).view(np.uint32) >> 16
    (tmp_path / "b.safetensors").write_bytes(
        safetensors_bytes({"b": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, brain.astype("<u2").tobytes())
    )
    np.testing.assert_array_equal(read_tensors(tmp_path / "b.safetensors")["b"], [1.0, -3.140625])


def safetensors_bytes(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", 100) + b"{}",
        safetensors_bytes(b"not json", b""),
        safetensors_bytes(b"[" * 5000, b""),
        safetensors_bytes([], b""),
        safetensors_bytes({"a": 3}, b""),
        safetensors_bytes({"a": entry(0, 8, [2])}, b"\0" * 7),
        safetensors_bytes({"a": entry(0, 8, [2])}, b"\0" * 9),
        safetensors_bytes({"a": entry(0, 8, [3])}, b"\0" * 8),
        safetensors_bytes({"a": entry(8, 0, [2])}, b"\0" * 8),
        safetensors_bytes({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, b"\0" * 12),
        safetensors_bytes({"a": entry(4, 12, [2])}, b"\0" * 12),
        safetensors_bytes({"a": entry(0, 8, [-2])}, b"\0" * 8),
        safetensors_bytes({"a": entry(0, 0, [1 << 62, 1 << 62])}, b""),
        safetensors_bytes({"a": entry(0, 8, [2], "F33")}, b"\0" * 8),
        safetensors_bytes({"a": entry(0, 8, [8], "F8_E4M3")}, b"\0" * 8),
        safetensors_bytes({"a": entry(0, 8, [1], "C64")}, b"\0" * 8),
        safetensors_bytes({"a": entry(0, 8, [1] * 1000 + [2])}, b"\0" * 8),
        safetensors_bytes(b'{"a": ' + json.dumps(entry(0, 8, [2])).encode() + b', "a": {}}', b"\0" * 8),
        safetensors_bytes(b'{"a": %b, "a": %b}' % ((json.dumps(entry(0, 8, [2])).encode(),) * 2), b"\0" * 8),
    ],
)
def test_untrusted_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_tensors(tmp_path / "w.safetensors")
    assert caught.value.fix
    assert "w.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(tmp_path))


def test_tensors_are_matched_by_name_and_shape() -> None:
    have = {"body.W": np.zeros((2, 3)), "hed.W": np.zeros((3, 4)), "head.b": np.zeros(9), "extra.x": np.zeros(1)}
    match = match_tensors(have, {"body.W": (2, 3), "head.W": (3, 4), "head.b": (4,)})
    assert match.matched == ("body.W",)
    assert [(m.name, m.suggestion) for m in match.missing] == [("head.W", "hed.W")]
    assert [(m.name, m.found, m.wanted) for m in match.mismatched] == [("head.b", (9,), (4,))]
    assert match.unused == ("hed.W", "extra.x")
    assert not match.is_complete
    assert match.lines() == [
        "missing: `head.W`; the file has `hed.W`",
        "mismatched: `head.b` is [9] in the file, but [4] in the model",
        "not used of the file: `hed.W`, `extra.x`",
    ]


def test_a_quality_that_is_no_number_is_none_to_compare_with() -> None:
    after = Stagnation().after(math.nan, 0.0)
    assert after == Stagnation(None, 1)
    assert after.after(2.0, 0.0) == Stagnation(2.0, 0)
