"""Exported libraries of WebAssembly, run by wasmtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from compiler.driver import ExportedLibrary, LibraryTensors
from compiler.support.record import record

Array: TypeAlias = np.ndarray[Any, Any]


@record(eq=False)
class Running:
    """A module in wasmtime, with memory laid out for some rows."""

    instance: Any
    store: Any
    memory: Any
    exports: Any
    place: int

    def call(self, name: str, *arguments: int) -> int:
        return self.exports[f"model_{name}"](self.store, *arguments)

    def given(self, content: bytes) -> int:
        """The address of a copy of some bytes, which is aligned."""
        address = self.room(len(content))
        self.memory.write(self.store, content, address)
        return address

    def room(self, size: int) -> int:
        end = self.memory.data_len(self.store)
        self.memory.grow(self.store, -(-max(size, 1) // 65536))
        return end

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.memory.read(self.store, address, address + size))


def running(module: bytes, weights: bytes, abi: int, rows: int) -> Running:
    wasmtime = pytest.importorskip("wasmtime", reason="wasmtime is not installed")
    store = wasmtime.Store(wasmtime.Engine())
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, module), [])
    exports = instance.exports(store)
    memory = exports["memory"]
    if weights:
        memory.write(store, weights, exports["model_weights"].value(store))
    run = Running(instance, store, memory, exports, 0)
    size = run.call("memory", rows)
    place = run.room(size)
    assert run.call("init_abi", abi, place, size, rows) == 0
    return Running(instance, store, memory, exports, place)
