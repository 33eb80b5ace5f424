"""Objects of WebAssembly linked to one module: calls, addresses, tables of functions and reserved memory."""

from __future__ import annotations

import pytest

from compiler.errors.diagnostics import CompilerBug
from compiler.machine import WASM
from compiler.targets.llvm.jit import compile_module
from runtime.exports.wasm_module import wasm_module

FIRST = """
declare i32 @double(i32)
@functions = external global [3 x ptr]
@numbers = internal constant [40 x i32] [i32 7, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0,
    i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0,
    i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 -9]
@room = external global i8
@place = internal constant ptr getelementptr (i8, ptr @room, i64 12)

define i32 @called(i32 %which, i32 %x) {
  %at = getelementptr ptr, ptr @functions, i32 %which
  %function = load ptr, ptr %at
  %y = call i32 %function(i32 %x)
  ret i32 %y
}
define i32 @direct(i32 %x) {
  %y = call i32 @double(i32 %x)
  ret i32 %y
}
define i32 @number(i32 %which) {
  %at = getelementptr i32, ptr @numbers, i32 %which
  %x = load i32, ptr %at
  ret i32 %x
}
define ptr @placed() {
  %place = load ptr, ptr @place
  ret ptr %place
}
define i32 @stacked(i32 %count) {
  %room = alloca i32, i32 %count
  store volatile i32 %count, ptr %room
  %x = load volatile i32, ptr %room
  ret i32 %x
}
"""
SECOND = """
@functions = constant [3 x ptr] [ptr @double, ptr @square, ptr @double]

define i32 @double(i32 %x) {
  %y = add i32 %x, %x
  ret i32 %y
}
define internal i32 @square(i32 %x) {
  %y = mul i32 %x, %x
  ret i32 %y
}
"""
NAMES = ("called", "direct", "number", "placed", "stacked")


def test_objects_are_linked() -> None:
    wasmtime = pytest.importorskip("wasmtime", reason="wasmtime is not installed")
    objects = [compile_module(text, WASM, verify=True) for text in (FIRST, SECOND)]
    module = wasm_module(objects, NAMES, {"room": 100_000})
    store = wasmtime.Store()
    loaded = wasmtime.Module(store.engine, module)
    assert list(loaded.imports) == []
    exports = wasmtime.Instance(store, loaded, []).exports(store)
    assert [exports["called"](store, which, 5) for which in range(3)] == [10, 25, 10]
    assert exports["direct"](store, -4) == -8
    assert [exports["number"](store, which) for which in (0, 20, 39)] == [7, 0, -9]
    room, heap = exports["room"].value(store), exports["__heap_base"].value(store)
    assert exports["placed"](store) == room + 12
    assert room % 64 == 0
    assert room + 100_000 <= heap <= exports["memory"].data_len(store)
    assert exports["stacked"](store, 1000) == 1000
    with pytest.raises(wasmtime.Trap):  # the stack lies in front of everything else
        exports["stacked"](store, 1 << 20)


def test_what_no_object_defines_is_said() -> None:
    text = "declare i32 @other()\ndefine i32 @f() {\n  %x = call i32 @other()\n  ret i32 %x\n}\n"
    with pytest.raises(CompilerBug, match="no object defines other"):
        wasm_module([compile_module(text, WASM, verify=True)], ["f"], {})
