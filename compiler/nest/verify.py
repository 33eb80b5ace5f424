"""Checks a nest: each value is defined once and before its uses, and types agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from compiler.errors.diagnostics import CompilerBug
from compiler.nest import ir
from compiler.nest.ir import ADDRESS, GIVEN, INDEX, TRUTH, Constant, Nest, Operand, Statement, Type, Value, Zeros
from compiler.nest.lanes import all_statements
from compiler.nest.matrices import SUMS, left_fragments, right_fragments
from compiler.nest.printer import name_of, print_nest
from compiler.support.record import mutable_record
from compiler.types import DType


def verify_nest(nest: Nest) -> None:
    """Raises `CompilerBug`."""
    if nest.before is not None:
        verify_nest(nest.before)
    try:
        _Check(nest).all_of_it()
    except _WrongError as error:
        raise CompilerBug("verify_nest", str(error), print_nest(nest)) from error


class _WrongError(Exception):
    """A broken law."""


@mutable_record
class _Check:
    nest: Nest
    defined: set[int] = field(default_factory=lambda: {value.number for value in GIVEN})
    visible: dict[int, Value] = field(default_factory=lambda: {value.number: value for value in GIVEN})

    def all_of_it(self) -> None:
        self.statements(self.nest.body)
        self.scratch()
        if len(self.defined) != self.nest.values:
            raise _WrongError(f"{len(self.defined)} values are defined, not {self.nest.values}")

    def statements(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            match statement:
                case ir.Loop():
                    self.loop(statement)
                case ir.Guard(condition=condition, body=body):
                    self.expect(condition, TRUTH)
                    self.inside(body)
                case ir.Store() | ir.Scatter():
                    self.store(statement)
                case ir.Prefetch(address=address):
                    self.expect(address, ADDRESS)
                case ir.OpenTiles(address=address):
                    self.expect(address, ADDRESS)
                case ir.MultiplyTiles():
                    self.all_of(ADDRESS, statement.sums, statement.left, statement.right)
                    self.expect(statement.blocks, INDEX)
                case ir.LoadFence() | ir.StoreFence() | ir.Meet() | ir.Barrier() | ir.CloseTiles():
                    pass
                case ir.CopyAhead():
                    self.copy(statement)
                case ir.CommitCopies():
                    pass
                case ir.AwaitCopies(remaining=remaining):
                    if remaining < 0:
                        raise _WrongError(f"{remaining} groups of copies remain")
                case ir.DrawKey():
                    self.expect(statement.seed, INDEX)
                    self.expect(statement.step, INDEX)
                    self.define(statement.first)
                    self.define(statement.second)
                case ir.MultiplyMatrices():
                    self.matrices(statement)
                case _:
                    self.definition(statement)

    def scratch(self) -> None:
        """The stretches of scratch are apart, and lie in that of the nest; one behind them may grow with the batch."""
        nest, end = self.nest, 0
        if nest.before is not None and (nest.before.scratch_bytes or nest.before.scratch_batch_bytes):
            raise _WrongError("what runs before has scratch, which nobody reserves")
        found = {(s.start, s.bytes) for s in all_statements(nest.body) if isinstance(s, ir.Scratch) and s.bytes}
        for start, size in sorted(found):
            grows = start == nest.scratch_bytes and size <= nest.scratch_batch_bytes
            if start < end or not (start + size <= nest.scratch_bytes or grows):
                raise _WrongError(f"bytes {start} to {start + size} of scratch are another stretch's, or beyond it")
            end = start + size

    def inside(self, body: Sequence[Statement]) -> None:
        """The values of a block are seen in it only."""
        before = dict(self.visible)
        self.statements(body)
        self.visible = before

    def loop(self, loop: ir.Loop) -> None:
        self.expect(loop.start, INDEX)
        self.expect(loop.stop, INDEX)
        if loop.step <= 0 or not len(loop.carried) == len(loop.initial) == len(loop.following):
            raise _WrongError(
                f"the loop over {name_of(loop.index)} has no step, or carries values that it does not give"
            )
        for value, initial in zip(loop.carried, loop.initial, strict=True):
            self.expect(initial, value.type)
            self.define(value)
        before = dict(self.visible)
        self.define(loop.index)
        self.statements(loop.body)
        for value, following in zip(loop.carried, loop.following, strict=True):
            self.expect(following, value.type)
        self.visible = before

    # operands

    def define(self, value: Value) -> None:
        if value.number in self.defined or not len(GIVEN) <= value.number < self.nest.values:
            raise _WrongError(f"{name_of(value)} is defined twice, or is none of the nest's")
        self.defined.add(value.number)
        self.visible[value.number] = value

    def expect(self, operand: Operand, type_: Type) -> None:
        if isinstance(operand, Value) and self.visible.get(operand.number) is not operand:
            raise _WrongError(f"{name_of(operand)} is used where it is not defined")
        found = ir.type_of(operand)
        if found is not type_:
            raise _WrongError(f"{_said(operand)} is {found.name}, not {type_.name}")
        if isinstance(operand, Constant) and isinstance(operand.value, tuple) and len(operand.value) != type_.lanes:
            raise _WrongError(f"a constant of {type_.name} has {len(operand.value)} lanes")

    def all_of(self, type_: Type, *operands: Operand) -> None:
        for operand in operands:
            self.expect(operand, type_)

    def known(self, operand: Operand) -> Type:
        """The type of an operand that may be of any."""
        type_ = ir.type_of(operand)
        self.expect(operand, type_)
        return type_

    # memory

    def access(self, address: Value, type_: Type, align: int) -> None:
        self.expect(address, ADDRESS)
        if align <= 0 or align & (align - 1):
            raise _WrongError(f"an alignment of {align} is no power of two")
        if type_.dtype is None or type_.dtype is DType.BOOL:
            raise _WrongError(f"{type_.name} has no form in memory")

    def store(self, statement: ir.Store | ir.Scatter) -> None:
        type_ = self.known(statement.value)
        mask = statement.mask
        if mask is not None:
            self.expect(mask, ir.vector(DType.BOOL, type_.lanes))
        if isinstance(statement, ir.Store):
            self.access(statement.address, type_, statement.align)
        else:
            self.expect(statement.address, ADDRESS)
            self.expect(statement.places, ir.vector(DType.I64, type_.lanes))

    def copy(self, statement: ir.CopyAhead) -> None:
        self.all_of(ADDRESS, statement.target, statement.source)
        places = self.known(statement.targets)
        if places.dtype is not DType.I64:
            raise _WrongError(f"{_said(statement.targets)} is {places.name}, and no place")
        self.all_of(places, statement.sources, statement.kept)
        if statement.dtype is DType.BOOL:
            raise _WrongError(f"{statement.dtype.value} has no form in memory")

    def matrices(self, statement: ir.MultiplyMatrices) -> None:
        left, right, sums = statement.left, statement.right, statement.sums
        counts = len(left), len(right), len(sums), len(statement.results)
        known = (*map(len, (left_fragments(statement.rounding), right_fragments(statement.rounding))), *[len(SUMS)] * 2)
        if counts != known:
            raise _WrongError(f"matrices have {counts} elements of a thread, not {known}")
        type_ = self.known(sums[0])
        if type_.dtype is not DType.F32:
            raise _WrongError(f"sums of matrices are {type_.name}, and not f32")
        self.all_of(type_, *left, *right, *sums)
        for result in statement.results:
            if result.type is not type_:
                raise _WrongError(f"{name_of(result)} is of another type than the sums of matrices")
            self.define(result)

    # definitions

    def definition(self, statement: ir.Definition) -> None:
        result = statement.result
        match statement:
            case ir.Given(slot=slot):
                if slot >= len(self.nest.arguments):
                    raise _WrongError(f"there is no argument {slot}")
            case ir.Scratch() | ir.Ordinal() | ir.Shared():
                pass
            case ir.Exchange(value=value, lane=lane):
                self.expect(value, result.type)
                self.expect(lane, INDEX)
            case ir.Address(base=base, index=index):
                self.expect(base, ADDRESS)
                self.expect(index, INDEX)
            case ir.Load():
                self.access(statement.address, result.type, statement.align)
            case ir.Gather():
                self.expect(statement.address, ADDRESS)
                self.expect(statement.places, ir.vector(DType.I64, result.type.lanes))
                self.expect(statement.mask, ir.vector(DType.BOOL, result.type.lanes))
            case ir.Number():
                self.expect(statement.address, ADDRESS)
            case _:
                self.computation(statement)
        self.define(result)

    def computation(self, statement: ir.Arithmetical | ir.Select | ir.Draw) -> None:
        type_ = statement.result.type
        match statement:
            case ir.Fma():
                self.all_of(type_, statement.left, statement.right, statement.addend)
            case ir.PairFma():
                self.all_of(ir.vector(DType.U32, type_.lanes), statement.left, statement.right)
                self.expect(statement.addend, ir.vector(DType.F32, type_.lanes))
            case ir.Binary():
                self.all_of(type_, statement.left, statement.right)
            case ir.Compare():
                self.expect(statement.right, self.known(statement.left))
            case ir.Select():
                self.all_of(type_, statement.yes, statement.no)
                if self.known(statement.condition) is not TRUTH:
                    self.expect(statement.condition, ir.vector(DType.BOOL, type_.lanes))
            case ir.Elementwise():
                if any(self.known(operand).lanes != type_.lanes for operand in statement.operands):
                    raise _WrongError(f"{name_of(statement.result)} and its operands differ in lanes")
            case ir.Shuffle():
                self.shuffle(statement)
            case ir.Draw():
                self.expect(statement.first, ir.vector(DType.I32, 1))
                self.expect(statement.places, ir.vector(DType.I64, type_.lanes))
            case ir.Broadcast():
                if self.known(statement.scalar).dtype is not type_.dtype:
                    raise _WrongError(f"{name_of(statement.result)} is of another type than the scalar in its lanes")
            case ir.Rounded(value=operand) | ir.RoundFactor(value=operand):
                self.expect(operand, ir.vector(DType.F32, type_.lanes))
            case ir.Convert(value=operand) | ir.Bits(value=operand) | ir.Lane(vector=operand) | ir.Any(mask=operand):
                self.known(operand)

    def shuffle(self, shuffle: ir.Shuffle) -> None:
        left = self.known(shuffle.left)
        if shuffle.right is not None:
            self.expect(shuffle.right, left)
        both = left.lanes * (1 if shuffle.right is None else 2)
        is_there = all(0 <= pick < both for pick in shuffle.picks)
        if len(shuffle.picks) != shuffle.result.type.lanes or not is_there:
            raise _WrongError(f"{name_of(shuffle.result)} picks lanes that are not there")


def _said(operand: Operand) -> str:
    if isinstance(operand, Value):
        return name_of(operand)
    return "a constant" if isinstance(operand, Constant | Zeros) else str(operand)
