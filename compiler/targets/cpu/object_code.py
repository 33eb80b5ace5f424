"""A lowered program becomes code in memory: through both levels of the cache where they can serve.

The front door keeps the manifest and the names of all objects under one key, so that a program that was compiled
before is loaded without any pass. The second level keeps each object under the hash of its text.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING

from compiler.interface import Options
from compiler.record import record
from compiler.targets.cpu.cache import ObjectCache, object_key
from compiler.targets.cpu.executable import NativeExecutable
from compiler.targets.cpu.jit import Library, llvm_version
from compiler.targets.cpu.machine import Machine, detect
from compiler.targets.cpu.manifest import Manifest
from compiler.targets.cpu.runner import SYMBOLS, runner_text
from compiler.targets.cpu.team import Team, available_threads

if TYPE_CHECKING:
    from compiler.targets.cpu.lower import Lowered


@record
class _Stored:
    """What the front door keeps: the manifest, the kernels' symbols, and the keys of their objects and the runner's."""

    manifest: Manifest
    symbols: tuple[str, ...]
    keys: tuple[str, ...]


def load_program(name: str | None, lowered: Callable[[Machine], Lowered], options: Options) -> NativeExecutable:
    """The executable of a program; `lowered` is called only where the front door does not know `name`."""
    machine = detect()
    cache = ObjectCache(options.cache)
    key = None if name is None else f"program\0{name}\0{machine}\0{llvm_version()}"
    stored = None if key is None else _known(cache, key)
    if stored is not None:
        objects = [cache.get_object(k) for k in stored.keys]
        found = [o for o in objects if o is not None]
        if len(found) == len(objects):
            return _loaded(stored.manifest, found, stored.symbols, machine, options)
    from compiler.targets.cpu.codegen_worker import compile_modules  # only what is not cached needs processes

    program = lowered(machine)
    texts = [*program.texts.values(), runner_text(machine)]
    objects = compile_modules(texts, machine, cache, available_threads())
    if key is not None:
        keys = tuple(object_key(text, machine, llvm_version()) for text in texts)
        cache.put(key, pickle.dumps(_Stored(program.manifest, tuple(program.texts), keys)))
    return _loaded(program.manifest, objects, tuple(program.texts), machine, options)


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
