"""Text of a kernel over rows or columns with the decisions of passes about it, and back.

Behind the extents and buffers stand the statements of its stages, as far as passes look at them, then one decision a
line. A kernel that was read computes nothing sensible between its reads and writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from compiler.loops import ir as kernels
from compiler.ops.elementwise import Add
from compiler.targets.cpu.iteration_space import RowBlock
from compiler.targets.cpu.line_reader import EXTENT, LineReader, lines_of
from compiler.targets.cpu.rows.ir import Ask, Order, OrderedKernel, RowLoops
from compiler.types import DType

_OTHERS: Mapping[type[kernels.Instruction], str] = {
    kernels.Compute: "compute",
    kernels.Position: "position",
    kernels.Random: "draw",
}
_CACHES = {3: "first", 2: "second"}
_LOCALITIES = {words: locality for locality, words in _CACHES.items()}
_NUMBERS: Mapping[str, str] = {  # decisions that are a number, or several ones, with how each number is written
    "lanes": "vectors of {} lanes",
    "zeros": "zeros of {} bytes beyond edges",
    "streams": "past the caches: statement {}",
    "apart": "from the last column on where loads would wait for stores, up to whole {} bytes",
    "rows_ahead": "look {} rows ahead",
}
_TYPES = {t.value: t for t in DType}


def print_rows(loops: RowLoops) -> str:
    return "\n".join(_lines(loops)) + "\n"


def _lines(loops: RowLoops) -> Iterator[str]:
    kernel = loops.kernel
    match kernel:
        case kernels.RowKernel(rows=rows, columns=columns, shards=shards):
            yield f"rows {rows} x {columns}, shards {shards}"
        case kernels.FlatKernel(elements=elements, columns=columns):
            yield f"elements {elements} by {columns}"
        case kernels.ColumnKernel(outer=outer, rows=rows, columns=columns):
            yield f"columns {columns} of {outer} x {rows}"
    for number, buffer in enumerate(kernel.buffers):
        scratch = f", scratch of {buffer.elements}" if buffer.is_scratch else ""
        yield f"  buffer %{number} {buffer.dtype.value}{scratch}{', unread' if number in loops.unread else ''}"
    for stage, chains in zip(kernel.stages, loops.chains, strict=True):
        yield f"  stage, sums in chains of {chains}"
        yield from (f"    {text}" for text in map(_statement, stage.body) if text)
        yield from (f"    then {text}" for text in map(_statement, stage.after) if text)
    yield from (f"  {text}" for text in _decisions(loops))


def _statement(i: kernels.Instruction) -> str:
    match i:
        case kernels.Load() | kernels.Store():
            reads, writes = isinstance(i, kernels.Load), "" if i.index is None else ", indexed"
            bounds = i.edges if isinstance(i, kernels.Load) else ()
            edges = "".join(f", inside {e.extent} at {e.offset}{_terms(' by', e.terms)}" for e in bounds)
            place = f"%{i.access.buffer} {i.dtype.value} at {i.access.offset}"
            terms = _terms(", row", i.access.rows) + _terms(", column", i.access.columns)
            return f"{'read' if reads else 'write'} {place}{terms}{writes}{edges}"
        case kernels.Reduce(dtype=dtype, factor=factor):
            return f"fold {dtype.value}{' of products' if factor is not None else ''}"
        case _:
            return _OTHERS.get(type(i), "")


def _terms(word: str, terms: Sequence[kernels.IndexTerm]) -> str:
    """`row 9%3*64` for `(row // 9 % 3) * 64`."""
    digits = (f"{t.divisor}{'' if t.modulus is None else f'%{t.modulus}'}*{t.stride}" for t in terms)
    return f"{word} {' '.join(digits)}" if terms else ""


def _decisions(loops: RowLoops) -> Iterator[str]:
    block = loops.block
    rows = f" {block.lines} x {block.pixels} in lines of {block.width}" if block.rows > 1 else ""
    yield f"order {loops.order.value}{rows}"
    for name, text in _NUMBERS.items():
        decided: int | tuple[int, ...] = getattr(loops, name)
        if decided and (name != "lanes" or loops.order is Order.BLOCKS):
            yield from map(text.format, decided if isinstance(decided, tuple) else (decided,))
    for ask in loops.asks:
        ahead = f"{ask.elements} elements later" if ask.elements else "there"
        of = f" of stage {ask.stage}" if ask.stage else ""
        yield f"ask for statement {ask.statement}{of}, {ahead}, into the {_CACHES[ask.locality]} cache"


# back

_NUMBER = r"(-?\d+)"
_DIGITS = r"((?: \d+(?:%\d+)?\*-?\d+)+)"
_ROWS = re.compile(rf"rows {EXTENT} x {EXTENT}, shards {EXTENT}")
_ELEMENTS = re.compile(rf"elements {EXTENT} by (\d+)")
_COLUMNS = re.compile(rf"columns {EXTENT} of {EXTENT} x {EXTENT}")
_BUFFER = re.compile(r"buffer %(\d+) (\w+)(?:, scratch of (\d+))?(, unread)?")
_STAGE = re.compile(r"stage, sums in chains of (\d+)")
_MOVE = re.compile(
    rf"(read|write) %(\d+) (\w+) at {_NUMBER}(?:, row{_DIGITS})?(?:, column{_DIGITS})?(, indexed)?"
    rf"((?:, inside \d+ at -?\d+(?: by(?: \d+(?:%\d+)?\*-?\d+)+)?)*)"
)
_EDGE = re.compile(rf", inside (\d+) at {_NUMBER}(?: by{_DIGITS})?")
_FOLD = re.compile(r"fold (\w+)( of products)?")
_ORDER = re.compile(rf"order ({'|'.join(order.value for order in Order)})(?: (\d+) x (\d+) in lines of (\d+))?")
_ASK = re.compile(
    r"ask for statement (\d+)(?: of stage (\d+))?, (?:(\d+) elements later|there), into the (first|second) cache"
)


def read_rows(text: str, name: str = "<kernel>") -> RowLoops:
    """The kernel and its order that the text describes. Raises DataError with `name` and the line."""
    return _Reader([(n, row.lstrip()) for n, row in lines_of(text)], name).loops()


class _Reader(LineReader):
    def loops(self) -> RowLoops:
        head = self.take(_ROWS) or self.take(_ELEMENTS) or self.take(_COLUMNS)
        if head is None:
            raise self.fault("expected `rows EXTENT x EXTENT, shards EXTENT`, or a kernel over elements or columns")
        buffers: list[kernels.BufferArgument] = []
        unread: set[int] = set()
        while found := self.take(_BUFFER):
            if int(found[1]) != len(buffers):
                raise self.fault(f"the buffer should be %{len(buffers)}", -1)
            if found[4]:
                unread.add(len(buffers))
            scratch = found[3] is not None
            buffers.append(
                kernels.BufferArgument(f"%{found[1]}", self.known(_TYPES, found[2]), scratch, int(found[3] or 0))
            )
        stages: list[kernels.Stage] = []
        chains: list[int] = []
        while found := self.take(_STAGE):
            chains.append(int(found[1]))
            stages.append(kernels.Stage(self.statements("", len(buffers)), self.statements("then ", len(buffers))))
        if not stages:
            raise self.fault("expected `stage, sums in chains of NUMBER`")
        kernel = self.kernel(head, tuple(buffers), tuple(stages))
        found = self.decisions(RowLoops(kernel, frozenset(unread), tuple(chains)))
        if self.place < len(self.rows):
            raise self.fault(f"{self.rows[self.place][1]!r} is no decision that may stand here")
        return found

    def kernel(
        self, head: re.Match[str], buffers: tuple[kernels.BufferArgument, ...], stages: tuple[kernels.Stage, ...]
    ) -> OrderedKernel:
        word = head[0].split(" ")[0]
        if word == "elements":
            return kernels.FlatKernel("elements", buffers, (), stages, self.extent(head[1]), int(head[2]))
        of_three = map(self.extent, head.groups())
        if word == "rows":
            return kernels.RowKernel("rows", buffers, (), stages, *of_three)
        columns, outer, rows = of_three
        return kernels.ColumnKernel("columns", buffers, (), stages, outer, rows, columns)

    def statements(self, word: str, buffers: int) -> tuple[kernels.Instruction, ...]:
        found: list[kernels.Instruction] = []
        while (
            self.place < len(self.rows) and (i := self.statement(self.rows[self.place][1], word, buffers)) is not None
        ):
            found.append(i)
            self.place += 1
        return tuple(found)

    def statement(self, row: str, word: str, buffers: int) -> kernels.Instruction | None:
        row, number = row.removeprefix(word) if row.startswith(word) else "", self.place
        others: Mapping[str, kernels.Instruction] = {
            "compute": kernels.Compute(number, Add(), (), (), DType.F32, kernels.Space.FULL),
            "position": kernels.Position(number, 0, (), (), DType.I64, kernels.Space.FULL),
            "draw": kernels.Random(number, 0, 0, 0, 0, kernels.Space.FULL),
        }
        if found := _FOLD.fullmatch(row):
            factor = 0 if found[2] else None
            return kernels.Reduce(
                number, kernels.Combine.SUM, 0, self.known(_TYPES, found[1]), kernels.Space.ROW, factor
            )
        if found := _MOVE.fullmatch(row):
            if int(found[2]) >= buffers:
                raise self.fault(f"there is no buffer %{found[2]}")
            index, dtype = (0 if found[7] else None), self.known(_TYPES, found[3])
            access = kernels.Access(int(found[2]), int(found[4]), self.digits(found[5]), self.digits(found[6]))
            edges = tuple(kernels.Edge(int(e[2]), self.digits(e[3]), int(e[1])) for e in _EDGE.finditer(found[8]))
            if found[1] == "read":
                return kernels.Load(number, access, dtype, kernels.Space.FULL, index, edges=edges)
            return kernels.Store(access, 0, dtype, kernels.Space.FULL, index=index)
        return others.get(row)

    def decisions(self, loops: RowLoops) -> RowLoops:
        if found := self.take(_ORDER):
            block = loops.block if found[2] is None else RowBlock(int(found[2]), int(found[3]), int(found[4]))
            loops = replace(loops, order=Order(found[1]), block=block)
        for name, text in _NUMBERS.items():
            numbers: tuple[int, ...] = ()
            while (name == "streams" or not numbers) and (found := self.take(re.compile(text.format(r"(\d+)")))):
                numbers += (int(found[1]),)
            if numbers:
                loops = replace(loops, **{name: numbers if name == "streams" else numbers[0]})
        while found := self.take(_ASK):
            ask = Ask(int(found[1]), int(found[3] or 0), _LOCALITIES[found[4]], int(found[2] or 0))
            loops = replace(loops, asks=(*loops.asks, ask))
        return loops

    def digits(self, text: str | None) -> tuple[kernels.IndexTerm, ...]:
        found = re.findall(r"(\d+)(?:%(\d+))?\*(-?\d+)", text or "")
        if any(not int(divisor) or modulus == "0" for divisor, modulus, _ in found):
            raise self.fault("a digit is divided by 0")
        return tuple(kernels.IndexTerm(int(d), int(m) if m else None, int(s)) for d, m, s in found)
