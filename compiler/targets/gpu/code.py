"""PTX to loaded kernels: the driver compiles each text once for a device, and the cache keeps what it made."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

from compiler.support.cache import ObjectCache
from compiler.support.record import record
from compiler.targets.gpu.hardware import Gpu, Held


@record(eq=False)
class LoadedCode:
    """Modules, and the handles of their kernels by symbol."""

    modules: tuple[Held, ...]
    functions: dict[str, int]


def loaded_code(gpu: Gpu, texts: Sequence[tuple[bytes, Sequence[str]]], cache: ObjectCache, workers: int) -> LoadedCode:
    """Texts of PTX, each with its kernels, on the device; `workers` threads compile those that are not in the cache."""
    gpu.context.enter()
    keys = [_key(gpu, text) for text, _ in texts]
    known = [cache.get_object(key) for key in keys]
    missing = [k for k, code in enumerate(known) if code is None]
    for number, code in zip(missing, _compiled(gpu, [texts[k][0] for k in missing], workers), strict=True):
        known[number] = code
        cache.put_object(keys[number], code)
    modules: list[Held] = []
    functions: dict[str, int] = {}
    for (_, symbols), code in zip(texts, known, strict=True):
        assert code is not None
        modules.append(gpu.module(code))
        functions |= {symbol: gpu.function(modules[-1], symbol) for symbol in symbols}
    return LoadedCode(tuple(modules), functions)


def _compiled(gpu: Gpu, texts: Sequence[bytes], workers: int) -> list[bytes]:
    """Code of the device; the driver compiles without Python's lock."""
    if min(workers, len(texts)) < 2:
        return [gpu.linked(text) for text in texts]
    with ThreadPoolExecutor(workers, initializer=gpu.context.enter) as pool:
        return list(pool.map(gpu.linked, texts))


def _key(gpu: Gpu, text: bytes) -> str:
    parts = (b"cubin", str(gpu.capability).encode(), str(gpu.driver_version).encode(), text)
    return sha256(b"\0".join(parts)).hexdigest()
