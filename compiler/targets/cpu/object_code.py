"""A lowered program becomes code in memory: through both levels of the cache where they can serve.

The front door keeps the manifest and the names of all objects under one key, so that a program that was compiled
before is loaded without any pass. The second level keeps each object under the hash of its text.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from compiler.cache import ObjectCache
from compiler.interface import Options
from compiler.machine import Machine
from compiler.processors import usable_cores, usable_processors
from compiler.record import record
from compiler.targets.cpu.executable import NativeExecutable
from compiler.targets.cpu.runner import SYMBOLS, TICKS, Clock, clock_of, runner_text
from compiler.targets.cpu.team import Team
from compiler.targets.llvm.host import machine_of
from compiler.targets.llvm.jit import Library, llvm_version
from compiler.targets.manifest import Manifest

if TYPE_CHECKING:
    from compiler.targets.cpu.stamped import StampedExecutable
    from compiler.targets.llvm.codegen_worker import Submitted
    from compiler.targets.lowered import Lowered

# Gives each text away once it is there, so that its code can be generated while the others are written.
Lowering: TypeAlias = "Callable[[Machine, Callable[[str], None]], Lowered]"


@record
class _Stored:
    """What the front door keeps: the manifest, the kernels' symbols, and the keys of their objects and the runner's."""

    manifest: Manifest
    symbols: tuple[str, ...]
    keys: tuple[str, ...]


@record(eq=False)
class Profiled:
    """A program for a profile: what was lowered, its executable as it is and with stamps, and what these are read from.

    Both executables may run on the same tensors in turn.
    """

    lowered: Lowered
    plain: NativeExecutable
    stamped: StampedExecutable
    clock: Clock


def load_program(name: str | None, lowered: Lowering, options: Options) -> NativeExecutable:
    """The executable of a program; `lowered` is called only where the front door does not know `name`."""
    machine, cache = machine_of(options.machine), ObjectCache(options.cache)
    stored = None if name is None else _known(cache, _key(name, machine))
    if stored is not None:
        objects = [cache.get_object(k) for k in stored.keys]
        found = [o for o in objects if o is not None]
        if len(found) == len(objects):
            return _loaded(stored.manifest, found, stored.symbols, machine, options)
    from compiler.targets.llvm.codegen_worker import WorkerPool  # only what is not cached needs processes

    with WorkerPool(machine, cache, usable_processors()) as pool:
        if name is not None:
            pool.start_early()  # ready by the time that a whole program is lowered
        program = lowered(machine, pool.begin)
        submitted = pool.submit(_texts(program, machine))
        objects = pool.objects(submitted)
    if name is not None:
        _keep(cache, _key(name, machine), program, submitted.keys)
    return _loaded(program.manifest, objects, tuple(program.texts), machine, options)


def load_profiled(lowered: Lowering, options: Options) -> Profiled:
    """A program twice, with the same kernels at the same addresses: as it is, and with stamps."""
    from compiler.targets.cpu.stamped import StampedExecutable
    from compiler.targets.llvm.codegen_worker import WorkerPool  # only a profile asks for programs in this way

    machine, cache = machine_of(options.machine), ObjectCache(options.cache)
    clock = clock_of(machine)
    with WorkerPool(machine, cache, usable_processors()) as pool:
        program = lowered(machine, pool.begin)
        runners = [runner_text(machine), runner_text(machine, clock)]
        *objects, plain, stamped = pool.compile([*program.texts.values(), *runners])
    kernels = Library(objects, tuple(program.texts), machine)
    executables: list[NativeExecutable] = []
    for made, runner, symbols in (
        (NativeExecutable, plain, SYMBOLS),
        (StampedExecutable, stamped, (*SYMBOLS, TICKS)),
    ):
        library = Library([runner], symbols, machine)
        address = _address_in(library, symbols, kernels)
        team = Team(options.threads or usable_cores(), address, (library, kernels))
        executables.append(made(program.manifest, address, team))
    first, second = executables
    assert isinstance(second, StampedExecutable)
    return Profiled(program, first, second, clock)


@record(eq=False)
class Turns:
    """A program, an executable of it by the number of threads whose shares one takes in turn, and by that of `real`
    threads, which run at once: all with stamps."""

    lowered: Lowered
    in_turns: Mapping[int, StampedExecutable]
    real: Mapping[int, StampedExecutable]


def load_in_turns(lowered: Lowering, options: Options, threads: Sequence[int], real: Sequence[int]) -> Turns:
    """A program for a simulation of `threads`, some of which `real` ones are compared with."""
    from compiler.targets.cpu.stamped import ROOM_IN_TURNS, OneForAll, StampedExecutable
    from compiler.targets.llvm.codegen_worker import WorkerPool  # only a profile asks for programs in this way

    machine, cache = machine_of(options.machine), ObjectCache(options.cache)
    symbols, clock = (*SYMBOLS, TICKS), clock_of(machine)
    with WorkerPool(machine, cache, usable_processors()) as pool:
        program = lowered(machine, pool.begin)
        runners = [runner_text(machine, clock, True), runner_text(machine, clock)]
        *objects, turns, stamped = pool.compile([*program.texts.values(), *runners])
    kernels = Library(objects, tuple(program.texts), machine)
    library, team = Library([turns], symbols, machine), Library([stamped], symbols, machine)
    one, all_ = _address_in(library, symbols, kernels), _address_in(team, symbols, kernels)
    return Turns(
        program,
        {
            n: StampedExecutable(program.manifest, one, OneForAll(n, one, (library, kernels)), ROOM_IN_TURNS)
            for n in threads
        },
        {n: StampedExecutable(program.manifest, all_, Team(n, all_, (team, kernels))) for n in real},
    )


def _address_in(runner: Library, symbols: Sequence[str], kernels: Library) -> Callable[[str], int]:
    def address(symbol: str) -> int:
        return runner.address(symbol) if symbol in symbols else kernels.address(symbol)

    return address


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
    from compiler.targets.llvm.codegen_worker import WorkerPool  # only what is not cached needs processes

    with WorkerPool(machine, cache, workers or usable_processors()) as pool:
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
    threads = options.threads or usable_cores()
    return NativeExecutable(manifest, library.address, Team(threads, library.address, library))
