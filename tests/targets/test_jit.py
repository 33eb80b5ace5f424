"""Object code from LLVM text, loaded and called; what is wrong with a module is said, and stops nothing."""

from __future__ import annotations

import ctypes
import gc

import pytest

from compiler.errors.diagnostics import CompilerBug
from compiler.machine import AVX2, AVX512, NEON
from compiler.targets.llvm.host import detect
from compiler.targets.llvm.jit import Library, assembly, compile_module
from compiler.types import DType

HOST = detect()
DOUBLE = """
define double @{name}(double %x) nounwind {{
  %r = fmul double %x, {factor}
  ret double %r
}}
"""
CLEAR = """
define void @clear(ptr %p, i64 %n) nounwind {
  call void @llvm.memset.p0.i64(ptr %p, i8 0, i64 %n, i1 false)
  ret void
}
"""


def multiplier(name: str, factor: float) -> bytes:
    return compile_module(DOUBLE.format(name=name, factor=factor), HOST)


def call(library: Library, symbol: str, x: float) -> float:
    return ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(library.address(symbol))(x)


def test_many_objects_in_one_library() -> None:
    objects = [multiplier(f"times{k}", float(k)) for k in range(30)]
    library = Library(objects, [f"times{k}" for k in range(30)], HOST)
    assert [call(library, f"times{k}", 2.0) for k in range(30)] == [2.0 * k for k in range(30)]


def test_objects_added_later_and_two_libraries_at_once() -> None:
    first, second = Library([multiplier("f", 3.0)], ["f"], HOST), Library([multiplier("f", 5.0)], ["f"], HOST)
    first.add([multiplier("g", 7.0)], ["g"])
    assert (call(first, "f", 1.0), call(first, "g", 1.0), call(second, "f", 1.0)) == (3.0, 7.0, 5.0)
    first.close()
    first.close()
    assert call(second, "f", 2.0) == 10.0


def test_what_the_code_generator_calls_is_found_in_the_process() -> None:
    library = Library([compile_module(CLEAR, HOST)], ["clear"], HOST)
    buffer = (ctypes.c_uint8 * 100)(*[1] * 100)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(library.address("clear"))(ctypes.addressof(buffer), 60)
    assert sum(buffer) == 40


def test_a_missing_symbol_is_a_bug() -> None:
    with pytest.raises(CompilerBug, match="absent"):
        Library([multiplier("f", 1.0)], ["absent"], HOST)
    library = Library([multiplier("f", 1.0)], ["f"], HOST)
    with pytest.raises(CompilerBug, match="no loaded object exports 'g'"):
        library.address("g")
    with pytest.raises(CompilerBug, match="absent"):
        library.add([multiplier("g", 1.0)], ["absent"])
    library.add([multiplier("h", 4.0)], ["h"])
    assert call(library, "h", 2.0) == 8.0


def test_a_module_that_does_not_parse_is_kept_in_the_bug() -> None:
    with pytest.raises(CompilerBug, match="does not parse") as caught:
        compile_module("define void @f( {", HOST)
    assert caught.value.dump == "define void @f( {"


def test_verification_finds_what_the_parser_lets_through() -> None:
    unreachable_use = (
        "define i32 @f(i1 %c) {\n br i1 %c, label %a, label %b\na:\n %x = add i32 1, 2\n br label %b\nb:\n"
    )
    with pytest.raises(CompilerBug, match=r"does not verify.*dominate"):
        compile_module(unreachable_use + " ret i32 %x\n}", HOST, verify=True)


def test_a_module_always_becomes_the_same_bytes() -> None:
    assert multiplier("f", 3.0) == multiplier("f", 3.0)


def test_assembly_for_other_machines() -> None:
    text = DOUBLE.format(name="f", factor=3.0)
    assert "vmulsd" in assembly(text, AVX2)
    assert "fmul\td0" in assembly(text, NEON)


def test_machines() -> None:
    assert (AVX512.lanes(DType.F32), AVX2.lanes(DType.F32), NEON.lanes(DType.F64)) == (16, 8, 2)
    assert HOST.vector_bytes in (16, 32, 64)
    assert 8 * 1024 <= HOST.l1_bytes < HOST.l2_bytes
    assert detect() == HOST


def test_programs_leave_nothing_that_waits_for_the_garbage_collector() -> None:
    """In a process that trains again and again, memory would grow until it comes."""
    images = [multiplier("f", 3.0)]

    def left_by(programs: int) -> int:
        gc.collect()
        for _ in range(programs):
            detect()
            Library(images, ["f"], HOST)
        return gc.collect()

    left_by(1)
    assert left_by(20) == left_by(2)  # but for the types of arrays, which ctypes keeps until then
