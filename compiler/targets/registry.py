"""All targets, by the names that options give them. Each is imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import did_you_mean
from compiler.interface import Options
from compiler.targets.target import DeviceState, KernelTarget, Target
from compiler.triples import machine_called


def _native() -> KernelTarget:
    from compiler.targets.cpu.target import CpuTarget  # the reference needs none of it

    return CpuTarget()


def _gpu() -> KernelTarget:
    from compiler.targets.gpu.target import GpuTarget  # few programs are for a device

    return GpuTarget()


def _gpu_emulator() -> KernelTarget:
    from compiler.targets.gpu.target import EmulatedTarget

    return EmulatedTarget()


def _reference() -> Target:
    from compiler.targets.reference import ReferenceTarget  # native code needs no op of the compiler

    return ReferenceTarget()


# Programs of all of these have the same bits.
KERNEL_TARGETS: Mapping[str, Callable[[], KernelTarget]] = {
    "native": _native,
    "gpu": _gpu,
    "gpu-emulator": _gpu_emulator,
}
TARGETS: Mapping[str, Callable[[], Target]] = {**KERNEL_TARGETS, "reference": _reference}


_DEVICES = "gpu-sm_"  # how names of machines begin that are GPUs


def why_no_gpu() -> str | None:
    """Why no GPU can be used here; None where one can."""
    from compiler.targets.gpu.opened import why_unusable  # few programs are for a GPU

    return why_unusable()


def expect_device(name: str) -> None:
    """Raises UsageError, or DeviceError, where the device of a target cannot be used here."""
    if name == "gpu":
        from compiler.targets.gpu.opened import device_memory  # few programs are for a GPU

        device_memory()


def expect_target(name: str) -> None:
    """Raises UsageError where there is no target of that name."""
    if name not in TARGETS:
        raise UsageError(
            f"there is no target `{name}`", did_you_mean(name, TARGETS) or f"targets are {', '.join(TARGETS)}"
        )


def named_target(name: str) -> tuple[str, str | None]:
    """The target and the machine of the options, by one word: `native`, a machine, `gpu-sm_75`, or a triple of LLVM.

    Raises UsageError where there is neither.
    """
    if name in TARGETS:
        return name, None
    if name.startswith(_DEVICES):
        from compiler.targets.gpu.device import device_called  # few programs are for a GPU

        return "gpu", device_called(name.removeprefix("gpu-")).name
    machine_called(name, TARGETS)
    return next(iter(KERNEL_TARGETS)), name


def word_of(options: Options) -> str:
    """The target of the options as one word for `named_target`: of a GPU, with the kind that its code is made for."""
    return f"gpu-{kernel_target_of(options).machine(options).name}" if options.target == "gpu" else options.target


def target_in(word: str) -> str:
    """The target that such a word names."""
    return "gpu" if word.startswith(_DEVICES) else word


def expect_times(options: Options) -> None:
    """Raises UsageError where the time of a program would be that of no machine."""
    if options.target == "gpu-emulator":
        raise UsageError("the emulator takes other times than a GPU", "leave out --target, or give --target gpu")


def device_of(options: Options) -> DeviceState | None:
    """The device that programs of these options run on, opened; None where this processor runs them."""
    return KERNEL_TARGETS[options.target]().device() if options.target in KERNEL_TARGETS else None


def target_of(options: Options) -> Target:
    """The target that the options name. Raises UsageError where there is none."""
    expect_target(options.target)
    return TARGETS[options.target]()


def kernel_target_of(options: Options) -> KernelTarget:
    """The target whose kernels a reader is shown: that of the options, or the first where it has none."""
    return KERNEL_TARGETS.get(options.target, _native)()
