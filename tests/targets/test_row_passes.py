"""Kernels over rows and columns: `tests/golden/rows/CASE.rows` has the definition, and what each pass decides.

`--update-golden` writes them. Passes that change nothing are left out of a file; each changes something in some case.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from golden import Golden

from compiler.errors.diagnostics import CompilerBug, DataError
from compiler.loops.ir import (
    Access,
    BufferArgument,
    ColumnKernel,
    Combine,
    Compute,
    Edge,
    FlatKernel,
    IndexTerm,
    Instruction,
    Load,
    Reduce,
    RowKernel,
    Space,
    Stage,
    Store,
)
from compiler.machine import AVX2, AVX512, Machine
from compiler.ops.elementwise import Add, Multiply
from compiler.support.record import record
from compiler.targets.cpu.iteration_space import RowBlock
from compiler.targets.cpu.kernel_pass import KernelPass, after_all
from compiler.targets.cpu.passes_on_text import passes_on_text, verified_tiles
from compiler.targets.cpu.rows.ir import Ask, Order, OrderedKernel, RowLoops
from compiler.targets.cpu.rows.passes import PASSES, definition
from compiler.targets.cpu.rows.text import print_rows, read_rows
from compiler.targets.cpu.rows.verify import faults_of
from compiler.types import BatchExtent, DType

F32, DENSE = DType.F32, (IndexTerm(1, None, 1),)
BUFFERS = tuple(BufferArgument(name, F32) for name in ("x", "w", "y"))


@record
class Case:
    kernel: OrderedKernel
    unread: frozenset[int] = frozenset()
    machine: Machine = AVX512


def load(result: int, buffer: int, offset: int, rows: tuple[IndexTerm, ...], *edges: Edge) -> Load:
    return Load(result, Access(buffer, offset, rows, DENSE), F32, Space.FULL, edges=edges)


def store(value: int, columns: int) -> Store:
    return Store(Access(2, 0, (IndexTerm(1, None, columns),), DENSE), value, F32, Space.FULL)


def compute(result: int, *operands: int) -> Compute:
    return Compute(result, Multiply() if result % 2 else Add(), operands, (F32,) * len(operands), F32, Space.FULL)


def taps(width: int, channels: int, first: int = 0) -> tuple[Instruction, ...]:
    """A window of 3 x 3 pixels, times a weight each; where `first` is -1, its first column lies beyond the edge."""
    line, pixel = IndexTerm(width, None, width * channels), IndexTerm(1, width, channels)
    body: list[Instruction] = []
    for tap in range(9):
        below, beside = divmod(tap, 3)
        edges = (Edge(beside + first, (IndexTerm(1, width, 1),), width),) if first else ()
        body += [load(4 * tap, 0, (below * width + beside + first) * channels, (line, pixel), *edges)]
        body += [load(4 * tap + 1, 1, tap * channels, ()), compute(4 * tap + 3, 4 * tap, 4 * tap + 1)]
    body += [compute(40, 3, 7), compute(42, 40, 11)]
    return tuple(body)


def rows(rows: int, columns: int, *body: Instruction) -> RowKernel:
    return RowKernel("k", BUFFERS, (), (Stage(body),), BatchExtent(rows), columns)


SUM = Reduce(2, Combine.SUM, 0, F32, Space.ROW)
ROW, COLUMN = (IndexTerm(1, None, 256),), (IndexTerm(1, None, 784),)
BESIDE = (IndexTerm(1, 64, 1), IndexTerm(64, None, 3072))
IMAGE = (IndexTerm(784, None, 900 * 64), IndexTerm(28, 28, 30 * 64), IndexTerm(1, 28, 64))
PRODUCTS = tuple(
    step
    for tap in range(9)
    for step in (
        load(4 * tap, 0, (tap // 3 * 30 + tap % 3) * 64, IMAGE),
        load(4 * tap + 1, 1, 0, (IndexTerm(1, None, 64),)),
        Reduce(4 * tap + 2, Combine.SUM, 4 * tap, F32, Space.COLUMN, 4 * tap + 1),
    )
)
CASES = {
    "taps of a line": Case(rows(28 * 28, 64, *taps(28, 64), store(42, 64))),
    "taps beyond an edge": Case(rows(28 * 28, 64, *taps(28, 64, -1), store(42, 64))),
    "taps on short registers": Case(rows(28 * 28, 64, *taps(28, 64), store(42, 64)), machine=AVX2),
    "taps into a result that nobody reads": Case(rows(28 * 28, 1024, *taps(28, 1024), store(42, 1024)), frozenset({2})),
    "sums of products over an image": Case(ColumnKernel("k", BUFFERS, (), (Stage(PRODUCTS),), BatchExtent(), 784, 64)),
    "sums over the rows": Case(
        ColumnKernel(
            "k", BUFFERS, (), (Stage((load(0, 0, 0, ROW), replace(SUM, space=Space.COLUMN))),), 1, BatchExtent(), 256
        )
    ),
    "columns that lie apart": Case(
        rows(64, 48, Load(0, Access(0, 0, BESIDE, (IndexTerm(1, None, 64),)), F32, Space.FULL), store(0, 48))
    ),
    "a bias that repeats": Case(
        FlatKernel(
            "k",
            BUFFERS,
            (),
            (
                Stage(
                    (
                        load(0, 0, 0, (IndexTerm(1, None, 64),)),
                        Load(1, Access(1, 0, (), (IndexTerm(1, 8, 1),)), F32, Space.FULL),
                        compute(2, 0, 1),
                        store(2, 64),
                    )
                ),
            ),
            BatchExtent(100),
            64,
        )
    ),
    "short rows": Case(rows(1, 10, load(0, 0, 0, (IndexTerm(1, None, 10),)), SUM)),
    "long rows": Case(rows(1, 1000, load(0, 0, 0, (IndexTerm(1, None, 1000),)), SUM)),
}


def steps(case: Case) -> list[tuple[str, RowLoops]]:
    """The definition, and the loops behind each pass that changes them."""
    found = [("definition", definition(case.kernel, case.unread))]
    for each in PASSES:
        loops = each.run(found[-1][1], case.machine)
        if loops != found[-1][1]:
            found.append((each.name, loops))
    return found


@pytest.mark.parametrize("name", CASES)
def test_passes_decide_as_their_case_says(name: str, golden: Golden) -> None:
    reasons = {each.name: each.reason for each in PASSES}
    texts: list[str] = []
    for step, loops in steps(CASES[name]):
        heading = f"# {step}: {reasons[step]}" if step in reasons else f"# {step}"
        texts.append(f"{heading}\n{print_rows(loops)}")
        assert not faults_of(loops)
        assert print_rows(read_rows(texts[-1])) == print_rows(loops)
    golden(f"rows/{name.replace(' ', '_')}.rows", "\n".join(texts))


@pytest.mark.parametrize("name", CASES)
def test_passes_on_text_decide_alike(name: str) -> None:
    case, passes = CASES[name], passes_on_text(CASES[name].machine, 32)
    text = print_rows(definition(case.kernel, case.unread))
    for each in PASSES:
        text = passes[each.name](text, "<text>")
    assert text == verified_tiles(case.kernel, case.machine, 32, False, case.unread)


def test_each_pass_changes_some_case() -> None:
    changed = {step for case in CASES.values() for step, _ in steps(case)}
    assert changed == {"definition", *(each.name for each in PASSES)}


def final(name: str) -> RowLoops:
    case = CASES[name]
    return after_all(PASSES, definition(case.kernel, case.unread), case.machine)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("taps of a line", {"block": RowBlock(1, 5, 28)}, "blocks do not fill the rows"),
        ("taps of a line", {"block": RowBlock(1, 1, 1)}, "a block of rows has several"),
        ("taps of a line", {"block": RowBlock(1, 8, 28)}, "do not lie equally far apart"),
        ("taps of a line", {"lanes": 12}, "vectors of 12 lanes"),
        ("taps of a line", {"streams": (29,)}, "statement 29 may not store past the caches"),
        ("taps of a line", {"asks": (Ask(2, 64),)}, "nothing is asked for by statement 2"),
        ("taps of a line", {"asks": (Ask(99, 64),)}, "nothing is asked for by statement 99"),
        ("taps beyond an edge", {"zeros": 64}, "behind the zeros"),
        ("taps into a result that nobody reads", {"streams": (0,)}, "statement 0 may not store"),
        ("taps into a result that nobody reads", {"apart": 300}, "no direction follows"),
        ("sums over the rows", {"chains": (2,)}, "otherwise than numerics has it"),
        ("sums over the rows", {"order": Order.PERIODS}, "nothing repeats"),
        ("sums over the rows", {"rows_ahead": 0}, "nothing is asked for"),
        ("long rows", {"order": Order.REGISTERS}, "too long for registers"),
        ("long rows", {"order": Order.SQUARES}, "no neighbours"),
        ("short rows", {"zeros": 64}, "are for blocks of rows"),
    ],
)
def test_wrong_decisions_are_refused(name: str, change: dict[str, object], message: str) -> None:
    changed = replace(final(name), **change)  # type: ignore[arg-type]
    assert any(message in fault for fault in faults_of(changed)), faults_of(changed)


def test_verify_checks_behind_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """As code is made with `--verify`."""

    def split(loops: RowLoops, machine: Machine) -> RowLoops:
        return replace(loops, chains=(3,))

    case = CASES["short rows"]
    assert verified_tiles(case.kernel, case.machine, 32, False, frozenset()) == print_rows(final("short rows"))
    monkeypatch.setattr("compiler.targets.cpu.rows.passes.PASSES", (*PASSES, KernelPass(split, "")))
    with pytest.raises(CompilerBug, match="split: sums are split"):
        verified_tiles(case.kernel, case.machine, 32, False, frozenset())


TEXT = print_rows(definition(CASES["short rows"].kernel))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected `rows EXTENT x EXTENT"),
        (TEXT.replace("%0 f32 at", "%7 f32 at"), "<text>:6: there is no buffer %7"),
        (TEXT.replace("buffer %1", "buffer %2"), "<text>:3: the buffer should be %1"),
        (TEXT.replace("f32", "f33"), "'f33' is none of"),
        (TEXT.replace("1*10", "0*10"), "<text>:6: a digit is divided by 0"),
        (TEXT.replace("  stage", "  stages"), "expected `stage, sums"),
        (TEXT + "  order vector by vector\n", "'order vector by vector' is no decision that may stand here"),
        (TEXT.replace("chains of 1", "chains of 4"), "sums are split otherwise"),
        (TEXT.replace("10, shards", "7" * 5000 + ", shards"), "is no kernel over rows or columns ("),
    ],
)
def test_a_text_that_is_no_kernel(text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        passes_on_text(AVX512, 32)["unroll_and_jam"](text, "<text>")
    assert message in str(error.value), error.value
