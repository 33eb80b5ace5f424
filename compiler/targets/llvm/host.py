"""The machine for which code is generated: the one that runs, unless another is chosen by name.

A machine that was chosen is a part of the instruction set of the one that runs, with its caches.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compiler.errors.diagnostics import CompilerBug, UsageError
from compiler.machine import APPLE_M1, ARM, AVX2, AVX2_WINDOWS, AVX512, CHOICES, GENERIC, KIBIBYTE, NEON, RVV, Machine
from compiler.targets.llvm.llvm import Llvm, LlvmError
from compiler.triples import machine_called

_SIBLINGS = "topology/thread_siblings_list"
PROCESSOR = Path("/sys/devices/system/cpu/cpu0")  # where Linux tells of the first one
# Each x86-64 machine holds those behind it; the feature without which LLVM leaves out all that it has more than they.
_CONTAINED = ("avx512", "avx2", "generic")
_OF_THE_PROCESSOR = ("triple", "cpu", "l1_bytes", "l1_ways", "l2_bytes", "line_bytes")
_LEFT_OUT = {"avx2": "-avx512f", "generic": "-avx2"}


def machine_of(name: str | None, runs: bool = True) -> Machine:
    """The machine called `name`, or that of a triple of LLVM; without a name, that which this process runs on.

    What this processor holds has its caches and LLVM's name of it, and only the instructions and registers of what was
    chosen. Raises UsageError for an unknown name and, where the code `runs` here, for one that this processor lacks.
    """
    host = detect()
    if name is None or name == host.name:
        return host
    chosen = machine_called(name)
    if name not in CHOICES and runs:  # a triple
        return machine_of(chosen.name)
    held = _held_by(host) if name in CHOICES else ()
    if name in held:
        left_out = _LEFT_OUT.get(name)
        features = ",".join(filter(None, (host.features, left_out)))  # in order: the last one holds
        kept = {part: getattr(host, part) for part in _OF_THE_PROCESSOR}
        return replace(chosen, features=features, **kept)
    if runs:
        can = ", ".join((host.name, *held))
        raise UsageError(
            f"this processor cannot run code for `{name}`", f"it can for {can}; `dlc show --target` prints any"
        )
    has_host_system = name in CHOICES and chosen.architecture == host.architecture and chosen is not AVX2_WINDOWS
    return replace(chosen, triple=host.triple) if has_host_system else chosen


def machine_elsewhere(name: str | None) -> Machine:
    """The machine called `name` as any processor has it: nothing of this one's. Without a name, that which runs."""
    return detect() if name is None else machine_called(name)


def _held_by(host: Machine) -> tuple[str, ...]:
    """The other machines whose code a processor runs."""
    if host.name in _CONTAINED:
        return _CONTAINED[_CONTAINED.index(host.name) + 1 :]
    return (NEON.name,) if host.name == APPLE_M1.name else ()


def detect() -> Machine:
    """The machine that this process runs on."""
    try:
        triple, cpu, features = Llvm().host()
    except LlvmError as error:
        raise CompilerBug("llvm", str(error)) from error
    model = _model_of(triple, features)
    l1_bytes, l1_ways, line_bytes = _cache(level=1) or (model.l1_bytes, model.l1_ways, model.line_bytes)
    l2_bytes, _, _ = _cache(level=2) or (model.l2_bytes, 0, 0)
    return replace(
        model,
        triple=triple,
        cpu=cpu,
        features=",".join(sorted(features.split(","))) if features else "",
        l1_bytes=l1_bytes,
        l1_ways=l1_ways,
        l2_bytes=l2_bytes,
        line_bytes=line_bytes,
    )


def _model_of(triple: str, features: str) -> Machine:
    present = set(features.split(","))
    if triple.startswith(ARM):
        return APPLE_M1 if "-apple-" in triple else NEON
    if triple.startswith("riscv64") and "+v" in present:
        return RVV
    if {"+avx512f", "+avx512vl", "+avx512bw", "+avx512dq"} <= present:
        return AVX512
    if {"+avx2", "+fma"} <= present:
        return AVX2
    return GENERIC


def _cache(level: int) -> tuple[int, int, int] | None:
    """Bytes, ways and bytes of a line of the first core's data cache of this level, where the system tells.

    What several cores have together counts by its share.
    """
    try:
        for index in sorted((PROCESSOR / "cache").glob("index*")):
            if (index / "level").read_text().strip() != str(level):
                continue
            if (index / "type").read_text().strip() in ("Data", "Unified"):
                size = _parsed_size((index / "size").read_text().strip())
                ways, line = (int((index / f).read_text()) for f in ("ways_of_associativity", "coherency_line_size"))
                together = _processors(index / "shared_cpu_list") // _processors(PROCESSOR / _SIBLINGS)
                return size // max(1, together), ways, line
    except (OSError, ValueError):
        return None
    return None


def _processors(file: Path) -> int:
    """How many processors a list of the kernel names: `0-3,8`."""
    ranges = [part.partition("-") for part in file.read_text().strip().split(",")]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)


def _parsed_size(text: str) -> int:
    """Bytes of a size as the kernel writes it: `48K`, `2M`."""
    unit = {"K": KIBIBYTE, "M": KIBIBYTE**2}.get(text[-1:], 1)
    return int(text.rstrip("KM")) * unit
