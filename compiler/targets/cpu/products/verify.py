"""Checks the loops of a product: each element of the result once, each summed element once and in order, no operand
read from where nothing lies."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors.diagnostics import CompilerBug
from compiler.loops.ir import ContractionKernel
from compiler.targets.cpu.products.ir import (
    LEFT,
    RIGHT,
    Axis,
    Circumstances,
    Clear,
    CopyColumns,
    Copying,
    CopyRows,
    CopyStrips,
    FindSums,
    Finish,
    Join,
    Kind,
    Let,
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
    When,
)
from compiler.targets.cpu.products.passes import PASSES, definition
from compiler.targets.cpu.products.printer import print_product
from compiler.targets.cpu.products.rewriting import statements_of


def verified(kernel: ContractionKernel, lasts: bool, given: Circumstances) -> str:
    """The loops of a product behind the last pass as text, checked behind each. Raises CompilerBug."""
    product = definition(kernel, lasts)
    for each in PASSES:
        product = each.run(product, given)
        verify(product)
    return print_product(product)


def verify(product: ProductLoops) -> None:
    """Raises CompilerBug."""
    for fault in faults_of(product):
        raise CompilerBug(f"product: {fault}", print_product(product))


def faults_of(product: ProductLoops) -> list[str]:
    """What is wrong with the loops; nothing where they are right."""
    return _Check(product).faults()


class _Check:
    def __init__(self, product: ProductLoops) -> None:
        self.product = product
        self.found: list[str] = []
        self.keeps = False  # sums from block to block
        self.needs = False
        self.clears = False

    def faults(self) -> list[str]:
        self.body(self.product.body, (), frozenset())
        if self.needs and not self.keeps:
            self.found.append("the sums of a block are lost")
        finishes = sum(isinstance(s, Finish) for s in statements_of(self.product.body))
        if finishes != 1:
            self.found.append(f"{finishes} statements finish the sums")
        return self.found

    def body(
        self, body: Sequence[Statement], around: tuple[Loop | Join | When, ...], filled: frozenset[Place | int]
    ) -> None:
        """What is filled stays so for the statements behind and within."""
        finishes = any(isinstance(s, Finish) and not s.in_registers for s in body)
        if finishes and not any(isinstance(s, Put | FindSums | TransposeSums) for s in body):
            self.found.append("sums are finished that were not kept")
        later = tuple(s for s in body if isinstance(s, Loop) and s.kind is Kind.BUT_FIRST)
        puts = [number for number, s in enumerate(body) if isinstance(s, Put)]
        if any(not puts or body.index(loop) < puts[0] for loop in later):
            self.found.append("the first round of a loop is left out")
        for statement in body:
            match statement:
                case Loop() | Join() | When():
                    if isinstance(statement, Loop):
                        self.loop(statement, around)
                    # items that are joined begin anew: a loop takes less than the rectangle
                    self.body(statement.body, (*(() if isinstance(statement, Join) else around), statement), filled)
                case PackAllPanels():
                    filled |= {Place.SHARED}
                case PackPanel() | Let.NEW_PANEL:
                    filled |= {Place.OWN}
                case CopyRows():
                    filled |= {Place.COPY}
                case CopyStrips(to=to):
                    filled |= {to}
                case CopyColumns():
                    filled |= {RIGHT}
                case Clear():
                    self.clears = True
                case Multiply():
                    self.multiply(statement, around, filled)
                    if statement.copying is Copying.STRIP:
                        filled |= {Place.COPY}
                case Put() | Finish():
                    self.element(statement, (*around, *later))
                case _:
                    pass

    def loop(self, loop: Loop, around: tuple[Loop | Join | When, ...]) -> None:
        """A loop over an axis takes less in each round than one around it does."""
        outer = [a.step for a in around if isinstance(a, Loop) and a.axis is loop.axis]
        if outer and outer[-1] < loop.step + (loop.kind is not Kind.FROM_ZERO):
            self.found.append(f"a loop over {loop.axis.value} by {loop.step} stands in one by {outer[-1]}")

    def element(self, statement: Put | Finish, around: tuple[Loop | Join | When, ...]) -> None:
        """Sums are kept and finished tile by tile."""
        last = {a.axis: a.step for a in around if isinstance(a, Loop)}
        tiles = Axis.TILE if self.product.along_rows is None else Axis.STRIP
        of_panel = tiles is Axis.TILE or isinstance(statement, Put)
        has_panels = self.product.tiling is None or self.product.panels > 1
        needed = [tiles] + ([Axis.PANEL] if of_panel and has_panels else [])
        for axis in needed:
            if last.get(axis) != 1:
                self.found.append(f"no loop goes over single ones of {axis.value}")
        in_last = any(isinstance(a, When) and a.is_last for a in around)
        if isinstance(statement, Finish) and self.blocks(around) and not in_last:
            self.found.append("sums are finished before the last block")
        self.keeps |= isinstance(statement, Put) and not in_last

    def blocks(self, around: tuple[Loop | Join | When, ...]) -> list[Loop]:
        """The loops over the sum that take more than one round."""
        (axis, *_) = self.product.contract.k
        loops = [a for a in around if isinstance(a, Loop) and a.axis is Axis.SUM]
        return [a for a in loops if not isinstance(axis.extent, int) or a.step < axis.extent]

    def multiply(self, what: Multiply, around: tuple[Loop | Join | When, ...], filled: frozenset[Place | int]) -> None:
        for place, side in ((what.left, LEFT), (what.right, RIGHT)):
            if place is not Place.ITSELF and (side if place is Place.STRIPS else place) not in filled:
                self.found.append(f"nothing lies in the {place.value}")
        if (what.sums is Sums.ZERO) == bool(self.blocks(around)):
            self.found.append(f"sums begin as {what.sums.value}")
        if what.sums is Sums.KEPT and not self.clears:
            self.found.append("sums are kept that do not begin")
        self.needs |= bool(self.blocks(around))
        if what.copying is Copying.WHEN_NEW and what.right is not Place.OWN:
            self.found.append("what is copied has no panel")
