"""Modules to object code, from the cache or by worker processes: LLVM can abort, and then takes only a worker along.

Workers are spawned, never forked. Which worker compiles a module has no influence on the object.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import PriorityQueue

from compiler.errors.diagnostics import CompilerBug
from compiler.machine import Machine
from compiler.support.cache import ObjectCache
from compiler.support.record import record
from compiler.targets.llvm import codegen_process
from compiler.targets.llvm.codegen_process import read_answer, write_message
from compiler.targets.llvm.jit import compile_module, llvm_version, object_key
from compiler.targets.llvm.llvm import library_path

_ROOT = Path(codegen_process.__file__).parents[3]
# A worker is ready after some 50 ms; in that time this process itself generates code for twice as much text.
TINY_TEXT = 19_000


class WorkerPool:
    """Up to `workers` processes that generate code for one machine. Use it in a `with` statement, or close it."""

    def __init__(self, machine: Machine, cache: ObjectCache, workers: int) -> None:
        self._machine, self._cache, self._version = machine, cache, llvm_version()
        self._limit = max(1, workers)
        self._workers: list[_Worker] = []
        self._tasks: PriorityQueue[_Task] = PriorityQueue()
        self._begun: dict[str, _Task] = {}

    def start_early(self) -> None:
        """Spawn the workers now, so that they get ready while this process does something else."""
        self._start(self._limit)

    def _start(self, count: int) -> bool:
        """Have `count` workers, or as many as allowed; false if not a single one can be started."""
        command = [sys.executable, "-I", "-S", codegen_process.__file__, str(_ROOT), library_path()]
        command += [self._machine.triple, self._machine.cpu, self._machine.features]
        with contextlib.suppress(OSError):
            while len(self._workers) < min(count, self._limit):
                self._workers.append(_Worker(_spawned(command), self._tasks, self._cache))
        return bool(self._workers)

    def begin(self, ir: str) -> None:
        """Let a worker compile a module that will be submitted later, where one was started."""
        if self._workers:
            self.submit([ir])

    def compile(self, irs: Sequence[str]) -> list[bytes]:
        """The object code of each module. Raises `CompilerBug` for the first module that LLVM fails on."""
        return self.objects(self.submit(irs))

    def submit(self, irs: Sequence[str]) -> Submitted:
        """Let the workers begin with modules. A little text is not worth starting them: this process compiles it."""
        keys = tuple(object_key(ir, self._machine, self._version) for ir in irs)
        known = {key: image for key in keys if (image := self._cache.get_object(key)) is not None}
        missing = {key: ir for key, ir in zip(keys, irs, strict=True) if key not in known}
        new = [_Task(key, ir) for key, ir in missing.items() if key not in self._begun]
        self._begun |= {task.key: task for task in new}
        if (sum(len(task.ir) for task in new) <= TINY_TEXT and not self._workers) or not self._start(len(new)):
            for task in new:
                image = compile_module(task.ir, self._machine)
                self._cache.put_object(task.key, image)
                task.end(image)
        else:
            for task in new:
                self._tasks.put(task)
        return Submitted(keys, known, tuple(self._begun[key] for key in missing))

    def objects(self, submitted: Submitted) -> list[bytes]:
        """The objects of submitted modules, in their order."""
        made = dict(submitted.known)
        try:
            for task in submitted.tasks:
                made[task.key] = task.result()
        except CompilerBug:
            self.close()  # one of the workers may be gone
            raise
        return [made[key] for key in submitted.keys]

    def close(self) -> None:
        """End the workers; one that is at work is stopped."""
        workers, self._workers = self._workers, []
        tasks, self._tasks = self._tasks, PriorityQueue()
        self._begun = {}
        for worker in workers:
            worker.stop()
            tasks.put(_Task("", ""))
        for worker in workers:
            worker.wait()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@record(eq=False)
class Submitted:
    """Modules on their way to objects: the key of each, the objects that were cached, and the work for the others."""

    keys: tuple[str, ...]
    known: Mapping[str, bytes]
    tasks: tuple[_Task, ...]


class _Task:
    """A module that a worker shall compile: the longest first, since it must not come last. Without text, its end."""

    def __init__(self, key: str, ir: str) -> None:
        self.key, self.ir = key, ir
        self._outcome: bytes | CompilerBug = b""
        self._ended = threading.Event()

    def __lt__(self, other: _Task) -> bool:
        return len(self.ir) > len(other.ir)

    def end(self, outcome: bytes | CompilerBug) -> None:
        self._outcome = outcome
        self._ended.set()

    def result(self) -> bytes:
        """The object, once it is there. Raises `CompilerBug`."""
        self._ended.wait()
        if isinstance(self._outcome, CompilerBug):
            raise self._outcome
        return self._outcome


def _spawned(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """A process in a group of its own, so that Ctrl-C in the terminal reaches only its parent."""
    pipe = subprocess.PIPE
    if (new_group := getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", None)) is not None:  # on Windows
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, creationflags=new_group)
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0)


class _Worker:
    """A process, and the thread that feeds it from the pool's tasks until it takes one without text."""

    def __init__(self, process: subprocess.Popen[bytes], tasks: PriorityQueue[_Task], cache: ObjectCache) -> None:
        self._process, self._tasks, self._cache = process, tasks, cache
        self._end: CompilerBug | None = None
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._end = self._end or CompilerBug("llvm", "code generation was stopped")
        self._process.kill()

    def wait(self) -> None:
        """After `stop`, and an end among the tasks."""
        self._thread.join()
        with contextlib.suppress(OSError), self._process:
            pass  # closes the pipes

    def _feed(self) -> None:
        while (task := self._tasks.get()).ir:
            # nobody but this thread may answer a task that it took, also when the process is gone
            task.end(self._end or self._made(task))

    def _made(self, task: _Task) -> bytes | CompilerBug:
        """From the cache where another process has left it there by now, as training and evaluation, which are compiled
        side by side, share kernels."""
        if (known := self._cache.get_object(task.key)) is not None:
            return known
        outcome = self._compiled(task)
        if isinstance(outcome, bytes):
            self._cache.put_object(task.key, outcome)
        return outcome

    def _compiled(self, task: _Task) -> bytes | CompilerBug:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            write_message(self._process.stdin, task.ir.encode())
            is_object, answer = read_answer(self._process.stdout)
        except (EOFError, OSError):
            self._end = self._end or self._crash(task)
            return self._end
        return answer if is_object else CompilerBug("llvm", answer.decode(), dump=task.ir)

    def _crash(self, task: _Task) -> CompilerBug:
        """The message about a worker that ended with a module in its hands."""
        _, errors = self._process.communicate()
        last_words = errors.decode("utf-8", "replace").strip().splitlines()[:3]
        path = self._cache.keep_crash(task.key, task.ir)
        kept = f"; the module is kept in {path}" if path else ""
        reason = f": {' / '.join(last_words)}" if last_words else ""
        message = f"code generation ended with status {self._process.returncode}{reason}{kept}"
        return CompilerBug("llvm", message, dump=task.ir)
