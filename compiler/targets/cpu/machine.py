"""A processor as code generation sees it: its name for LLVM, its vector registers and its caches.

The machine is the one that runs, unless another is chosen by name: a part of its instruction set, with its own caches.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compiler.diagnostics import CompilerBug, UsageError
from compiler.record import record
from compiler.targets.cpu.llvm import Llvm, LlvmError
from compiler.types import DType

_KIBIBYTE = 1024
_SIBLINGS = "topology/thread_siblings_list"
_TUNING = "neoverse-v1"
_ARM = ("aarch64-", "arm64-")
PROCESSOR = Path("/sys/devices/system/cpu/cpu0")  # where Linux tells of the first one


@record
class Machine:
    """A processor. `name` is its instruction set: avx512, avx2, neon, or generic for 128-bit vectors of anything else;
    apple-m1 is neon with Apple's caches.

    `registers` counts vector registers; the caches are those of one core, and its share of what cores have together.
    A machine that `masks` stores any lanes of a vector, whatever their type, as fast as a whole one.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bits: int
    registers: int
    masks: bool
    l1_bytes: int
    l1_ways: int  # lines of the first-level cache that may have the same place
    l2_bytes: int
    line_bytes: int  # what the caches move at once

    @property
    def vector_bytes(self) -> int:
        return self.vector_bits // 8

    @property
    def architecture(self) -> str:
        """The first part of the triple: x86_64, aarch64, which Apple calls arm64, ..."""
        return self.triple.partition("-")[0]

    @property
    def description(self) -> str:
        """For a reader: the name, LLVM's name of the processor, and its vector registers."""
        return f"{self.name} ({self.cpu}): {self.registers} registers of {self.vector_bits} bits"

    @property
    def is_arm(self) -> bool:
        return self.triple.startswith(_ARM)

    @property
    def tuning(self) -> str:
        """Whose pipeline LLVM orders instructions for; nothing for the machine's own.

        By its models of some cores of Arm, and without one, LLVM moves loads up until sums no longer fit in registers.
        """
        return _TUNING if self.is_arm else ""

    def lanes(self, dtype: DType) -> int:
        """How many elements one vector register holds."""
        return self.vector_bytes // dtype.size

    def line(self, dtype: DType) -> int:
        """How many elements a line of the caches holds."""
        return self.line_bytes // dtype.size


AVX512 = Machine(
    name="avx512",
    triple="x86_64-unknown-linux-gnu",
    cpu="skylake-avx512",
    features="",
    vector_bits=512,
    registers=32,
    masks=True,
    l1_bytes=32 * _KIBIBYTE,
    l1_ways=8,
    l2_bytes=1024 * _KIBIBYTE,
    line_bytes=64,
)
AVX2 = Machine(
    name="avx2",
    triple="x86_64-unknown-linux-gnu",
    cpu="haswell",
    features="",
    vector_bits=256,
    registers=16,
    masks=False,
    l1_bytes=32 * _KIBIBYTE,
    l1_ways=8,
    l2_bytes=256 * _KIBIBYTE,
    line_bytes=64,
)
NEON = Machine(
    name="neon",
    triple="aarch64-unknown-linux-gnu",
    cpu="neoverse-n1",
    features="",
    vector_bits=128,
    registers=32,
    masks=False,
    l1_bytes=64 * _KIBIBYTE,
    l1_ways=4,
    l2_bytes=1024 * _KIBIBYTE,
    line_bytes=64,
)
APPLE_M1 = Machine(
    name="apple-m1",
    triple="arm64-apple-darwin20.0.0",
    cpu="apple-m1",
    features="",
    vector_bits=128,
    registers=32,
    masks=False,
    l1_bytes=128 * _KIBIBYTE,
    l1_ways=8,
    l2_bytes=3072 * _KIBIBYTE,  # four cores share 12 MiB
    line_bytes=128,
)
MACHINES = (AVX512, AVX2, NEON, APPLE_M1)
# Without fused multiply-adds in the processor, each is a call of the C library: the same bits, and far slower.
GENERIC = replace(AVX2, name="generic", cpu="x86-64", vector_bits=128)
CHOICES = {machine.name: machine for machine in (*MACHINES, GENERIC)}
# Each x86-64 machine holds those behind it; the feature without which LLVM leaves out all that it has more than they.
_CONTAINED = ("avx512", "avx2", "generic")
_OF_THE_PROCESSOR = ("triple", "cpu", "l1_bytes", "l1_ways", "l2_bytes", "line_bytes")
_LEFT_OUT = {"avx2": "-avx512f", "generic": "-avx2"}


def machine_of(name: str | None, runs: bool = True) -> Machine:
    """The machine called `name`; without one, that which this process runs on.

    What this processor holds has its caches and LLVM's name of it, and only the instructions and registers of what was
    chosen. Raises UsageError for an unknown name and, where the code `runs` here, for one that this processor lacks.
    """
    host = detect()
    if name is None or name == host.name:
        return host
    if name not in CHOICES:
        from compiler.suggestions import did_you_mean  # only a mistake needs it; every start would pay for it

        near = did_you_mean(name, CHOICES)
        hint = f"did you mean `{near}`?" if near else f"machines are {', '.join(CHOICES)}"
        raise UsageError(f"there is no machine `{name}`", hint)
    held = _held_by(host)
    chosen = CHOICES[name]
    if name in held:
        left_out = _LEFT_OUT.get(name)
        features = ",".join(filter(None, (host.features, left_out)))  # in order: the last one holds
        kept = {part: getattr(host, part) for part in _OF_THE_PROCESSOR}
        return replace(chosen, features=features, **kept)
    if runs:
        can = ", ".join((host.name, *held))
        raise UsageError(
            f"this processor cannot run code for `{name}`", f"it can for {can}; `dlc show --machine` prints any"
        )
    return replace(chosen, triple=host.triple) if chosen.architecture == host.architecture else chosen


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
    if triple.startswith(_ARM):
        return APPLE_M1 if "-apple-" in triple else NEON
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
    unit = {"K": _KIBIBYTE, "M": _KIBIBYTE**2}.get(text[-1:], 1)
    return int(text.rstrip("KM")) * unit
