"""Goes through the bit patterns of f32 and compares each vector function with NumPy in f64.

    python tests/stress/sweep_functions.py [NAME ...] [--stride N] [--first N]

With the stride 1 (as it is unless said) these are all 2**32, some four minutes a function. A longer stride takes every
N-th pattern from `--first` on; sweeps from 0 to N - 1 together go through all. The second operand of `pow` is drawn
(Philox, by the chunk): for half of the patterns so that the power is a normal number, else any pattern. It ends with
exit status 1 at the first result that is further from the true value than its function may be.
`tests/targets/test_math_single.py` does the same with every 9973rd pattern and with special numbers.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS / "support")]

from f32_accuracy import BOUND_OF_POWER, REFERENCES, check, check_power, patterns  # noqa: E402
from native_functions import native_function  # noqa: E402

from compiler.targets.llvm.host import detect  # noqa: E402
from compiler.types import DType  # noqa: E402

_CHUNK = 2**13  # patterns at a time, so that their numbers in f64 stay in the cache
_NAMES = (*REFERENCES, "pow")

Array = np.ndarray[Any, Any]


def sweep(name: str, first: int, stride: int) -> tuple[float, Any, int]:
    """The largest error in ulp, the operand where it is, and how many patterns were tried."""
    check_chunk = _chunk_of_powers(first) if name == "pow" else _chunk_of(name)
    worst, where, tried = 0.0, None, 0
    for begin in range(first, 2**32, _CHUNK * stride):
        x = patterns(begin, stride, min(_CHUNK, -((begin - 2**32) // stride)))
        error, operand = check_chunk(x)
        tried += len(x)
        if error >= worst:
            worst, where = error, operand
    return worst, where, tried


def _chunk_of(name: str) -> Callable[[Array], tuple[float, Any]]:
    machine = detect()
    function = native_function(name, DType.F32, 16, machine)
    return lambda x: check(function, name, x)


def _chunk_of_powers(seed: int) -> Callable[[Array], tuple[float, Any]]:
    machine = detect()
    function = native_function("pow", DType.F32, 16, machine)
    random = np.random.Generator(np.random.Philox(seed))
    return lambda x: check_power(function, x, _exponents(x, random))


def _exponents(x: Array, random: np.random.Generator) -> Array:
    bits = random.integers(0, 2**32, len(x), np.uint32)
    logarithm = np.log2(np.abs(x), dtype=np.float64)
    to_normal = (random.uniform(-127, 128, len(x)) / logarithm).astype(np.float32)
    return np.where(bits & 1, np.where(x < 0, np.rint(to_normal), to_normal), bits.view(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *_NAMES], metavar="NAME", help=", ".join(_NAMES))
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    with np.errstate(all="ignore"):
        for name in arguments.names or _NAMES:
            begin = time.monotonic()
            try:
                worst, where, tried = sweep(name, arguments.first, arguments.stride)
            except AssertionError as failure:
                sys.exit(str(failure))
            bound = BOUND_OF_POWER if name == "pow" else REFERENCES[name][1]
            seconds = time.monotonic() - begin
            print(
                f"{name}: {worst:.3f} of {bound} ulp, at {where!r}; {tried:,} patterns in {seconds:.0f} s", flush=True
            )


if __name__ == "__main__":
    main()
