"""A lowered program becomes code in memory: through both levels of the cache where they can serve.

The front door keeps the manifest and the names of all objects under one key, so that a program that was compiled
before is loaded without any pass. The second level keeps each object under the hash of its text.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from compiler.interface import Options
from compiler.record import record
from compiler.targets.cpu.cache import ObjectCache
from compiler.targets.cpu.executable import NativeExecutable
from compiler.targets.cpu.jit import Library, llvm_version
from compiler.targets.cpu.machine import Machine, machine_of
from compiler.targets.cpu.manifest import Manifest
from compiler.targets.cpu.runner import SYMBOLS, runner_text
from compiler.targets.cpu.team import Team, available_threads

if TYPE_CHECKING:
    from compiler.targets.cpu.codegen_worker import Submitted
    from compiler.targets.cpu.lower import Lowered

# Gives each text away once it is there, so that its code can be generated while the others are written.
Lowering: TypeAlias = "Callable[[Machine, Callable[[str], None]], Lowered]"


@record
class _Stored:
    """What the front door keeps: the manifest, the kernels' symbols, and the keys of their objects and the runner's."""

    manifest: Manifest
    symbols: tuple[str, ...]
    keys: tuple[str, ...]


def load_program(name: str | None, lowered: Lowering, options: Options) -> NativeExecutable:
    """The executable of a program; `lowered` is called only where the front door does not know `name`."""
    machine, cache = machine_of(options.machine), ObjectCache(options.cache)
    stored = None if name is None else _known(cache, _key(name, machine))
    if stored is not None:
        objects = [cache.get_object(k) for k in stored.keys]
        found = [o for o in objects if o is not None]
        if len(found) == len(objects):
            return _loaded(stored.manifest, found, stored.symbols, machine, options)
    from compiler.targets.cpu.codegen_worker import WorkerPool  # only what is not cached needs processes

    with WorkerPool(machine, cache, available_threads()) as pool:
        if name is not None:
            pool.start_early()  # ready by the time that a whole program is lowered
        program = lowered(machine, pool.begin)
        submitted = pool.submit(_texts(program, machine))
        objects = pool.objects(submitted)
    if name is not None:
        _keep(cache, _key(name, machine), program, submitted.keys)
    return _loaded(program.manifest, objects, tuple(program.texts), machine, options)


def known_manifest(name: str, options: Options) -> Manifest | None:
    """What is known of a program that was compiled before."""
    stored = _known(ObjectCache(options.cache), _key(name, machine_of(options.machine)))
    return None if stored is None else stored.manifest


def unknown(names: Iterable[str], options: Options) -> list[str]:
    """The programs among these that `load_program` would have to compile."""
    machine, cache = machine_of(options.machine), ObjectCache(options.cache)
    return [name for name in names if _known(cache, _key(name, machine)) is None]


def compile_ahead(programs: Mapping[str, Lowering], options: Options, workers: int | None = None) -> None:
    """Have `load_program` find all these programs: while one is lowered, workers compile the kernels of those before.

    It is worth it for programs that will all be needed, and in vain where the cache cannot be written.
    """
    machine, cache = machine_of(options.machine), ObjectCache(options.cache)
    from compiler.targets.cpu.codegen_worker import WorkerPool  # only what is not cached needs processes

    with WorkerPool(machine, cache, workers or available_threads()) as pool:
        pool.start_early()
        pool.submit([runner_text(machine)])  # all of them need it, and it needs no stage of the compiler
        begun: list[tuple[str, Lowered, Submitted]] = []
        for name, lowered in programs.items():
            program = lowered(machine, pool.begin)
            begun.append((_key(name, machine), program, pool.submit(_texts(program, machine))))
        for key, program, submitted in begun:
            pool.objects(submitted)
            _keep(cache, key, program, submitted.keys)


def _key(name: str, machine: Machine) -> str:
    return f"program\0{name}\0{machine}\0{llvm_version()}"


def _texts(program: Lowered, machine: Machine) -> list[str]:
    return [*program.texts.values(), runner_text(machine)]


def _keep(cache: ObjectCache, key: str, program: Lowered, keys: tuple[str, ...]) -> None:
    cache.put(key, pickle.dumps(_Stored(program.manifest, tuple(program.texts), keys)))


def _known(cache: ObjectCache, key: str) -> _Stored | None:
    content = cache.get(key)
    if content is None:
        return None
    try:
        stored = pickle.loads(content)  # our own file: checksummed, in a folder that only this user can write
    except Exception:
        return None
    return stored if isinstance(stored, _Stored) else None


def _loaded(
    manifest: Manifest, objects: list[bytes], symbols: tuple[str, ...], machine: Machine, options: Options
) -> NativeExecutable:
    library = Library(objects, [*symbols, *SYMBOLS], machine)
    threads = options.threads or available_threads()
    return NativeExecutable(manifest, library.address, Team(threads, library.address, library))
