"""The device that kernels are made for, and how kernels are cut for it."""

from __future__ import annotations

from compiler.machine import KIBIBYTE, Machine
from compiler.tuning import Tuning

BLOCK_THREADS = 256
NEVER = 1 << 30  # more than anything is counted

# Products: 8 rows by 2 vectors a thread keep 16 sums in registers. Rows are not computed side by side, which CPUs do to
# load elements once: neighbouring threads share their lines of the cache. Kernels are not chained: no thread takes a
# whole shard. Where a kernel has no rows, an item is small, since many items fill a device.
_TUNING = Tuning(
    flat_columns=256, tile_rows=8, shared_reads=NEVER, shards=NEVER, image_shards=NEVER, long_sum_tiles=NEVER
)

# The oldest architecture that the driver still compiles for; PTX for it runs on all that came later.
DEVICE = Machine(
    name="gpu",
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
