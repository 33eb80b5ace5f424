"""The order of epochs over rows that are read block by block, and the reader that hands them out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.driver import SAMPLE_NUMBERS, rows_of_process
from compiler.support.trusted_folder import TrustedFolder
from runtime.data.orders import epoch_order
from runtime.data.part import Part, rows_of_epoch
from runtime.data.streaming.order import BlockOrder
from runtime.data.streaming.packs import Pack, PackWriter
from runtime.data.streaming.reader import EpochRows, OwnShards, blocks_in_order
from runtime.data.streaming.rows import LENGTH, ROW, RowStream, all_rows
from runtime.inference.prediction import in_batches

SIZES = [(1, 1), (5, 100), (100, 100), (101, 100), (1000, 64), (1000, 65), (1000, 200), (4097, 300), (1000, 3)]


def length_of(rows: Any) -> Any:
    return (rows * 7919 % 23).astype(np.int32)


def stream_of(folder: Path, rows: int, block: int, has_lengths: bool = False) -> RowStream:
    """Rows that hold their numbers, in two arrays."""
    writer = PackWriter(TrustedFolder(folder), "key")
    for first in range(0, rows, 37):
        numbers = np.arange(first, min(first + 37, rows))
        lengths = {LENGTH: length_of(numbers)} if has_lengths else {}
        writer.append(
            "train",
            {"x": np.stack([numbers, -numbers], 1).astype(np.float32), "y": numbers, ROW: numbers + 7, **lengths},
        )
    pack: Pack = writer.finish({})
    return RowStream(pack.folder, pack.parts["train"], block)


@pytest.mark.parametrize(("rows", "block"), SIZES)
def test_each_row_comes_once_in_an_epoch(rows: int, block: int) -> None:
    seen: set[bytes] = set()
    for epoch in range(3):
        order = BlockOrder(rows, block, 7, epoch)
        found: list[int] = []
        for number in range(order.blocks):
            of_block = [row for first, end in order.runs(number) for row in range(first, end)]
            assert len(of_block) == order.starts[number + 1] - order.starts[number] <= block
            found += [of_block[k] for k in order.order(number)]
            assert all(
                order.block_at(place) == number for place in (order.starts[number], order.starts[number + 1] - 1)
            )
        assert sorted(found) == list(range(rows))
        if rows <= block:
            assert found == epoch_order(rows, 7, epoch).tolist()
        seen.add(np.array(found).tobytes())
    assert len(seen) == 3 or rows < 4


def test_a_block_has_rows_of_many_places() -> None:
    order = BlockOrder(100_000, 1000, 0, 0)
    runs = order.runs(0)
    assert len(runs) >= 60
    assert min(runs)[0] < 10_000 < 90_000 < max(runs)[1]


@pytest.mark.parametrize(("rows", "block"), SIZES)
@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("has_lengths", [False, True])
def test_batches_are_those_of_the_whole_order(
    tmp_path: Path, rows: int, block: int, batch: int, has_lengths: bool
) -> None:
    stream = stream_of(tmp_path, rows, block, has_lengths)
    reader = EpochRows(stream, seed=3, batch=batch)
    for epoch in (0, 1):
        wanted, first = stream.order_of_epoch(3, epoch, batch), 0
        while first < rows:
            count = reader.steps_at_once(epoch, first, batch) * batch
            data, places = reader.take(epoch, first, count)
            assert data["y"][places].tolist() == wanted[first : first + count].tolist()
            assert data["x"][places][:, 1].tolist() == (-wanted[first : first + count]).tolist()
            first += count
    data, places = reader.take(0, 0, batch)  # back, as after a value that is not finite
    assert data["y"][places].tolist() == stream.order_of_epoch(3, 0, batch)[:batch].tolist()


def test_rows_of_similar_length_come_together(tmp_path: Path) -> None:
    stream, batch = stream_of(tmp_path, 4000, 600, has_lengths=True), 16
    for epoch in (0, 1):
        rows = stream.order_of_epoch(3, epoch, batch)
        assert sorted(rows) == list(range(4000))
        batches = [length_of(rows[first : first + batch]) for first in range(0, 4000, batch)]
        ranges = np.array([int(lengths.max() - lengths.min()) for lengths in batches])
        assert np.median(ranges) <= 1
        assert (ranges > 3).sum() <= 2 * 7  # the batches at the ends of the seven blocks
        longest = [int(lengths.max()) for lengths in batches]
        assert len(set(longest[:20])) > 5  # and lengths come in any order
    part = Part({"y": np.arange(500)}, np.arange(500), lengths=length_of(np.arange(500)))
    whole = stream_of(tmp_path / "whole", 500, 600, has_lengths=True)
    for epoch in (0, 1):
        assert whole.order_of_epoch(3, epoch, batch).tolist() == rows_of_epoch(part, 3, epoch, batch).tolist()


@pytest.mark.parametrize(("rows", "block"), SIZES)
@pytest.mark.parametrize("large", [1, 1 << 14])
def test_a_process_reads_the_rows_of_its_shards(
    tmp_path: Path, rows: int, block: int, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.data.streaming.rows._LARGE_ROW", large)
    stream, batch, shards = stream_of(tmp_path, rows, block), 16, 5
    readers = [EpochRows(stream, 3, OwnShards(batch, shards, rank, 3)) for rank in range(3)]
    for epoch in (0, 1):
        wanted = stream.order_of_epoch(3, epoch, batch)
        for first in range(0, rows, batch):
            whole = wanted[first : first + batch]
            for rank, reader in enumerate(readers):
                data, places = reader.take(epoch, first, batch)
                begin, end = rows_of_process(rank, 3, shards, len(whole))
                assert data["y"][places[begin:end]].tolist() == whole[begin:end].tolist()
                assert len(data["y"]) <= max(block, batch)


@pytest.mark.parametrize("multiple", [1, 10, 64])
def test_rows_in_order_come_in_whole_batches(tmp_path: Path, multiple: int) -> None:
    stream = stream_of(tmp_path, 1000, 320)
    found: list[int] = []
    for first, arrays in blocks_in_order(stream, multiple):
        assert first == len(found)
        found += arrays["y"].tolist()
        assert len(found) % multiple == 0 or len(found) == 1000
    assert found == list(range(1000))


def test_arrays_are_wide_and_numbered_where_a_program_asks_for_it(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, 50, 16).widened().with_numbers()
    assert stream.row_bytes == 8 * 2 + 8 + 8
    for first, arrays in blocks_in_order(stream, 1):
        assert arrays["x"].dtype == np.float64
        numbers = arrays[SAMPLE_NUMBERS]
        assert numbers.tolist() == list(range(first + 7, first + 7 + len(numbers)))
    assert stream.mapped("x").dtype == np.float64


def test_parts_are_put_together_to_whole_batches() -> None:
    numbers = [np.arange(3), np.arange(3, 20), np.arange(20, 21), np.arange(21, 30)]
    parts = [Part({"x": found * 2}, np.arange(len(found))) for found in numbers]
    joined = [part.arrays["x"][part.rows].tolist() for part in in_batches(parts, 8)]
    assert [len(found) for found in joined] == [16, 8, 6]
    assert [number for found in joined for number in found] == [2 * number for number in range(30)]
    assert not list(in_batches([], 8))


def test_rows_that_take_no_memory_are_chosen_as_those_of_an_array() -> None:
    rows, wanted = all_rows(9, 3), np.arange(0, 27, 3)
    is_even = np.arange(9) % 2 == 0
    for places in (slice(2, 7), slice(None, None, 2), np.array([8, 0, 3]), is_even, [1, 4], 5):
        assert np.array_equal(rows[places], wanted[places])
    assert 6 in rows
    assert 7 not in rows
    assert 27 not in rows
