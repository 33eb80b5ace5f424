"""Tables in files of every format, and their data in memory beside the same data read block by block."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from data_specs import source_of, spec
from pyarrow import ipc, parquet

from runtime.data.loading import LoadedData, load_training_data
from runtime.data.part import Part
from runtime.data.specs import Cuts, InputSpec
from runtime.data.streaming.reader import blocks_in_order

ROWS = 300
SPECS = [spec("features", row=(2,)), spec("kind", "i32", target=True, low=0, high=3)]
COLUMNS: dict[str, Any] = {"columns": ("width", "area"), "target": "kind"}
BLOCK = 64
ALL = Cuts()


def columns(first: int = 0, rows: int = ROWS) -> dict[str, list[Any]]:
    """Numbers with gaps, a class, and columns to cut rows by."""
    drawn = np.random.default_rng(first).normal(5, 3, (rows, 2))
    return {
        "width": [None if k % 17 == 5 else float(number) for k, number in enumerate(drawn[:, 0])],
        "area": [float(number) for number in drawn[:, 1]],
        "kind": [("rose", "iris", "aster")[(first + k) % 3] for k in range(rows)],
        "year": [2000.0 + (first + k) % 20 for k in range(rows)],
        "plot": [float((first + k) // 7) for k in range(rows)],
    }


def write(path: Path, rows: dict[str, list[Any]]) -> None:
    lines = [dict(zip(rows, cells, strict=True)) for cells in zip(*rows.values(), strict=True)]
    text = [",".join("" if cell is None else str(cell) for cell in line.values()) for line in lines]
    match path.suffix:
        case ".parquet":
            parquet.write_table(pyarrow.table(rows), path, row_group_size=40)
        case ".arrow":
            table = pyarrow.table(rows)
            with ipc.new_file(path, table.schema) as file:
                file.write_table(table, max_chunksize=50)
        case ".arrows":
            table = pyarrow.table(rows)
            with ipc.new_stream(path, table.schema) as stream:
                stream.write_table(table, max_chunksize=50)
        case ".jsonl":
            path.write_text("\n".join([*map(json.dumps, lines), ""]))
        case ".gz":
            path.write_bytes(gzip.compress("\n".join([",".join(rows), *text]).encode()))
        case _:
            path.write_text("\n".join([",".join(rows), *text, ""]))


FORMATS = {"parquet": "parquet", "arrow": "arrow", "arrows": "arrow", "jsonl": "jsonl", "csv": "csv", "csv.gz": "csv"}


def files(folder: Path, ending: str) -> str:
    """Two files of one table, as a path with `*`."""
    write(folder / f"a.{ending}", columns(0, 200))
    write(folder / f"b.{ending}", columns(200, ROWS - 200))
    return str(folder / f"*.{ending}")


def both(
    path: str, form: str, cuts: Cuts = ALL, specs: Sequence[InputSpec] = SPECS, **options: Any
) -> tuple[LoadedData, LoadedData]:
    """The data in memory, and the same read block by block."""
    source = source_of(form, Path(path), **options)
    kept = load_training_data(specs, source, cuts)
    return kept, load_training_data(specs, source, replace(cuts, stream=BLOCK))


def expect_same(kept: LoadedData, streamed: LoadedData) -> None:
    for name in ("train", "validation", "test"):
        expect_same_rows(getattr(kept, name), getattr(streamed, name))
    assert replace(kept.preparation, looks={}) == replace(streamed.preparation, looks={})
    assert set(kept.notes) <= set(streamed.notes)
    for name in ("fingerprints", "fingerprints_of_parts"):
        assert kept.summary[name] == streamed.summary[name]


def expect_same_rows(kept: Part | None, streamed: Part | None) -> None:
    assert (kept is None) == (streamed is None)
    if kept is None or streamed is None:
        return
    assert streamed.stream is not None
    blocks = list(copied(streamed))
    assert len(streamed.rows) == len(kept.rows)
    for name, array in kept.arrays.items():
        joined = np.concatenate([block[name] for block in blocks])
        assert joined.dtype == array.dtype
        assert joined.tobytes() == array[kept.rows].tobytes()
        assert streamed.arrays[name][streamed.rows[:]].tobytes() == joined.tobytes()
    for name, rows in kept.names.items():
        named = [(rows.file_of(row), rows.of(row)) for row in kept.rows.tolist()]
        assert [(streamed.names[name].file_of(k), streamed.names[name].of(k)) for k in range(len(named))] == named


def copied(part: Part) -> list[dict[str, Any]]:
    assert part.stream is not None
    return [{n: a.copy() for n, a in arrays.items()} for _, arrays in blocks_in_order(part.stream, 7)]


def only_streamed(path: str, form: str, cuts: Cuts = ALL, **options: Any) -> LoadedData:
    source = source_of(form, Path(path), **{**COLUMNS, **options})
    return load_training_data(SPECS, source, replace(cuts, stream=BLOCK))
