"""Draws by Threefry, in operators on integers: the numbers that training draws, bit for bit."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from compiler.graph.ir import Node
from compiler.graph.op import Op
from compiler.ops.sources import RandomUniform, Threefry
from compiler.support.arrays import Array
from compiler.to_onnx.elementwise import Numbers, Translation, keep_joint
from compiler.to_onnx.emitter import Emitter
from compiler.types import BatchExtent, DType, Shape, batch_axis, elements

DOMAIN = "dlc"
DOMAIN_VERSION = 1
_XOR_OF_INTEGERS = 18  # the first opset that has it
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = 0x1BD11BDA
_WORDS = 2**32  # as many words there are, each of which is held as an i64: runtimes compute little on u32


class _Function:
    """A model-local function over i64 under construction; its names are local."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[NodeProto] = []
        self._constants: dict[int, str] = {}

    def __call__(self, operator: str, *inputs: str | int, domain: str = "", **attributes: int) -> str:
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        result = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [result], None, None, domain, None, **attributes))
        return result

    def constant(self, number: int) -> str:
        if number not in self._constants:
            self._constants[number] = self.array(np.array(number))
        return self._constants[number]

    def array(self, values: Array) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values)))
        return name

    def sum(self, a: str, b: str | int) -> str:
        return self("Mod", self("Add", a, b), _WORDS)

    def xor(self, a: str, b: str | int) -> str:
        if self.opset >= _XOR_OF_INTEGERS:
            return self("BitwiseXor", a, b)
        return self("Xor32", a, b, domain=DOMAIN)

    def rotated(self, x: str, bits: int) -> str:
        left = self("Mod", self("Mul", x, 2**bits), _WORDS)
        return self("Add", left, self("Div", x, 2 ** (32 - bits)))

    def named(self, name: str, inputs: list[str], outputs: list[str], e: Emitter) -> None:
        """Give the model a function of this body."""
        imports = [helper.make_opsetid("", self.opset), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
        e.functions[name] = helper.make_function(DOMAIN, name, inputs, outputs, self.nodes, imports)


def _threefry(e: Emitter, key: tuple[str, str], counter: tuple[str, str]) -> list[str]:
    """Two words, by the function of the model that computes them."""
    if "Threefry2x32" not in e.functions:
        if e.opset < _XOR_OF_INTEGERS:
            _define_xor(e)
        _define_threefry(e)
    return e.emit_all("Threefry2x32", [*key, *counter], 2, DOMAIN)


def _define_threefry(e: Emitter) -> None:
    """As `compiler.ops.sources.threefry2x32`."""
    f = _Function(e.opset)
    keys = ("k0", "k1", f.xor(f.xor("k0", "k1"), _PARITY))
    x0, x1 = f.sum("c0", "k0"), f.sum("c1", "k1")
    for group in range(5):
        for rotation in _ROTATIONS[4 * (group % 2) :][:4]:
            x0 = f.sum(x0, x1)
            x1 = f.xor(f.rotated(x1, rotation), x0)
        x0 = f.sum(x0, keys[(group + 1) % 3])
        x1 = f.sum(f("Add", x1, keys[(group + 2) % 3]), group + 1)
    f.named("Threefry2x32", ["k0", "k1", "c0", "c1"], [x0, x1], e)


def _define_xor(e: Emitter) -> None:
    """The exclusive or of two words, of which the digits to the base 16, along a new axis, are looked up in a table."""
    f = _Function(e.opset)
    digits, powers = np.arange(16), 16 ** np.arange(8)
    table, places = f.array((digits[:, None] ^ digits[None, :]).reshape(-1)), f.array(powers)
    last = f.array(np.array([-1]))
    one, other = (f("Mod", f("Div", f("Unsqueeze", x, last), places), 16) for x in ("a", "b"))
    found = f("Gather", table, f("Add", f("Mul", one, 16), other), axis=0)
    f.named("Xor32", ["a", "b"], [f("ReduceSum", f("Mul", found, places), last, keepdims=0)], e)


def _words(e: Emitter, name: str) -> tuple[str, str]:
    """The low and the high half of an i64, each from 0 to 2^32."""
    f = Numbers(e, DType.I64)
    low = f("Mod", name, _WORDS)
    return low, f("Mod", f("Div", f("Sub", name, low), _WORDS), _WORDS)


def _as_fraction(e: Emitter, word: str, dtype: DType) -> str:
    """The upper 24 bits of a word as a number in [0, 1)."""
    upper = e.emit("Div", word, e.number(2**8, DType.I64))
    return e.emit("Mul", e.cast(upper, dtype), e.number(2.0**-24, dtype))


def _threefry_op(e: Emitter, node: Node) -> None:
    op, operands = node.op, [e.read(operand) for operand in node.operands]
    assert isinstance(op, Threefry)
    key, counter = (_words(e, held.name) for held in operands)
    low, high = _threefry(e, key, counter)
    if op.dtype is DType.I64:
        f = Numbers(e, DType.I64)
        signed = f("Where", f("Less", high, _WORDS // 2), high, f("Sub", high, _WORDS))
        name = f("Add", f("Mul", signed, _WORDS), low)
    else:
        name = _as_fraction(e, low, op.dtype)
    keep_joint(e, node, name, *operands)


def _random_uniform(e: Emitter, node: Node) -> None:
    op, (seed, step) = node.op, (e.full(operand) for operand in node.operands)
    assert isinstance(op, RandomUniform)
    stream = e.number(op.stream, DType.I64)
    if e.stream_offset is not None:
        stream = e.emit("Add", stream, e.stream_offset)
    low_of_step, _ = _words(e, step)
    low_of_stream, _ = _words(e, stream)
    first, second = _threefry(e, _words(e, seed), (low_of_step, low_of_stream))
    count = elements(op.shape)
    if isinstance(count, BatchExtent):
        end = e.emit("Mul", e.batch(), e.number(count.multiple, DType.I64))
        positions = e.emit("Range", e.number(0, DType.I64), end, e.number(1, DType.I64))
    else:
        positions = e.constant(np.arange(count, dtype=np.int64))
    word, _ = _threefry(e, (first, second), _words(e, positions))
    e.keep(node.results[0], _arranged(e, _as_fraction(e, word, DType.F32), op.shape))


def _arranged(e: Emitter, name: str, shape: Shape) -> str:
    """Draws in the order of their positions, which count with the batch axis outermost, in their shape."""
    axis = batch_axis(shape) or 0
    stored = (*shape[axis : axis + 1], *shape[:axis], *shape[axis + 1 :])
    back = [*range(1, axis + 1), 0, *range(axis + 1, len(shape))] if shape else []
    return e.transposed(e.reshape(name, (elements(shape),), stored), back)


DRAWS: dict[type[Op], Translation] = {RandomUniform: _random_uniform, Threefry: _threefry_op}
