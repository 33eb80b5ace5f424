"""Puts faults into the nests of kernels of every kind, and says whether the proofs about their memory find them.

    python tests/stress/attack_verifier.py [--kinds product,chosen] [--mutations 20] [--seeds 1] [--seconds N]

Each kind of kernel is emitted for AVX-512, AVX2 and NEON. Into each nest so many faults are put, one at a time: an
index or a bound of a loop that is off by one, another step or factor, a guard or a mask that is gone, a comparison
with one lane more, another memory, another alignment, a lost sum, and others of `nest_mutations.py`. All laws of
`compiler/nest/verify_memory.py` are asked of each. A fault without a doubt runs in watched memory, as
`check_nests.py` runs nests, at eleven batches: a run that leaves memory, depends on what nobody wrote or on the order
of items shows a hole of the verifier, which is printed with its nest. One that computes other numbers breaks no law of
memory. One that changes no bit is harmless. The exit status is 1 if there are holes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS / "support")]

from kernel_kinds import KINDS, PRODUCTS, cases_of  # noqa: E402
from nest_cases import MACHINES, Attack, small  # noqa: E402

from compiler.nest.verify_memory import Law  # noqa: E402

MOST_STATEMENTS = 400_000  # of a run
WHO = ("verifier", "proof", "run", "nobody", "too long", "missed", "hole")
SAID = "found by the verifier, by a proof, by other numbers of a run alone; harmless; too long to run; missed; holes"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    every = {make.__name__: make for make in (*KINDS, *PRODUCTS)}
    parser.add_argument("--kinds", default=",".join(every), help=f"of {', '.join(every)}")
    parser.add_argument("--mutations", type=int, default=20, metavar="N", help="faults to put into each nest")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no kind after so many")
    arguments = parser.parse_args()
    attack = Attack(Law, MOST_STATEMENTS, lambda hole: print(f"hole: {hole}", flush=True))
    begin, found = time.monotonic(), Counter[tuple[str, str]]()
    for seed in range(1, arguments.seeds + 1):
        for name in arguments.kinds.split(","):
            of_kind = Counter[str]()
            for machine in MACHINES if time.monotonic() - begin < arguments.seconds else ():
                cases = cases_of(every[name], small(machine, Random(seed)), bool(seed % 2))
                for kind, who in cases.mutations(Random(seed), arguments.mutations, attack):
                    found[kind, who] += 1
                    of_kind[who] += 1
            print(
                f"{name}, seed {seed}: " + ", ".join(f"{who} {of_kind[who]}" for who in WHO if of_kind[who]), flush=True
            )
    print(f"{SAID}:")
    for kind in (*sorted({kind for kind, _ in found}), ""):
        counts = [sum(n for (k, w), n in found.items() if w == who and (not kind or k == kind)) for who in WHO]
        print(f"{kind or 'in all':24}" + " ".join(f"{count:5}" for count in counts))
    sys.exit(any(who in ("hole", "missed") for _, who in found))


if __name__ == "__main__":
    main()
