"""The devices that kernels are made for, and how kernels are cut for them."""

from __future__ import annotations

from dataclasses import replace

from compiler.errors.diagnostics import UsageError
from compiler.machine import KIBIBYTE, Machine
from compiler.tuning import Tuning

BLOCK_THREADS = 256
WARP_THREADS = 32  # that go on together
NEVER = 1 << 30  # more than anything is counted

# Products: 8 rows by 2 vectors a thread keep 16 sums in registers. Rows are not computed side by side, which CPUs do to
# load elements once: neighbouring threads share their lines of the cache. Kernels are not chained: no thread takes a
# whole shard. Where a kernel has no rows, an item is small, since many items fill a device.
_TUNING = Tuning(
    flat_columns=256, tile_rows=8, shared_reads=NEVER, shards=NEVER, image_shards=NEVER, long_sum_tiles=NEVER
)

# The oldest architecture that the driver still compiles for; PTX for one runs on all that came later.
SM_75 = Machine(
    name="sm_75",
    triple="nvptx64-nvidia-cuda",
    cpu="sm_75",
    features="+ptx64",
    vector_bits=512,  # LANES threads hold a vector, an element each
    registers=64,
    masks=True,
    l1_bytes=64 * KIBIBYTE,
    l1_ways=4,
    l2_bytes=4096 * KIBIBYTE,
    line_bytes=128,
    keeps_copies=False,
    tuning=_TUNING,
)
SM_80 = replace(SM_75, name="sm_80", cpu="sm_80", features="+ptx70")
DEVICES = {(7, 5): SM_75, (8, 0): SM_80}  # by the least compute capability that each is for
DEVICE = SM_80  # where none is at hand, and none is named


def device_called(name: str | None) -> Machine:
    """The machine of that name. Raises UsageError where there is none."""
    if name is None:
        return DEVICE
    found = [machine for machine in DEVICES.values() if machine.name == name]
    if not found:
        known = " and ".join(machine.name for machine in DEVICES.values())
        raise UsageError(f"kernels of a GPU are made for {known}, not for `{name}`", "`--target gpu` takes what fits")
    return found[0]


def device_for(capability: tuple[int, int], name: str | None = None) -> Machine:
    """The machine for a device of this compute capability; that of a name where one is given.

    Raises UsageError where the device cannot run its code.
    """
    fitting = [machine for least, machine in DEVICES.items() if least <= capability]
    if name is None:
        return fitting[-1]
    chosen = device_called(name)
    if chosen not in fitting:
        has = ".".join(map(str, capability))
        raise UsageError(f"the GPU has compute capability {has} and cannot run code for `{name}`", "leave out the name")
    return chosen
