"""Checks the loops of a product: each element of the result once, each summed element once and in order, no operand
read from where nothing lies."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.rewriting import statements_of


def faults_of(product: ir.ProductLoops) -> list[str]:
    """The faults of the loops; none where they are right."""
    return _Check(product).faults()


class _Check:
    def __init__(self, product: ir.ProductLoops) -> None:
        self.product = product
        self.found: list[str] = []
        self.keeps = False  # sums from block to block
        self.needs = False
        self.clears = False

    def faults(self) -> list[str]:
        self.body(self.product.body, (), frozenset())
        if self.needs and not self.keeps:
            self.found.append("the sums of a block are lost")
        finishes = sum(isinstance(s, ir.Finish) for s in statements_of(self.product.body))
        if finishes != 1:
            self.found.append(f"{finishes} statements finish the sums")
        return self.found

    def body(
        self, body: Sequence[ir.Statement], around: tuple[ir.Compound, ...], filled: frozenset[ir.Place | int]
    ) -> None:
        """A stretch of scratch that is filled stays so for the statements behind and within."""
        finishes = any(isinstance(s, ir.Finish) and not s.in_registers for s in body)
        if finishes and not any(isinstance(s, ir.Put | ir.FindSums | ir.TransposeSums) for s in body):
            self.found.append("sums are finished that were not kept")
        later = tuple(s for s in body if isinstance(s, ir.Loop) and s.kind is ir.Kind.BUT_FIRST)
        puts = [number for number, s in enumerate(body) if isinstance(s, ir.Put)]
        if any(not puts or body.index(loop) < puts[0] for loop in later):
            self.found.append("the first round of a loop is left out")
        for statement in body:
            match statement:
                case ir.Loop() | ir.Join() | ir.When():
                    if isinstance(statement, ir.Loop):
                        self.loop(statement, around)
                    # items that are joined begin anew: a loop takes less than the rectangle
                    self.body(statement.body, (*(() if isinstance(statement, ir.Join) else around), statement), filled)
                case ir.PackAllPanels():
                    filled |= {ir.Place.SHARED}
                case ir.PackPanel() | ir.Let.NEW_PANEL:
                    filled |= {ir.Place.OWN}
                case ir.CopyRows():
                    filled |= {ir.Place.COPY}
                case ir.CopyStrips(to=to):
                    filled |= {to}
                case ir.CopyColumns():
                    filled |= {ir.RIGHT}
                case ir.Clear():
                    self.clears = True
                case ir.Multiply():
                    self.multiply(statement, around, filled)
                    if statement.copying is ir.Copying.STRIP:
                        filled |= {ir.Place.COPY}
                case ir.Put() | ir.Finish():
                    self.element(statement, (*around, *later))
                case _:
                    pass

    def loop(self, loop: ir.Loop, around: tuple[ir.Compound, ...]) -> None:
        """A loop over an axis takes less in each round than one around it does."""
        outer = [a.step for a in around if isinstance(a, ir.Loop) and a.axis is loop.axis]
        if outer and outer[-1] < loop.step + (loop.kind is not ir.Kind.FROM_ZERO):
            self.found.append(f"a loop over {loop.axis.value} by {loop.step} stands in one by {outer[-1]}")

    def element(self, statement: ir.Put | ir.Finish, around: tuple[ir.Compound, ...]) -> None:
        """Sums are kept and finished tile by tile."""
        last = {a.axis: a.step for a in around if isinstance(a, ir.Loop)}
        tiles = ir.Axis.TILE if self.product.along_rows is None else ir.Axis.STRIP
        of_panel = tiles is ir.Axis.TILE or isinstance(statement, ir.Put)
        has_panels = self.product.tiling is None or self.product.panels > 1
        needed = [tiles] + ([ir.Axis.PANEL] if of_panel and has_panels else [])
        for axis in needed:
            if last.get(axis) != 1:
                self.found.append(f"no loop goes over single ones of {axis.value}")
        in_last = any(isinstance(a, ir.When) and a.is_last for a in around)
        if isinstance(statement, ir.Finish) and self.blocks(around) and not in_last:
            self.found.append("sums are finished before the last block")
        self.keeps |= isinstance(statement, ir.Put) and not in_last

    def blocks(self, around: tuple[ir.Compound, ...]) -> list[ir.Loop]:
        """The loops over the sum that take more than one round."""
        (axis, *_) = self.product.contract.k
        loops = [a for a in around if isinstance(a, ir.Loop) and a.axis is ir.Axis.SUM]
        return [a for a in loops if not isinstance(axis.extent, int) or a.step < axis.extent]

    def multiply(self, what: ir.Multiply, around: tuple[ir.Compound, ...], filled: frozenset[ir.Place | int]) -> None:
        for place, side in ((what.left, ir.LEFT), (what.right, ir.RIGHT)):
            if place is not ir.Place.ITSELF and (side if place is ir.Place.STRIPS else place) not in filled:
                self.found.append(f"nothing lies in the {place.value}")
        if (what.sums is ir.Sums.ZERO) == bool(self.blocks(around)):
            self.found.append(f"sums begin as {what.sums.value}")
        if what.sums is ir.Sums.KEPT and not self.clears:
            self.found.append("sums are kept that do not begin")
        self.needs |= bool(self.blocks(around))
        if what.copying is ir.Copying.WHEN_NEW and what.right is not ir.Place.OWN:
            self.found.append("what is copied has no panel")
