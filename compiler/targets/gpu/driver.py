"""The driver of NVIDIA GPUs, libcuda, through ctypes: each call raises DeviceError where it fails."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from compiler.errors.diagnostics import DeviceError, UsageError
from compiler.support.record import record

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
LEAST_VERSION = 11040  # of CUDA, as the driver counts: the first with cuGraphInstantiateWithFlags
LEAST_DRIVER = "470"  # the first driver with that version
UPDATE = f"install version {LEAST_DRIVER} of the driver, or a later one"
ON_THE_PROCESSOR = "leave out --target gpu, and this processor computes, in f32 and f64 with the same bits"
GO_ON = "the last checkpoint is whole: `dlc train --resume RUN` goes on from it, here or with `--target native`"

OUT_OF_MEMORY, NO_DEVICE, UNAVAILABLE, LOST = 2, 100, 46, 999
_INVALID_IMAGES = (200, 209, 218, 222)
_FAULTS = (700, 714, 715, 716, 717, 718, 719)  # of a kernel; the context is gone
_REMEDIES: dict[int, tuple[str, str]] = {
    OUT_OF_MEMORY: (
        "the GPU has too little memory",
        "use a smaller batch or model, or end other processes on the GPU (`nvidia-smi` lists them)",
    ),
    3: ("the driver cannot be used: this process was split off from one that uses the GPU", ON_THE_PROCESSOR),
    UNAVAILABLE: (
        "another process has the GPU for itself alone",
        "wait for its end (`nvidia-smi` lists it), or choose another GPU by CUDA_VISIBLE_DEVICES",
    ),
    NO_DEVICE: ("there is no NVIDIA GPU", f"look at CUDA_VISIBLE_DEVICES, or {ON_THE_PROCESSOR}"),
    101: ("there is no such GPU", "look at CUDA_VISIBLE_DEVICES"),
    214: ("the GPU's memory has an error that cannot be corrected", f"{GO_ON}; `nvidia-smi -q` tells of the error"),
    702: ("the GPU's system ended a kernel that took too long", f"{GO_ON}; a smaller batch makes kernels shorter"),
    802: ("the GPU is not ready yet", "start the service nvidia-fabricmanager"),
    803: ("the driver's parts have different versions", "restart the machine after an update of the driver"),
    804: ("the driver's parts do not support this GPU", UPDATE),
    LOST: ("the GPU does not answer any more", f"{GO_ON}; `nvidia-smi` tells of its state"),
    **{code: ("the driver cannot use the code of the kernels", UPDATE) for code in _INVALID_IMAGES},
    **{code: ("a kernel broke off", f"{GO_ON}; please report it with the text of the model") for code in _FAULTS},
}


class CudaError(DeviceError):
    """A call of the driver that failed, with its `code`; the driver's own words stand behind those of the message."""

    def __init__(self, code: int, function: str, name: str, text: str, log: str = "") -> None:
        what, fix = _REMEDIES.get(code, ("the GPU's driver refused a call", GO_ON))
        said = ": ".join(filter(None, (text, log)))
        super().__init__(f"{what} ({function}: {name or code}{', ' * bool(said)}{said})", fix)
        self.code = code


@record(eq=False)
class Driver:
    """The functions of `library`, which is libcuda, or what stands for it in a test."""

    library: Any

    def call(self, function: str, *arguments: Any, log: Callable[[], str] | None = None) -> None:
        """Call a function; `log` has more words on a failure."""
        code = self.attempt(function, *arguments)
        if code:
            raise CudaError(code, function, *self._texts(code), "" if log is None else log())

    def attempt(self, function: str, *arguments: Any) -> int:
        """Call a function and give its code, which is 0 where it succeeds."""
        try:
            entry = getattr(self.library, function)
        except AttributeError:
            raise DeviceError(f"the GPU's driver has no function {function}: it is too old", UPDATE) from None
        return int(entry(*arguments))

    def _texts(self, code: int) -> tuple[str, str]:
        """The name and the description of an error, as far as the driver knows them."""
        found: list[str] = []
        for function in ("cuGetErrorName", "cuGetErrorString"):
            text = ctypes.c_char_p()
            known = self.attempt(function, ctypes.c_int(code), ctypes.byref(text)) == 0 and text.value
            found.append(text.value.decode(errors="replace") if known and text.value else "")
        return found[0], found[1]


def opened_driver() -> Driver:
    """The driver of this machine, after its start. Raises UsageError where there is none, or no GPU; see `begun`."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        message = f"this machine has no driver of NVIDIA GPUs: there is no {LIBRARY}"
        raise UsageError(message, ON_THE_PROCESSOR) from None
    return begun(Driver(library))


def begun(driver: Driver) -> Driver:
    """The driver after its start. Raises UsageError where it is too old or has no GPU."""
    version = ctypes.c_int()
    try:
        driver.call("cuInit", ctypes.c_uint(0))
    except CudaError as error:
        if error.code == NO_DEVICE:
            raise UsageError(str(error), error.fix) from None
        raise
    driver.call("cuDriverGetVersion", ctypes.byref(version))
    if version.value < LEAST_VERSION:
        has, needs = (f"{v // 1000}.{v % 1000 // 10}" for v in (version.value, LEAST_VERSION))
        raise UsageError(f"the GPU's driver is too old: it has CUDA {has}, and {needs} is needed", UPDATE)
    return driver
