"""The object of a library's weights: made around a room, with the same bytes as LLVM's own of that size."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.machine import AVX2_WINDOWS, CHOICES
from compiler.targets.cpu.library_weights import around_large_room, around_room, weights_in_pieces, weights_member
from compiler.targets.llvm.host import machine_elsewhere

# its objects have checksums; for the web, weights are no object
OTHERWISE = (AVX2_WINDOWS.name, "wasm", "wasm-simd128")


@pytest.mark.parametrize("name", [name for name in CHOICES if name not in OTHERWISE])
def test_the_object_of_large_weights_is_that_of_llvm(name: str) -> None:
    machine = machine_elsewhere(name)
    for size in (1 << 14, 101_056, 9_999_936):
        found = around_large_room("model_weights", size, machine)
        assert found is not None
        assert found == around_room("model_weights", size, machine)


def test_objects_that_differ_in_more_than_sizes_are_made_whole() -> None:
    assert around_large_room("model_weights", 1 << 20, AVX2_WINDOWS) is None
    arrays = [np.arange(300_000, dtype=np.float32)]
    _, pieces = weights_in_pieces(arrays)
    member = weights_member("model_weights", pieces, AVX2_WINDOWS)
    before, behind = around_room("model_weights", sum(map(len, pieces)), AVX2_WINDOWS)
    assert b"".join(member.content) == before + b"".join(pieces) + behind


def test_arrays_lie_behind_each_other_on_lines() -> None:
    arrays = [np.arange(3, dtype=np.float32), np.ones((4, 5), np.float32)[:, ::2], np.zeros((0,), np.float32)]
    places, pieces = weights_in_pieces(arrays)
    content = b"".join(pieces)
    assert places == [0, 64, 128]
    for place, array in zip(places, arrays, strict=True):
        assert content[place : place + array.nbytes] == array.tobytes()
