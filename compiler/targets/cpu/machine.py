"""What code generation must know of a processor: its name for LLVM, its vector registers and its caches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compiler.diagnostics import CompilerBug
from compiler.record import record
from compiler.targets.cpu.llvm import Llvm, LlvmError
from compiler.types import DType

LINE = 64  # bytes of a line of the caches
_KIBIBYTE = 1024


@record
class Machine:
    """A processor. `name` is its instruction set: avx512, avx2, neon, or generic for 128-bit vectors of anything else.

    `registers` counts vector registers; the caches are those of one core. A machine that `masks` stores any lanes of a
    vector, whatever their type, as fast as a whole one.
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

    @property
    def vector_bytes(self) -> int:
        return self.vector_bits // 8

    @property
    def architecture(self) -> str:
        """The first part of the triple: x86_64, aarch64, ..."""
        return self.triple.partition("-")[0]

    def lanes(self, dtype: DType) -> int:
        """How many elements one vector register holds."""
        return self.vector_bytes // dtype.size


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
)
MACHINES = (AVX512, AVX2, NEON)


def detect() -> Machine:
    """The machine that this process runs on."""
    try:
        triple, cpu, features = Llvm().host()
    except LlvmError as error:
        raise CompilerBug("llvm", str(error)) from error
    model = _model_of(triple, features)
    l1_bytes, l1_ways = _cache(level=1) or (model.l1_bytes, model.l1_ways)
    l2_bytes, _ = _cache(level=2) or (model.l2_bytes, 0)
    return replace(
        model,
        triple=triple,
        cpu=cpu,
        features=",".join(sorted(features.split(","))) if features else "",
        l1_bytes=l1_bytes,
        l1_ways=l1_ways,
        l2_bytes=l2_bytes,
    )


def _model_of(triple: str, features: str) -> Machine:
    present = set(features.split(","))
    if triple.startswith(("aarch64", "arm64")):
        return NEON
    if {"+avx512f", "+avx512vl", "+avx512bw", "+avx512dq"} <= present:
        return AVX512
    if {"+avx2", "+fma"} <= present:
        return AVX2
    return replace(AVX2, name="generic", vector_bits=128)


def _cache(level: int) -> tuple[int, int] | None:
    """Bytes and ways of the first core's data cache of this level, where the system tells."""
    folder = Path("/sys/devices/system/cpu/cpu0/cache")
    try:
        for index in sorted(folder.glob("index*")):
            if (index / "level").read_text().strip() != str(level):
                continue
            if (index / "type").read_text().strip() in ("Data", "Unified"):
                size = _parsed_size((index / "size").read_text().strip())
                return size, int((index / "ways_of_associativity").read_text())
    except (OSError, ValueError):
        return None
    return None


def _parsed_size(text: str) -> int:
    """Bytes of a size as the kernel writes it: `48K`, `2M`."""
    unit = {"K": _KIBIBYTE, "M": _KIBIBYTE**2}.get(text[-1:], 1)
    return int(text.rstrip("KM")) * unit
