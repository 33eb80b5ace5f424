"""A lowered program becomes object code: through both levels of the cache where they can serve.

The front door keeps the manifest and the names of all objects under one key, so that a program that was compiled
before is loaded without any pass. The second level keeps each object under the hash of its text.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from compiler.machine import Machine
from compiler.support.cache import ObjectCache
from compiler.support.processors import usable_processors
from compiler.support.record import record
from compiler.targets.llvm.jit import llvm_version
from compiler.targets.manifest import Manifest

if TYPE_CHECKING:
    from compiler.targets.llvm.codegen_worker import Submitted
    from compiler.targets.lowered import Lowered

# Gives each text away once it is there, so that its code can be generated while the others are written.
Lowering: TypeAlias = "Callable[[Callable[[str], None]], Lowered]"


@record
class _Stored:
    """An entry of the front door: the manifest, the kernels' symbols, and the keys of all objects."""

    manifest: Manifest
    symbols: tuple[str, ...]
    keys: tuple[str, ...]


@record(eq=False)
class ObjectCode:
    """A manifest, the symbols of its kernels, and the objects with them and with what runs them."""

    manifest: Manifest
    symbols: tuple[str, ...]
    objects: tuple[bytes, ...]


class FrontDoor:
    """Programs for a machine by their names. `further` gives the text that every program needs beside its kernels."""

    def __init__(self, machine: Machine, cache: ObjectCache, further: Callable[[], str]) -> None:
        self._machine, self._cache, self._further = machine, cache, further

    def load(self, name: str | None, lowered: Lowering) -> ObjectCode:
        """A program; `lowered` is called only where `name` is not known."""
        stored = None if name is None else self._known(name)
        if stored is not None:
            objects = [self._cache.get_object(k) for k in stored.keys]
            found = [o for o in objects if o is not None]
            if len(found) == len(objects):
                return ObjectCode(stored.manifest, stored.symbols, tuple(found))
        from compiler.targets.llvm.codegen_worker import WorkerPool  # only what is not cached needs processes

        with WorkerPool(self._machine, self._cache, usable_processors()) as pool:
            if name is not None:
                pool.start_early()  # ready by the time that a whole program is lowered
            program = lowered(pool.begin)
            submitted = pool.submit(self._texts(program))
            objects = pool.objects(submitted)
        if name is not None:
            self._keep(name, program, submitted.keys)
        return ObjectCode(program.manifest, tuple(program.texts), tuple(objects))

    def manifest(self, name: str) -> Manifest | None:
        """The entry of a program that was compiled before."""
        stored = self._known(name)
        return None if stored is None else stored.manifest

    def missing(self, names: Iterable[str]) -> list[str]:
        """The programs among these that `load` would have to compile."""
        return [name for name in names if self._known(name) is None]

    def compile_ahead(self, programs: Iterable[tuple[str, Lowering]], workers: int | None = None) -> None:
        """Have `load` find all these programs: while one is lowered, workers compile the kernels of those before.

        It is worth it for programs that will all be needed, and in vain where the cache cannot be written.
        """
        from compiler.targets.llvm.codegen_worker import WorkerPool  # only what is not cached needs processes

        with WorkerPool(self._machine, self._cache, workers or usable_processors()) as pool:
            pool.start_early()
            pool.submit([self._further()])  # all programs need it, and it needs no stage of the compiler
            begun: list[tuple[str, Lowered, Submitted]] = []
            for name, lowered in programs:
                program = lowered(pool.begin)
                begun.append((name, program, pool.submit(self._texts(program))))
            for name, program, submitted in begun:
                pool.objects(submitted)
                self._keep(name, program, submitted.keys)

    def _key(self, name: str) -> str:
        return f"program\0{name}\0{self._machine}\0{llvm_version()}"

    def _texts(self, program: Lowered) -> list[str]:
        return [*program.texts.values(), self._further()]

    def _keep(self, name: str, program: Lowered, keys: tuple[str, ...]) -> None:
        self._cache.put(self._key(name), pickle.dumps(_Stored(program.manifest, tuple(program.texts), keys)))

    def _known(self, name: str) -> _Stored | None:
        content = self._cache.get(self._key(name))
        if content is None:
            return None
        try:
            stored = pickle.loads(content)  # our own file: checksummed, in a folder that only this user can write
        except Exception:
            return None
        return stored if isinstance(stored, _Stored) else None
