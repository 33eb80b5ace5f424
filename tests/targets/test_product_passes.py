"""The loops of products: `tests/golden/products/CASE.loops` has the definition, and what each pass makes of it.

`--update-golden` writes them. Passes that change nothing are left out of a file; each changes something in some case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from golden import Golden

from compiler.errors.diagnostics import CompilerBug
from compiler.loops.ir import (
    Access,
    BufferArgument,
    Compute,
    ContractedAxis,
    ContractionKernel,
    IndexTerm,
    Instruction,
    Load,
    OuterAxis,
    Space,
    Stage,
    Store,
    TileContract,
    Triangle,
)
from compiler.machine import AVX2, AVX512, NEON, Machine
from compiler.ops.elementwise import Add
from compiler.support.record import record
from compiler.targets.cpu.kernel_pass import KernelPass, after_all
from compiler.targets.cpu.passes_on_text import passes_on_text, verified_tiles
from compiler.targets.cpu.products.ir import (
    Axis,
    Circumstances,
    Clear,
    CopyColumns,
    CopyRows,
    CopyStrips,
    Finish,
    Loop,
    Multiply,
    PackAllPanels,
    PackPanel,
    Place,
    ProductLoops,
    Put,
    Statement,
    Sums,
    TransposeSums,
)
from compiler.targets.cpu.products.passes import PASSES, definition
from compiler.targets.cpu.products.printer import print_product
from compiler.targets.cpu.products.reader import read_product
from compiler.targets.cpu.products.rewriting import rewritten, statements_of
from compiler.targets.cpu.products.verify import faults_of
from compiler.targets.gpu.device import DEVICE
from compiler.targets.gpu.passes import PRODUCT_PASSES
from compiler.types import BatchExtent, DType, Extent

DENSE = (IndexTerm(1, None, 1),)
SMALL_CACHES = replace(AVX512, l1_bytes=8 << 10, l2_bytes=1 << 17)


@record
class Case:
    contract: TileContract
    lasts: bool = False
    machine: Machine = AVX512
    repeats: int = 0  # columns after which a bias repeats


def contract(m: Extent, n: int, k: int, turned: bool = False, outer: tuple[OuterAxis, ...] = ()) -> TileContract:
    """A plain product of dense operands; `turned` has the right one with its columns as rows."""
    axis, apart = (ContractedAxis(k, 1, 1), k) if turned else (ContractedAxis(k, 1, n), 1)
    return TileContract(0, 1, 3, m, n, (axis,), outer, 0, 0, k, apart, 1, DType.F32)


HEADS = (OuterAxis(BatchExtent(1), 64 * 64, 64 * 64, 64),)
IMAGES = (OuterAxis(BatchExtent(1), 49 * 64, 0, 49),)
CASES = {
    "small": Case(contract(BatchExtent(1), 64, 784)),
    "weights that last": Case(contract(BatchExtent(1), 64, 784), lasts=True),
    "columns as rows": Case(contract(BatchExtent(1), 40, 784, turned=True)),
    "heads": Case(contract(64, 64, 64, outer=HEADS)),
    "images": Case(contract(49, 128, 64, outer=IMAGES)),
    "triangle": Case(replace(contract(64, 64, 64), triangle=Triangle.SUM_TO_ROW)),
    "few rows": Case(contract(3, 96, 64), machine=AVX2),
    "rows from far away": Case(contract(25088, 64, 256)),
    "a bias that repeats": Case(contract(25088, 32, 256), repeats=8),
    "larger than the cache": Case(contract(2048, 2048, 2048), lasts=True),
    "both larger than the cache": Case(
        replace(contract(2048, 2048, 2048), k=(ContractedAxis(2048, 2048, 2048),), lhs_m_stride=1)
    ),
    "long sum": Case(
        replace(
            contract(256, 40, 9),
            k=(ContractedAxis(BatchExtent(1), 9000, 9000), ContractedAxis(9, 1000, 1000)),
            lhs_m_stride=9,
        ),
        repeats=8,
    ),
    "long sum of neighbouring rows": Case(
        replace(
            contract(64, 40, 9, outer=(OuterAxis(3, 64, 0, 64),)),
            k=(ContractedAxis(BatchExtent(1), 9000, 9000), ContractedAxis(9, 1000, 1000)),
            lhs_m_stride=1,
            splits=4,
            split_step=192,
        ),
        repeats=8,
    ),
    "long sum of few columns": Case(
        replace(contract(64, 3, 9), k=(ContractedAxis(BatchExtent(1), 64, 3),), lhs_m_stride=1, splits=4, split_step=64)
    ),
    "larger than the cache, short sum": Case(contract(2048, 512, 64), machine=SMALL_CACHES),
    "operands that take no registers early": Case(contract(BatchExtent(1), 64, 784), machine=NEON),
}


def kernel(case: Case) -> ContractionKernel:
    """The product with a stage that adds a bias and stores the sum."""
    dtype, n = case.contract.dtype, case.contract.n
    rows = (IndexTerm(1, None, n),)
    columns = (IndexTerm(1, case.repeats or None, 1),)
    body: tuple[Instruction, ...] = (
        Load(0, Access(3, 0, (IndexTerm(1, None, n),), DENSE), dtype, Space.FULL),
        Load(1, Access(4, 0, (), columns), dtype, Space.FULL),
        Compute(2, Add(), (0, 1), (dtype, dtype), dtype, Space.FULL),
        Store(Access(2, 0, rows, DENSE), 2, dtype, Space.FULL),
    )
    buffers = tuple(BufferArgument(name, dtype, name == "tile") for name in ("left", "right", "result", "tile", "bias"))
    return ContractionKernel("product", buffers, (), (Stage(body),), case.contract)


def steps(
    case: Case, passes: Sequence[KernelPass[ProductLoops, Circumstances]] = PASSES
) -> list[tuple[str, ProductLoops]]:
    """The definition, and the loops behind each pass that changes them."""
    given = Circumstances(case.machine, 32)
    found = [("definition", definition(kernel(case), case.lasts))]
    for each in passes:
        product = each.run(found[-1][1], given)
        if product != found[-1][1]:
            found.append((each.name, product))
    return found


@pytest.mark.parametrize("name", CASES)
def test_passes_make_the_loops_of_their_case(name: str, golden: Golden) -> None:
    reasons = {each.name: each.reason for each in PASSES}
    texts: list[str] = []
    for step, product in steps(CASES[name]):
        heading = f"# {step}: {reasons[step]}" if step in reasons else f"# {step}"
        texts.append(f"{heading}\n{print_product(product)}")
        verify(product)
        assert read_product(texts[-1]) == product
    golden(f"products/{name.replace(' ', '_').replace(',', '')}.loops", "\n".join(texts))


@pytest.mark.parametrize("name", CASES)
def test_passes_on_text_make_the_same_loops(name: str) -> None:
    found = steps(CASES[name])
    text = print_product(found[0][1])
    passes = passes_on_text(CASES[name].machine, 32)
    for each in PASSES:
        text = passes[each.name](text, "<text>")
    assert text == print_product(found[-1][1])


def test_each_pass_changes_some_case() -> None:
    changed = {step for case in CASES.values() for step, _ in steps(case)}
    assert changed == {"definition", *(each.name for each in PASSES)}


def test_each_pass_of_a_device_changes_some_case(golden: Golden) -> None:
    changed, texts = {"definition"}, list[str]()
    for name in ("small", "a bias that repeats", "long sum"):
        for step, product in steps(replace(CASES[name], machine=DEVICE), PRODUCT_PASSES)[1:]:
            changed.add(step)
            verify(product)
            texts.append(f"# {name}: {step}\n{print_product(product)}")
    golden("products/on_a_device.loops", "\n".join(texts))
    assert changed == {"definition", *(each.name for each in PRODUCT_PASSES)}


def verify(product: ProductLoops) -> None:
    for fault in faults_of(product):
        raise CompilerBug("product", fault)


def changed_loops(product: ProductLoops, axis: Axis) -> ProductLoops:
    """All loops over an axis by two."""

    def change(statement: Statement) -> tuple[Statement, ...]:
        if isinstance(statement, Loop) and statement.axis is axis and statement.step == 1:
            return (replace(statement, step=2),)
        return (statement,)

    return replace(product, body=rewritten(product.body, change))


def final(name: str) -> ProductLoops:
    case = CASES[name]
    return after_all(PASSES, definition(kernel(case), case.lasts), Circumstances(case.machine, 32))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("columns as rows", PackPanel),
        ("larger than the cache", CopyRows),
        ("larger than the cache", PackAllPanels),
        ("small", Finish),
        ("both larger than the cache", Clear),
        ("both larger than the cache", CopyStrips),
        ("both larger than the cache", Put),
        ("long sum", Clear),
        ("long sum", CopyColumns),
        ("long sum", Put),
        ("larger than the cache", Put),
        ("long sum of neighbouring rows", Clear),
        ("long sum of neighbouring rows", CopyColumns),
        ("long sum of neighbouring rows", Put),
        ("long sum of neighbouring rows", TransposeSums),
    ],
)
def test_loops_without_one_of_their_statements_are_refused(name: str, kind: type[Statement]) -> None:
    product = final(name)
    assert any(isinstance(s, kind) for s in statements_of(product.body))
    body = rewritten(product.body, lambda s: () if isinstance(s, kind) else (s,))
    with pytest.raises(CompilerBug):
        verify(replace(product, body=body))


@pytest.mark.parametrize("name", ["small", "larger than the cache"])
@pytest.mark.parametrize("axis", [Axis.TILE, Axis.PANEL])
def test_loops_that_leave_out_tiles_are_refused(name: str, axis: Axis) -> None:
    with pytest.raises(CompilerBug, match="single ones"):
        verify(changed_loops(final(name), axis))


def test_columns_that_no_register_tile_takes_are_refused() -> None:
    product = final("long sum of neighbouring rows")
    body = rewritten(product.body, lambda s: () if isinstance(s, Multiply) and s.left is Place.ITSELF else (s,))
    with pytest.raises(CompilerBug, match="nothing lies in the copy"):
        verify(replace(product, body=body))

    def change(statement: Statement) -> tuple[Statement, ...]:
        if isinstance(statement, Loop) and statement.axis is Axis.STRIP:
            return (replace(statement, body=tuple(s for s in statement.body if not isinstance(s, Put))),)
        return (statement,)

    with pytest.raises(CompilerBug, match="the first round of a loop is left out"):
        verify(replace(product, body=rewritten(product.body, change)))


def test_sums_that_begin_anew_in_each_block_are_refused() -> None:
    product = final("larger than the cache")
    body = rewritten(product.body, lambda s: (replace(s, sums=Sums.ZERO),) if isinstance(s, Multiply) else (s,))
    with pytest.raises(CompilerBug, match="sums begin as 0"):
        verify(replace(product, body=body))


def test_verify_checks_the_loops_behind_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """As code is made with `--verify`."""

    def forget_sums(product: ProductLoops, given: Circumstances) -> ProductLoops:
        return replace(product, body=rewritten(product.body, lambda s: () if isinstance(s, Put) else (s,)))

    case = CASES["small"]
    assert verified_tiles(kernel(case), case.machine, 32, False, frozenset()) == print_product(final("small"))
    monkeypatch.setattr("compiler.targets.cpu.products.passes.PASSES", (*PASSES, KernelPass(forget_sums, "")))
    with pytest.raises(CompilerBug, match="sums are finished that were not kept"):
        verified_tiles(kernel(case), case.machine, 32, False, frozenset())


def test_what_is_read_from_a_panel_is_packed_there() -> None:
    product = final("rows from far away")
    body = rewritten(product.body, lambda s: (replace(s, right=Place.SHARED),) if isinstance(s, Multiply) else (s,))
    with pytest.raises(CompilerBug, match="nothing lies in the shared panels"):
        verify(replace(product, body=body))
