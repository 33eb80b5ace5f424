"""Text of `printer` to the loops of a product."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum

from compiler.loops.ir import ContractedAxis, OuterAxis, TileContract, Triangle
from compiler.support.numerics import LANES
from compiler.targets.cpu.line_reader import LineReader, lines_of
from compiler.targets.cpu.long_sums import Block
from compiler.targets.cpu.packing import Packing
from compiler.targets.cpu.products import ir, printer
from compiler.targets.cpu.tiles import TileShape, Tiling, row_steps
from compiler.types import DType, Rounding


def _one_of(choices: type[Enum]) -> str:
    """The pattern of any of the values, the longest first, as one may begin another."""
    return "|".join(re.escape(each.value) for each in sorted(choices, key=lambda each: -len(each.value)))


_HEAD = re.compile(
    r"product (\w+) (\S+) x (\d+)((?: of \S+)*), sums of (.+?)(?: in (\d+) splits)?(?:, (\w+ [<>]= m))?"
    r"(?:, factors in (\w+))?"
)
_LEFT = re.compile(r"left %(\d+) at (-?\d+), strides (.+)")
_RIGHT = re.compile(r"right %(\d+) at (-?\d+), strides (.+?)(, lasts)?")
_RESULT = re.compile(r"result %(\d+), rows (.+)")
_STAGE = re.compile(r"stage of (\d+) statements(, overwrites)?(, repeats)?")
_TILES = re.compile(r"tiles (\d+) x (\d+)(?: in (\d+) lines)?(?:, blocks of (\d+))?(, panels outside)?")
_ALONG_ROWS = re.compile(r"vectors along the rows, (\d+) columns by (\d+) rows")
_SCRATCH = re.compile(r"scratch of (.+) bytes")
_SUFFIXES = "|".join(re.escape(words) for words in printer.KINDS.values() if words)
_LOOP = re.compile(
    rf"(items|for) (\w+)(?: by (\d+))?({_SUFFIXES}|)(?:, (\d+) of the first axis(?: and (\d+) of the second)?)?"
)
_MULTIPLY = re.compile(
    rf"sums = ({_one_of(ir.Sums)}) \+ left ({_one_of(ir.Place)}) \* right ({_one_of(ir.Place)})(?:, by (\d+) lanes)?"
    rf"(, from far away)?({'|'.join(map(re.escape, printer.COPYING.values()))})"
    r"(?:, (\d+) steps at once)?(, fenced)?(?:; (\d+) steps ahead right up to (\d+) rows( and left)?)?"
    r"(?:; asks by lines of (\d+) bytes)?"
)
_ASK = re.compile(rf"ask for ({_one_of(ir.Asked)})(?: (\d+) lines a step)?(?: (\d+) rows)?(?: over (\d+) of the sum)?")
_NUMBERED: Mapping[re.Pattern[str], Callable[..., ir.Statement]] = {
    re.compile(words.format(r"(\d+)")): make for make, words in printer.NUMBERED.items()
}
_PACKING = re.compile(
    r"(all panels, packed by a function of its own|pack the panel, where it is another one than that of the item before"
    r"|rows of the strip's sums), (?:asking (\d+) steps ahead|transposed in (?:pieces of (\d+) bytes|whole vectors))"
)
_STEPS = re.compile(
    rf"let steps of the sum for left ({_one_of(ir.Place)}): (\d+) broadcast, (\d+) in vectors, (\d+) copied"
)
_COLUMNS = re.compile(
    r"copy the columns of the block, panels of (\d+) (\d+) apart, aligned to (\d+) bytes(, unrolled)?"
)
_STRIPS = re.compile(r"copy (left|right) operand in strips of (\d+) by (\d+), (\d+) at most, (\d+) together")
_STATEMENTS = {words: statement for statement, words in printer.WORDS.items()}
_PLACES = {words: place for place, words in printer.STRETCHES.items()}
_AXES = {axis.value: axis for axis in ir.Axis} | {words: axis for axis, words in printer.SCALAR.items()}


def read_product(text: str, name: str = "<product>") -> ir.ProductLoops:
    """The product that the text describes. Raises DataError where it describes none, with `name` and the line."""
    return _Reader(lines_of(text), name).product()


class _Reader(LineReader):
    def product(self) -> ir.ProductLoops:
        contract, lasts = self.contract()
        found = self.expect(_STAGE, "the stage")
        epilogue = ir.Epilogue(int(found[1]), found[2] is not None, found[3] is not None)
        product = ir.ProductLoops(contract, epilogue, lasts, None, ())
        if found := self.take(_TILES, "  "):
            shape = TileShape(int(found[1]), self.whole(found[2], LANES), int(found[3] or 1))
            if shape.lines > 1 and not contract.outer:
                raise self.fault("tiles over lines need an outer axis")
            panels = -(-contract.n // shape.width)
            cut = Tiling(shape, row_steps(contract, shape), panels, int(found[4] or 0), found[5] is not None)
            product = replace(product, tiling=cut)
        if found := self.take(_ALONG_ROWS, "  "):
            product = replace(product, along_rows=TileShape(int(found[1]), self.whole(found[2], LANES)))
        if found := self.take(_SCRATCH, "  "):
            places = _PLACES | {printer.SUMS: contract.tile}
            sizes = [self.expected(r"(\w+) (\d+)", each) for each in found[1].split(", ")]
            product = replace(product, scratch=tuple((self.known(places, m[1]), int(m[2])) for m in sizes))
        product = replace(product, body=self.body(2))
        if self.place < len(self.rows):
            raise self.fault("expected one product, and nothing behind it")
        return product

    def contract(self) -> tuple[TileContract, bool]:
        head = self.expect(_HEAD, "`product TYPE ROWS x COLUMNS, sums of EXTENTS`", "")
        dtype, rows = self.known({t.value: t for t in DType}, head[1]), self.extent(head[2])
        outer = [self.extent(each) for each in head[4].split(" of ")[1:]]
        summed = [self.extent(each) for each in head[5].split(" ")]
        triangle = None if head[7] is None else self.known({t.value: t for t in Triangle}, head[7])
        rounding = None if head[8] is None else self.known({r.value: r for r in Rounding}, head[8])
        axes = len(summed) + len(outer)
        left = self.expect(_LEFT, "the left operand")
        m_stride, *lhs = self.numbers(left[3], 1 + axes)
        right = self.expect(_RIGHT, "the right operand")
        n_stride, *rhs = self.numbers(right[3], 1 + axes)
        result = self.expect(_RESULT, "the result")
        m_step, split_step, *steps = self.numbers(result[2], 2 + len(outer))
        k = [ContractedAxis(*each) for each in zip(summed, lhs, rhs, strict=False)]
        others = [OuterAxis(*each) for each in zip(outer, lhs[len(k) :], rhs[len(k) :], steps, strict=True)]
        contract = TileContract(
            *(int(left[1]), int(right[1]), int(result[1]), rows, int(head[3]), tuple(k), tuple(others)),
            *(int(left[2]), int(right[2]), m_stride, n_stride, m_step, dtype),
            *(int(head[6] or 1), split_step, triangle, False, rounding),
        )
        return contract, right[4] is not None

    def body(self, indent: int) -> tuple[ir.Statement, ...]:
        """The statements that stand so far inside, up to one that stands further outside."""
        found: list[ir.Statement] = []
        while self.place < len(self.rows) and self.indent() >= indent:
            if self.indent() > indent:
                raise self.fault("the line stands too far inside")
            row = self.rows[self.place][1].strip()
            statement = self.block(row, indent) if row.endswith(":") else self.statement(row, indent)
            found.append(statement)
        return tuple(found)

    def block(self, row: str, indent: int) -> ir.Compound:
        opening, loop = row.removesuffix(":"), _LOOP.fullmatch(row.removesuffix(":"))
        if loop is None and opening not in (printer.JOINED, printer.IN_LAST, printer.IN_OTHERS):
            raise self.fault(f"{row!r} begins no block")
        axis = None if loop is None else self.known(_AXES, loop[2], 0)
        self.place += 1
        body = self.body(indent + 2)
        if loop is None or axis is None:
            return ir.Join(body) if opening == printer.JOINED else ir.When(opening == printer.IN_LAST, body)
        kinds = {words: kind for kind, words in printer.KINDS.items() if words}
        kind = ir.Kind.ITEMS if loop[1] == "items" else kinds.get(loop[4], ir.Kind.PLAIN)
        step = int(loop[3] or 1)
        block = None if loop[5] is None else Block(int(loop[5]), int(loop[6]) if loop[6] else None, step)
        return ir.Loop(axis, kind, body, step, block)

    def statement(self, row: str, indent: int) -> ir.Statement:
        found = self.multiply(row, indent) if row.startswith("sums = ") else self.simple(row)
        if found is None:
            raise self.fault(f"{row!r} is no statement")
        self.place += not isinstance(found, ir.Multiply)
        return found

    def simple(self, row: str) -> ir.Statement | None:
        if row in _STATEMENTS:
            return _STATEMENTS[row]
        for pattern, make in _NUMBERED.items():
            if match := pattern.fullmatch(row):
                return make(int(match[1]))
        if match := _PACKING.fullmatch(row):
            packing = Packing(int(match[2] or 0), int(match[3] or 0))
            if match[1].startswith("rows"):
                return ir.TransposeSums(packing.pieces)
            return ir.PackAllPanels(packing) if match[1].startswith("all") else ir.PackPanel(packing)
        if match := _STEPS.fullmatch(row):
            return ir.LetSteps(ir.Place(match[1]), *map(int, match.groups()[1:]))
        if match := _COLUMNS.fullmatch(row):
            return ir.CopyColumns(int(match[2]), int(match[1]), int(match[3]), match[4] is not None)
        if match := _STRIPS.fullmatch(row):
            width, deep, most, together = map(int, match.groups()[1:])
            return ir.CopyStrips(_PLACES[match[1]], ir.Strips.of(width, most, deep), together)
        return None

    def multiply(self, row: str, indent: int) -> ir.Multiply | None:
        """With the lines below it that say for which memory the tile asks."""
        match = _MULTIPLY.fullmatch(row)
        if match is None:
            return None
        self.place += 1
        asks: list[ir.Ask] = []
        while self.place < len(self.rows) and self.indent() > indent:
            found = self.expect(_ASK, "a line that asks for memory", " " * (indent + 2))
            asks.append(ir.Ask(ir.Asked(found[1]), int(found[4] or 0), int(found[2] or 0), int(found[3] or 0)))
        sums, left, right = ir.Sums(match[1]), ir.Place(match[2]), ir.Place(match[3])
        copying = {words: kind for kind, words in printer.COPYING.items()}[match[6]]
        unrolled, line_bytes = int(match[7] or 1), int(match[12] or 0)
        steps_ahead, ahead_rows = int(match[9] or 0), int(match[10] or 0)
        return ir.Multiply(
            *(left, right, sums, int(match[4] or LANES), match[5] is not None, copying, tuple(asks)),
            *(line_bytes, unrolled, steps_ahead, ahead_rows, match[11] is not None, match[8] is not None),
        )

    # lines and words

    def indent(self) -> int:
        row = self.rows[self.place][1]
        return len(row) - len(row.lstrip())

    def expect(self, pattern: re.Pattern[str], what: str, indent: str = "  ") -> re.Match[str]:
        match = self.take(pattern, indent)
        if match is None:
            raise self.fault(f"expected {what}")
        return match

    def expected(self, pattern: str, text: str) -> re.Match[str]:
        match = re.fullmatch(pattern, text)
        if match is None:
            raise self.fault(f"{text!r} means nothing", -1)
        return match

    def numbers(self, text: str, count: int) -> list[int]:
        found = [int(self.expected(r"-?\d+", each)[0]) for each in text.split(" ")]
        if len(found) != count:
            raise self.fault(f"expected {count} numbers, not {len(found)}", -1)
        return found

    def whole(self, text: str, of: int) -> int:
        quotient, rest = divmod(int(text), of)
        if rest or not quotient:
            raise self.fault(f"{text} is no multiple of {of}", -1)
        return quotient
