"""The GPU of this process: its memory, streams, events and code. What it gives is given back once nobody holds it."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np

from compiler.errors.diagnostics import UsageError
from compiler.support.arrays import Array
from compiler.support.record import record
from compiler.targets.gpu.device import BLOCK_THREADS
from compiler.targets.gpu.driver import ON_THE_PROCESSOR, Driver
from compiler.targets.memory import address_of

LEAST_CAPABILITY = (7, 5)  # for which kernels are written
_NON_BLOCKING = 1  # a stream that waits for no other
_WITH_TIMES, _WITHOUT_TIMES = 0, 2  # an event that is read by a clock; one that only orders
_MAJOR, _MINOR, _PROCESSORS, _CACHE, _COOPERATIVE = 75, 76, 16, 38, 95  # attributes of a device
_LOG, _LOG_BYTES, _LOG_SIZE = 5, 6, 8192  # options of a link: its error log, and the size of it
_PTX = 1  # a form of a linker's input


class Context:
    """A device's context in this process: everything else stands in it."""

    def __init__(self, driver: Driver, device: ctypes.c_int) -> None:
        self.driver = driver
        self._pointer = ctypes.c_void_p()
        driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._pointer), device)
        self._end = weakref.finalize(self, driver.attempt, "cuDevicePrimaryCtxRelease_v2", device)
        self.held_bytes = 0

    def enter(self) -> None:
        """Make the calls of this thread act on the device."""
        self.driver.call("cuCtxSetCurrent", self._pointer)

    def give_back(self, function: str, value: Any) -> None:
        """Give something back; after a failure of the device, all that it held is gone with it."""
        self.driver.attempt("cuCtxSetCurrent", self._pointer)
        self.driver.attempt(function, value)

    def free(self, address: ctypes.c_uint64, size: int) -> None:
        """Give memory of the device back."""
        self.held_bytes -= size
        self.give_back("cuMemFree_v2", address)

    def close(self) -> None:
        self._end()


class Held:
    """Something of the driver by its handle `value`, which `close` gives back, as does whatever collects this."""

    def __init__(self, context: Context, value: ctypes.c_void_p, function: str) -> None:
        self.value = value.value or 0
        self._end = weakref.finalize(self, context.give_back, function, value)

    @property
    def pointer(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.value)

    def close(self) -> None:
        self._end()


class DeviceBlock:
    """`size` bytes of the device's memory from the address `value` on, given back as `Held` is."""

    def __init__(self, context: Context, value: ctypes.c_uint64, size: int) -> None:
        self.value, self.size = value.value, size
        context.held_bytes += size
        self._end = weakref.finalize(self, context.free, value, size)

    def close(self) -> None:
        self._end()


@record(eq=False)
class PinnedBytes:
    """Memory of this machine that the device copies from by itself."""

    held: Held
    array: Array


@record
class MemoryState:
    """Bytes of the device's memory: those that are free, and all."""

    free: int
    total: int


