"""A processor as the compiler sees it: its name for LLVM, its vector registers, its caches and its tuning."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from compiler.support.record import record
from compiler.tuning import Tuning
from compiler.types import DType

KIBIBYTE = 1024
_SCHEDULING_MODEL = "neoverse-v1"
ARM = ("aarch64-", "arm64-")


class Bf16(Enum):
    """How a processor multiplies numbers of bf16: its instructions, as a reader knows them."""

    TILES = "AMX"
    PAIRS = "AVX512-BF16"


_BF16_FEATURES = {Bf16.TILES: {"+amx-tile", "+amx-bf16", "+avx512bf16"}, Bf16.PAIRS: {"+avx512bf16"}}


class MultiplyAdd(Enum):
    """How a multiply-add that is rounded once is written for LLVM."""

    INTRINSIC = "llvm.fma"
    # LLVM makes calls of the first for each lane; this is one instruction, which the processor may round twice
    RELAXED = "llvm.wasm.relaxed.madd"
    FUNCTIONS = "functions of the library, for a vector of 16 bytes"
    SINGLE = "llvm.fma in f32, such functions in f64"


@record
class Machine:
    """A processor. `name` is its instruction set: avx512, avx2, neon, rvv, wasm, or generic for 128-bit vectors.

    avx2-windows is avx2 with the calls and objects of Windows; apple-m1 is neon with Apple's caches and objects;
    cortex-m4 has no vectors, and floats of 32 bits alone.
    `registers` counts vector registers; the caches are those of one core, and its share of what cores have together.
    A machine that `masks` stores any lanes of a vector, whatever their type, as fast as a whole one. One that
    `keeps_copies` of weights, packed for products, has memory for them.
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
    line_bytes: int  # moved by the caches at once
    multiply_add: MultiplyAdd = MultiplyAdd.INTRINSIC
    keeps_copies: bool = True
    tuning: Tuning = Tuning()
    persistent_loops: bool = False  # on a GPU: a loop of the schedule is one kernel

    @property
    def is_web(self) -> bool:
        return self.architecture == "wasm32"

    @property
    def is_gpu(self) -> bool:
        return self.triple.startswith("nvptx")

    @property
    def copies_ahead(self) -> bool:
        """Whether a device moves operands to the memory of a block while threads compute."""
        return self.is_gpu and int(self.cpu.removeprefix("sm_")) >= 80

    @property
    def multiplies_matrices(self) -> bool:
        """Whether a device has instructions for products of matrices of bf16 and tf32."""
        return self.copies_ahead  # devices have both from 8.0 on

    @property
    def is_microcontroller(self) -> bool:
        """Whether memory counts more than time."""
        return self.triple.startswith("thumb")

    @property
    def is_apple(self) -> bool:
        return "-apple-" in self.triple

    @property
    def is_windows(self) -> bool:
        return "-windows-" in self.triple

    @property
    def vector_bytes(self) -> int:
        return self.vector_bits // 8

    @property
    def architecture(self) -> str:
        """The first part of the triple: x86_64, aarch64, which Apple calls arm64, ..."""
        return self.triple.partition("-")[0]

    @property
    def bf16(self) -> Bf16 | None:
        """How code for it multiplies numbers of bf16; None where it cannot."""
        present = {*self.features.split(",")} if self.name == AVX512.name else set[str]()
        return next((how for how, needed in _BF16_FEATURES.items() if needed <= present), None)

    @property
    def description(self) -> str:
        """For a reader: the name, LLVM's name of the processor, its vector registers, and whether it is tuned.

        Of a GPU, the compute capability from which on one runs the code.
        """
        if self.is_gpu:
            return f"{self.name}: GPUs of compute capability {self.name[3:-1]}.{self.name[-1]} or later"
        registers = f"{self.registers} registers of {self.vector_bits} bits"
        return f"{self.name} ({self.cpu}): {registers}, {self.tuning.description}"

    @property
    def is_arm(self) -> bool:
        return self.triple.startswith(ARM)

    @property
    def scheduling_model(self) -> str:
        """Whose pipeline LLVM orders instructions for; nothing for the machine's own.

        By its models of some cores of Arm, and without one, LLVM moves loads up until sums no longer fit in registers.
        """
        return _SCHEDULING_MODEL if self.is_arm else ""

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
    l1_bytes=32 * KIBIBYTE,
    l1_ways=8,
    l2_bytes=1024 * KIBIBYTE,
    line_bytes=64,
)
AVX2 = replace(AVX512, name="avx2", cpu="haswell", vector_bits=256, registers=16, masks=False, l2_bytes=256 * KIBIBYTE)
AVX2_WINDOWS = replace(AVX2, name="avx2-windows", triple="x86_64-pc-windows-gnu")
NEON = Machine(
    name="neon",
    triple="aarch64-unknown-linux-gnu",
    cpu="neoverse-n1",
    features="",
    vector_bits=128,
    registers=32,
    masks=False,
    l1_bytes=64 * KIBIBYTE,
    l1_ways=4,
    l2_bytes=1024 * KIBIBYTE,
    line_bytes=64,
)
APPLE_M1 = replace(
    NEON,
    name="apple-m1",
    triple="arm64-apple-darwin20.0.0",
    cpu="apple-m1",
    l1_bytes=128 * KIBIBYTE,
    l1_ways=8,
    l2_bytes=3072 * KIBIBYTE,  # four cores share 12 MiB
    line_bytes=128,
)
RVV = Machine(
    name="rvv",
    triple="riscv64-unknown-linux-gnu",
    cpu="generic-rv64",
    features="+m,+a,+f,+d,+c,+v",
    vector_bits=128,
    registers=32,
    masks=False,
    l1_bytes=32 * KIBIBYTE,
    l1_ways=8,
    l2_bytes=512 * KIBIBYTE,
    line_bytes=64,
)
WASM = Machine(
    name="wasm",
    triple="wasm32-unknown-unknown",
    cpu="generic",
    features="+simd128,+relaxed-simd,+bulk-memory,+nontrapping-fptoint,+sign-ext",
    vector_bits=128,
    registers=16,  # of the processors of most browsers, which give vectors 16 or 32
    masks=False,
    l1_bytes=32 * KIBIBYTE,
    l1_ways=8,
    l2_bytes=512 * KIBIBYTE,
    line_bytes=64,
    multiply_add=MultiplyAdd.RELAXED,
)
# For engines whose relaxed multiply-adds are rounded twice, or that have none: the same bits, and slower.
WASM_SIMD128 = replace(
    WASM, name="wasm-simd128", features=WASM.features.replace(",+relaxed-simd", ""), multiply_add=MultiplyAdd.FUNCTIONS
)
# Its 32 registers of one number each count as 8 of four.
CORTEX_M4 = Machine(
    name="cortex-m4",
    triple="thumbv7em-unknown-none-eabihf",
    cpu="cortex-m4",
    features="",
    vector_bits=128,
    registers=8,
    masks=False,
    l1_bytes=32 * KIBIBYTE,
    l1_ways=8,
    l2_bytes=64 * KIBIBYTE,
    line_bytes=64,
    multiply_add=MultiplyAdd.SINGLE,
    keeps_copies=False,
)
MACHINES = (AVX512, AVX2, NEON, APPLE_M1)
# Without fused multiply-adds in the processor, each is a call of the C library: the same bits, and far slower.
GENERIC = replace(AVX2, name="generic", cpu="x86-64", vector_bits=128)
CHOICES = {machine.name: machine for machine in (*MACHINES, AVX2_WINDOWS, RVV, WASM, WASM_SIMD128, CORTEX_M4, GENERIC)}
