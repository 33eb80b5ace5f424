"""Code generation by worker processes: the same objects, the cache first, and no harm from a crash."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from compiler.errors.diagnostics import CompilerBug
from compiler.machine import AVX2, Machine
from compiler.support.cache import ObjectCache
from compiler.targets.llvm import codegen_worker
from compiler.targets.llvm.codegen_worker import WorkerPool
from compiler.targets.llvm.host import detect
from compiler.targets.llvm.jit import compile_module

HOST = detect()
COMMENT = ";" + "-" * codegen_worker.TINY_TEXT  # makes a module too large for this process
MODULES = [f"define i64 @f{k}() {{\n  ret i64 {k}\n}}\n{COMMENT}" for k in range(5)]
# Haswell has no AVX-512, and LLVM's answer to the instruction is to abort.
FATAL = f"""
define void @f(ptr %p) {{
  %v = load <16 x float>, ptr %p
  %r = call <16 x float> @llvm.x86.avx512.mask.scalef.ps.512(
    <16 x float> %v, <16 x float> %v, <16 x float> %v, i16 -1, i32 4)
  store <16 x float> %r, ptr %p
  ret void
}}
{COMMENT}"""


@pytest.fixture(scope="module", autouse=True)
def code_without_workers() -> None:
    """Nothing takes their workers from these tests."""


def compile_modules(irs: Sequence[str], machine: Machine, cache: ObjectCache, workers: int) -> list[bytes]:
    """The object code of each module, from the cache or by at most `workers` processes."""
    with WorkerPool(machine, cache, workers) as pool:
        return pool.compile(irs)


def refuse(*_: object, **__: object) -> None:
    raise OSError("no processes today")


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_make_the_objects_that_this_process_makes(tmp_path: Path, workers: int) -> None:
    expected = [compile_module(text, HOST) for text in MODULES]
    assert compile_modules(MODULES, HOST, ObjectCache(tmp_path), workers) == expected


def test_what_is_cached_needs_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = compile_modules(MODULES, HOST, ObjectCache(tmp_path), 2)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(codegen_worker, "compile_module", refuse)
    assert compile_modules(MODULES[::-1], HOST, ObjectCache(tmp_path), 2) == objects[::-1]


def test_one_small_module_needs_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    assert len(compile_modules(["define void @f() {\n ret void\n}"] * 2, HOST, ObjectCache(tmp_path), 2)) == 2


def test_without_processes_this_one_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert len(compile_modules(MODULES, HOST, ObjectCache(tmp_path), 2)) == len(MODULES)


def test_a_pool_that_starts_early_is_used_again(tmp_path: Path) -> None:
    with WorkerPool(HOST, ObjectCache(tmp_path), 2) as pool:
        pool.start_early()
        first, rest = pool.compile(MODULES[:1]), pool.compile(MODULES[1:])
    assert first + rest == [compile_module(text, HOST) for text in MODULES]


def test_a_crash_is_a_bug_with_the_module_kept(tmp_path: Path) -> None:
    with pytest.raises(CompilerBug, match=r"code generation ended with status .*the module is kept in") as caught:
        compile_modules([MODULES[0], FATAL], AVX2, ObjectCache(tmp_path), 2)
    assert caught.value.dump == FATAL
    (kept,) = (tmp_path / "crashes").iterdir()
    assert kept.read_text() == FATAL


def test_a_pool_works_again_after_a_crash(tmp_path: Path) -> None:
    with WorkerPool(AVX2, ObjectCache(tmp_path), 2) as pool:
        with pytest.raises(CompilerBug):
            pool.compile([FATAL])
        assert len(pool.compile(MODULES)) == len(MODULES)


def test_a_module_that_does_not_parse(tmp_path: Path) -> None:
    broken = f"define void @f( {{{COMMENT}"
    with pytest.raises(CompilerBug, match="does not parse") as caught:
        compile_modules([*MODULES, broken], HOST, ObjectCache(tmp_path), 2)
    assert caught.value.dump == broken


class _FilledMeanwhile(ObjectCache):
    """One in which another process has left each object by the second time that it is asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._asked: set[str] = set()

    def get_object(self, key: str) -> bytes | None:
        if key in self._asked:
            return b"made by another"
        self._asked.add(key)
        return None


def test_what_another_process_made_meanwhile_is_not_made_again(tmp_path: Path) -> None:
    with WorkerPool(HOST, _FilledMeanwhile(tmp_path), 2) as pool:
        assert pool.compile([FATAL, *MODULES]) == [b"made by another"] * (1 + len(MODULES))


def test_an_object_is_kept_as_soon_as_it_is_made(tmp_path: Path) -> None:
    with WorkerPool(AVX2, ObjectCache(tmp_path), 1) as pool:
        pool.submit([MODULES[0] + COMMENT])  # the longest, so the first
        with pytest.raises(CompilerBug):
            pool.compile([FATAL])
    assert len(list((tmp_path / "objects").iterdir())) == 1
