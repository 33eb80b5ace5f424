"""Modules to object code, from the cache or by worker processes: LLVM can abort, and then takes only a worker along.

Workers are spawned, never forked. Which worker compiles a module has no influence on the object.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from compiler.diagnostics import CompilerBug
from compiler.targets.cpu import codegen_process
from compiler.targets.cpu.cache import ObjectCache, object_key
from compiler.targets.cpu.codegen_process import read_answer, write_message
from compiler.targets.cpu.jit import compile_module, llvm_version
from compiler.targets.cpu.llvm import library_path
from compiler.targets.cpu.machine import Machine

_ROOT = Path(codegen_process.__file__).parents[3]
# A worker is ready after some 50 ms; in that time this process itself generates code for twice as much text.
TINY_TEXT = 16_000


class WorkerPool:
    """Up to `workers` processes that generate code for one machine. Use it in a `with` statement, or close it."""

    def __init__(self, machine: Machine, cache: ObjectCache, workers: int) -> None:
        self._machine, self._cache = machine, cache
        self._limit = max(1, workers)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start_early(self) -> None:
        """Spawn the workers now, so that they get ready while this process does something else."""
        self._start(self._limit)

    def _start(self, count: int) -> bool:
        """Have `count` workers, or as many as allowed; false if not a single one can be started."""
        command = [sys.executable, "-I", "-S", codegen_process.__file__, str(_ROOT), library_path()]
        command += [self._machine.triple, self._machine.cpu, self._machine.features]
        with contextlib.suppress(OSError):
            while len(self._processes) < min(count, self._limit):
                self._processes.append(_spawned(command))
        return bool(self._processes)

    def compile(self, irs: Sequence[str]) -> list[bytes]:
        """The object code of each module. Raises `CompilerBug` for the first module that LLVM fails on."""
        version = llvm_version()
        keys = [object_key(ir, self._machine, version) for ir in irs]
        objects = {key: self._cache.get_object(key) for key in keys}
        missing = {key: ir for key, ir in zip(keys, irs, strict=True) if objects[key] is None}
        for key, image in self._generate(missing).items():
            objects[key] = image
            self._cache.put_object(key, image)
        return [image for key in keys if (image := objects[key]) is not None]

    def _generate(self, missing: dict[str, str]) -> dict[str, bytes]:
        is_tiny = sum(map(len, missing.values())) <= TINY_TEXT
        if not self._processes and (is_tiny or not self._start(len(missing))):
            return {key: compile_module(ir, self._machine) for key, ir in missing.items()}
        try:
            return _Job(missing, self._processes, self._cache).results()
        except CompilerBug:
            self.close()  # one of the workers may be gone
            raise

    def close(self) -> None:
        """End the workers; one that is at work is stopped."""
        processes, self._processes = self._processes, []
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _spawned(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """A process in a group of its own, so that Ctrl-C in the terminal reaches only its parent."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0)


class _Job:
    """Modules shared out among workers, the longest first; a thread feeds each worker."""

    def __init__(
        self, modules: dict[str, str], processes: Sequence[subprocess.Popen[bytes]], cache: ObjectCache
    ) -> None:
        self._modules, self._processes, self._cache = modules, processes, cache
        self._waiting = sorted(modules, key=lambda key: len(modules[key]))
        self._objects: dict[str, bytes] = {}
        self._bugs: dict[str, CompilerBug] = {}

    def results(self) -> dict[str, bytes]:
        threads = [threading.Thread(target=self._feed, args=(process,), daemon=True) for process in self._processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for key in self._modules:
            if key in self._bugs:
                raise self._bugs[key]
        return self._objects

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        while not self._bugs:
            try:
                key = self._waiting.pop()  # atomic, so that the threads need no lock
            except IndexError:
                return
            try:
                write_message(process.stdin, self._modules[key].encode())
                is_object, answer = read_answer(process.stdout)
            except (EOFError, OSError):
                self._bugs[key] = self._crash(key, process)
                return
            if is_object:
                self._objects[key] = answer
            else:
                self._bugs[key] = CompilerBug("llvm", answer.decode(), dump=self._modules[key])

    def _crash(self, key: str, process: subprocess.Popen[bytes]) -> CompilerBug:
        """What to say of a worker that ended with a module in its hands."""
        _, errors = process.communicate()
        last_words = errors.decode("utf-8", "replace").strip().splitlines()[:3]
        path = self._cache.keep_crash(key, self._modules[key])
        kept = f"; the module is kept in {path}" if path else ""
        reason = f": {' / '.join(last_words)}" if last_words else ""
        message = f"code generation ended with status {process.returncode}{reason}{kept}"
        return CompilerBug("llvm", message, dump=self._modules[key])


def compile_modules(irs: Sequence[str], machine: Machine, cache: ObjectCache, workers: int) -> list[bytes]:
    """The object code of each module, from the cache or by at most `workers` processes."""
    with WorkerPool(machine, cache, workers) as pool:
        return pool.compile(irs)
