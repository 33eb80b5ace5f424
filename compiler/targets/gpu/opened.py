"""The GPU of this process, opened when the first program is loaded for it, and programs as executables on it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from compiler.errors.diagnostics import DlcError
from compiler.support.cache import ObjectCache
from compiler.targets.gpu.code import loaded_code
from compiler.targets.gpu.device_memory import DeviceMemory
from compiler.targets.gpu.driver import opened_driver
from compiler.targets.gpu.executable import GpuExecutable
from compiler.targets.gpu.hardware import Gpu
from compiler.targets.manifest import Manifest


@cache
def device_memory() -> DeviceMemory:
    """The memory of the GPU, which programs share. Raises UsageError without a usable GPU, and DeviceError."""
    return DeviceMemory(Gpu(opened_driver()))


def why_unusable() -> str | None:
    """Why no GPU can be used here; None where one can."""
    try:
        device_memory()
    except DlcError as error:
        return str(error)
    return None


def executable(
    manifest: Manifest,
    texts: Sequence[tuple[bytes, Sequence[str]]],
    memory: DeviceMemory,
    kept: ObjectCache,
    workers: int,
    kind: type[GpuExecutable] = GpuExecutable,
) -> GpuExecutable:
    """A program on the device; `texts` are PTX, each with its kernels."""
    code = loaded_code(memory.gpu, texts, kept, workers)
    return kind(manifest, memory, code.modules, code.functions)