class Gpu:
    """The first GPU that CUDA_VISIBLE_DEVICES lets the driver see."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        count, device = ctypes.c_int(), ctypes.c_int()
        driver.call("cuDeviceGetCount", ctypes.byref(count))
        if not count.value:
            raise UsageError("there is no NVIDIA GPU", f"look at CUDA_VISIBLE_DEVICES, or {ON_THE_PROCESSOR}")
        driver.call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
        text = ctypes.create_string_buffer(256)
        driver.call("cuDeviceGetName", text, ctypes.c_int(256), device)
        self.name = text.value.decode(errors="replace")
        self.capability = (self._attribute(_MAJOR, device), self._attribute(_MINOR, device))
        self.processors = self._attribute(_PROCESSORS, device)
        self.is_cooperative = bool(self._attribute(_COOPERATIVE, device))  # whether all blocks of a kernel may meet
        self.cache_bytes = self._attribute(_CACHE, device)  # that all multiprocessors share
        version = ctypes.c_int()
        driver.call("cuDriverGetVersion", ctypes.byref(version))
        self.driver_version = version.value
        if self.capability < LEAST_CAPABILITY:
            has, needs = (".".join(map(str, c)) for c in (self.capability, LEAST_CAPABILITY))
            raise UsageError(
                f"the GPU {self.name} is too old: it has compute capability {has}, and {needs} is needed",
                "choose another GPU by CUDA_VISIBLE_DEVICES, or leave out --target gpu",
            )
        self.context = Context(driver, device)
        self.context.enter()
        self.stream, self.copies = self._stream(), self._stream()

    def _attribute(self, number: int, device: ctypes.c_int) -> int:
        found = ctypes.c_int()
        self.driver.call("cuDeviceGetAttribute", ctypes.byref(found), ctypes.c_int(number), device)
        return found.value

    def _stream(self) -> Held:
        found = ctypes.c_void_p()
        self.driver.call("cuStreamCreate", ctypes.byref(found), ctypes.c_uint(_NON_BLOCKING))
        return Held(self.context, found, "cuStreamDestroy_v2")

    def close(self) -> None:
        """Give the streams and the context back, which nothing may use any more."""
        for held in (self.stream, self.copies, self.context):
            held.close()

    # memory

    def memory(self) -> MemoryState:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return MemoryState(free.value, total.value)

    def block(self, size: int) -> DeviceBlock:
        """So many bytes, with any content."""
        found = ctypes.c_uint64()
        self.driver.call("cuMemAlloc_v2", ctypes.byref(found), ctypes.c_size_t(size))
        return DeviceBlock(self.context, found, size)

    def pinned(self, size: int) -> PinnedBytes:
        found = ctypes.c_void_p()
        self.driver.call("cuMemHostAlloc", ctypes.byref(found), ctypes.c_size_t(size), ctypes.c_uint(0))
        held = Held(self.context, found, "cuMemFreeHost")
        return PinnedBytes(held, np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(held.value)))

    def upload(self, address: int, array: Array, stream: Held) -> None:
        """Begin to copy a dense array to the device; it must stay as it is until that is done."""
        if array.nbytes:
            self.copy_in(address, address_of(array), array.nbytes, stream)

    def copy_in(self, address: int, source: int, size: int, stream: Held) -> None:
        """Begin to copy bytes from an address of this process."""
        pointers = ctypes.c_uint64(address), ctypes.c_void_p(source)
        self.driver.call("cuMemcpyHtoDAsync_v2", *pointers, ctypes.c_size_t(size), stream.pointer)

    def download(self, target: int, address: int, size: int, stream: Held) -> None:
        """Begin to copy bytes of the device to an address of this process."""
        if size:
            pointers = ctypes.c_void_p(target), ctypes.c_uint64(address)
            self.driver.call("cuMemcpyDtoHAsync_v2", *pointers, ctypes.c_size_t(size), stream.pointer)

    def clear(self, address: int, size: int, stream: Held) -> None:
        """Begin to fill bytes with zeros."""
        if size:
            zero = ctypes.c_uint64(address), ctypes.c_ubyte(0)
            self.driver.call("cuMemsetD8Async", *zero, ctypes.c_size_t(size), stream.pointer)

    # order

    def event(self, has_time: bool = False) -> Held:
        found, flags = ctypes.c_void_p(), _WITH_TIMES if has_time else _WITHOUT_TIMES
        self.driver.call("cuEventCreate", ctypes.byref(found), ctypes.c_uint(flags))
        return Held(self.context, found, "cuEventDestroy_v2")

    def seconds_between(self, begin: Held, end: Held) -> float:
        """The time from one event to another by the device's clock; both have times and are reached."""
        found = ctypes.c_float()
        self.driver.call("cuEventElapsedTime", ctypes.byref(found), begin.pointer, end.pointer)
        return found.value / 1e3

    def record(self, event: Held, stream: Held) -> None:
        """Let the event stand for everything that the stream was given."""
        self.driver.call("cuEventRecord", event.pointer, stream.pointer)

    def follow(self, stream: Held, event: Held) -> None:
        """Let what the stream is given from now on wait for the event."""
        self.driver.call("cuStreamWaitEvent", stream.pointer, event.pointer, ctypes.c_uint(0))

    def wait_for(self, event: Held) -> None:
        self.driver.call("cuEventSynchronize", event.pointer)

    def wait(self, stream: Held) -> None:
        """Wait until everything is done that the stream was given."""
        self.driver.call("cuStreamSynchronize", stream.pointer)

    def settle(self) -> None:
        """Wait until the device uses nothing of this process any more, also where a call of the driver has failed."""
        for stream in (self.copies, self.stream):
            self.driver.attempt("cuStreamSynchronize", stream.pointer)

    # code

    def linked(self, ptx: bytes) -> bytes:
        """PTX as code of this device."""
        state, code, size = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t()
        log = ctypes.create_string_buffer(_LOG_SIZE)
        options = (ctypes.c_int * 2)(_LOG, _LOG_BYTES)
        values = (ctypes.c_void_p * 2)(ctypes.cast(log, ctypes.c_void_p), ctypes.c_void_p(_LOG_SIZE))
        self.driver.call("cuLinkCreate_v2", ctypes.c_uint(2), options, values, ctypes.byref(state))
        held = Held(self.context, state, "cuLinkDestroy")
        text = ptx + b"\0"
        none = ctypes.c_char_p(b"kernel.ptx"), ctypes.c_uint(0), None, None
        given = held.pointer, ctypes.c_int(_PTX), text, ctypes.c_size_t(len(text))
        try:
            self.driver.call("cuLinkAddData_v2", *given, *none, log=lambda: log.value.decode(errors="replace"))
            self.driver.call("cuLinkComplete", held.pointer, ctypes.byref(code), ctypes.byref(size))
            return ctypes.string_at(code, size.value)
        finally:
            held.close()

    def module(self, image: bytes) -> Held:
        """Code of this device, loaded."""
        found = ctypes.c_void_p()
        self.driver.call("cuModuleLoadData", ctypes.byref(found), image)
        return Held(self.context, found, "cuModuleUnload")

    def function(self, module: Held, symbol: str) -> int:
        """The handle of a kernel, which is there as long as its module."""
        found = ctypes.c_void_p()
        self.driver.call("cuModuleGetFunction", ctypes.byref(found), module.pointer, symbol.encode())
        return found.value or 0

    def fitting_blocks(self, function: int) -> int:
        """How many blocks of a kernel run at once."""
        found, none = ctypes.c_int(), ctypes.c_size_t(0)
        given = ctypes.c_void_p(function), ctypes.c_int(BLOCK_THREADS), none
        self.driver.call("cuOccupancyMaxActiveBlocksPerMultiprocessor", ctypes.byref(found), *given)
        return found.value * self.processors
