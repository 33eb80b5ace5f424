"""An ONNX graph under construction: its nodes, constants and names, and how each value of ours is held in it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import field
from typing import Any

import numpy as np
from onnx import FunctionProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.ir import Graph, Node, Value
from compiler.support.arrays import Array
from compiler.support.record import mutable_record, record
from compiler.types import (
    READ_AS,
    BatchExtent,
    DType,
    Extent,
    Shape,
    TensorType,
    depends_on_batch,
    elements,
    is_of_pairs,
    numpy_dtype,
)

ELEMENT_TYPES = {
    DType.F32: TensorProto.FLOAT,
    DType.F64: TensorProto.DOUBLE,
    DType.I32: TensorProto.INT32,
    DType.I64: TensorProto.INT64,
    DType.U8: TensorProto.UINT8,
    DType.BOOL: TensorProto.BOOL,
    DType.F16: TensorProto.FLOAT16,
    DType.I8: TensorProto.INT8,
    DType.I16: TensorProto.INT16,
    DType.U16: TensorProto.UINT16,
    DType.U32: TensorProto.UINT32,
    DType.U64: TensorProto.UINT64,
}
_MOVED_AS = {**READ_AS, DType.U64: DType.I64}
"""For types of which runtimes lack operators, one that has all their numbers, or for u64 all its bits."""
_AXES_ARE_INPUTS = 18  # from this opset on, for the reductions other than ReduceSum


class NotInOnnxError(Exception):
    """An operation that no operators of the opset express; the text says why."""


@record
class Held:
    """A value in ONNX. As ONNX broadcasts, `shape` may lack leading axes of the value's type, and be 1 where elements
    repeat."""

    name: str
    shape: Shape = ()


@mutable_record
class Scope:
    """A graph or the body of a scan: its nodes so far, its values by their indices, and the nodes that made them."""

    makers: dict[int, Node]
    nodes: list[NodeProto] = field(default_factory=list[NodeProto])
    held: dict[int, Held] = field(default_factory=dict[int, Held])
    full: dict[int, str] = field(default_factory=dict[int, str])


def scope_of(graph: Graph) -> Scope:
    return Scope({result.index: node for node in graph.nodes for result in node.results})


class Emitter:
    """Appends operators to the scope on top. `label` names them and `place` documents them.

    `stream_offset` is what a step of a scan adds to the numbers of random streams: a value of i64, or None outside.
    """

    def __init__(self, opset: int, graph: Graph) -> None:
        self.opset = opset
        self.scope = scope_of(graph)
        self.first = Scope({})  # stands in front of everything, and is seen by the bodies of all scans
        self.initializers: dict[str, TensorProto] = {}
        self.functions: dict[str, FunctionProto] = {}
        self.label, self.place = "", ""
        self.stream_offset: str | None = None
        self.translate: Callable[[Sequence[Node]], None] = lambda nodes: None
        self._counts: dict[str, int] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._extents: dict[Shape, str] = {}
        self._batch: str | None = None

    def unique(self, wanted: str) -> str:
        """`wanted`, or the same with a number that nothing has yet."""
        name = wanted
        while name in self._counts:
            self._counts[wanted] += 1
            name = f"{wanted}_{self._counts[wanted]}"
        self._counts[name] = 1
        return name

    def emit(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator with one result; its name."""
        return self.emit_all(operator, inputs, 1, **attributes)[0]

    def emit_all(
        self, operator: str, inputs: Sequence[str], count: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        name = self.unique(f"{self.label}/{operator}" if self.label else operator)
        outputs = [name, *(self.unique(f"{name}:{k}") for k in range(1, count))]
        given = {key: value for key, value in attributes.items() if value is not None}
        node = helper.make_node(operator, inputs, outputs, name, self.place or None, domain, **given)
        self.scope.nodes.append(node)
        return outputs

    def constant(self, array: Array) -> str:
        """The name of a constant, which all of its uses share: the result of a node, since initializers are weights."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = self.unique("constant")
            self._constants[key] = name
            self.set_constant(name, array)
        return self._constants[key]

    def set_constant(self, name: str, array: Array) -> None:
        """Make a constant of this name."""
        tensor = numpy_helper.from_array(array, name)
        self.first.nodes.append(helper.make_node("Constant", [], [name], name, value=tensor))

    @property
    def given(self) -> set[str]:
        """The names of initializers and shared constants, which no output takes from them."""
        return {*self.initializers, *self._constants.values()}

    def number(self, value: float, dtype: DType) -> str:
        with np.errstate(over="ignore"):
            return self.constant(np.array(value, numpy_dtype(dtype)))

    def integers(self, values: Sequence[int]) -> str:
        """A vector of i64, as axes and shapes are given."""
        return self.constant(np.array(values, np.int64))

    @contextmanager
    def at_first(self) -> Generator[None]:
        """What is emitted stands in front of everything else."""
        scope, label, place = self.scope, self.label, self.place
        self.scope, self.label, self.place = self.first, "", ""
        try:
            yield
        finally:
            self.scope, self.label, self.place = scope, label, place

    @contextmanager
    def inside(self, scope: Scope) -> Generator[None]:
        outer, self.scope = self.scope, scope
        try:
            yield
        finally:
            self.scope = outer

    def maker(self, value: Value) -> Node | None:
        """The node that gives a value of this scope; None for an input."""
        return self.scope.makers.get(value.index)

    def keep(self, value: Value, name: str, shape: Shape | None = None) -> None:
        """A value of this scope is `name`, of its own shape or of one that is repeated to it."""
        self.scope.held[value.index] = Held(name, value.type.shape if shape is None else shape)

    def read(self, value: Value) -> Held:
        return self.scope.held[value.index]

    def ranked(self, value: Value) -> Held:
        """A value with all its axes, of which some may be 1 where elements repeat."""
        held = self.read(value)
        missing = value.type.rank - len(held.shape)
        if not missing:
            return held
        name = self.emit("Unsqueeze", held.name, self.integers(range(missing)))
        return Held(name, (*(1,) * missing, *held.shape))

    def full(self, value: Value) -> str:
        """A value with all its elements."""
        held = self.read(value)
        if held.shape == value.type.shape:
            return held.name
        if value.index not in self.scope.full:
            self.scope.full[value.index] = self.emit("Expand", held.name, self.extents(value.type.shape))
        return self.scope.full[value.index]

    def extents(self, shape: Shape) -> str:
        """A shape as a vector of i64, which depends on the batch where the shape does."""
        if not depends_on_batch(shape):
            return self.integers([extent for extent in shape if isinstance(extent, int)])
        if shape not in self._extents:
            with self.at_first():
                parts = [self._extent(extent) for extent in shape]
                self._extents[shape] = self.emit("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]
        return self._extents[shape]

    def _extent(self, extent: Extent) -> str:
        if isinstance(extent, int):
            return self.integers([extent])
        name = self.emit("Unsqueeze", self.batch(), self.integers([0]))
        return name if extent.multiple == 1 else self.emit("Mul", name, self.integers([extent.multiple]))

    def knows_batch_by(self, name: str, type_: TensorType) -> None:
        """An input of the model tells the size of the batch."""
        axis = next((k for k, extent in enumerate(type_.shape) if isinstance(extent, BatchExtent)), None)
        if axis is None or self._batch is not None:
            return
        with self.at_first():
            size = self.emit("Gather", self.emit("Shape", name), self.number(axis, DType.I64))
            multiple = elements((type_.shape[axis],))
            assert isinstance(multiple, BatchExtent)
            is_whole = multiple.multiple == 1
            self._batch = size if is_whole else self.emit("Div", size, self.number(multiple.multiple, DType.I64))

    def batch(self) -> str:
        """The size of the batch, a scalar of i64."""
        if self._batch is None:
            raise NotInOnnxError("it depends on the batch, and no input has that axis")
        return self._batch

    def reshape(self, name: str, before: Shape, after: Shape) -> str:
        """The same elements under another shape."""
        if before == after:
            return name
        if depends_on_batch(after) and 0 in after:
            return self.emit("Reshape", name, self.extents(after), allowzero=1)
        if is_of_pairs(after):
            return self.emit("Reshape", name, self.extents(after))
        target = [extent if isinstance(extent, int) else -1 for extent in after]
        return self.emit("Reshape", name, self.integers(target), allowzero=1 if 0 in target else None)

    def transposed(self, name: str, permutation: Sequence[int]) -> str:
        is_same = list(permutation) == sorted(permutation)
        return name if is_same else self.emit("Transpose", name, perm=list(permutation))

    def reduced(self, operator: str, name: str, axes: Sequence[int], keeps: bool = False) -> str:
        """A reduction over axes, which are dropped unless it `keeps` them with the extent 1."""
        if operator == "ReduceSum" or self.opset >= _AXES_ARE_INPUTS:
            return self.emit(operator, name, self.integers(axes), keepdims=int(keeps))
        return self.emit(operator, name, axes=list(axes), keepdims=int(keeps))

    def moved(self, dtype: DType, pair: tuple[str, str], operator: Callable[[str, str], str]) -> str:
        """The elements of two values in an order, by an operator that runtimes may lack for their type."""
        wide = _MOVED_AS.get(dtype, dtype)
        if wide is dtype:
            return operator(*pair)
        return self.cast(operator(self.cast(pair[0], wide), self.cast(pair[1], wide)), dtype)

    def cast(self, name: str, dtype: DType) -> str:
        return self.emit("Cast", name, to=ELEMENT_TYPES[dtype])


def value_info(name: str, type_: TensorType) -> ValueInfoProto:
    """A name with its type; the extents that depend on the batch are called `batch`, `2*batch`."""
    if type_.dtype not in ELEMENT_TYPES:
        raise CompilerBug("to_onnx", f"{name} is of {type_.dtype.value}, which no graph of a program has")
    shape = [extent if isinstance(extent, int) else str(extent) for extent in type_.shape]
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[type_.dtype], shape)
