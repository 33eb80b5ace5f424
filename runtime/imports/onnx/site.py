"""A node as an operator's translation sees it: its operands as text, their types, and the places for weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code, Weight
from runtime.imports.onnx.extents import BATCH, expression
from runtime.imports.onnx.graph import DTYPES, Graph, Node, Tensor, Unsupported, Value

Translation: TypeAlias = Callable[["Site"], "Code | list[Code]"]


_MOVES = frozenset({"Cast", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Transpose", "Flatten"})


class Site:
    """`text_of` gives an operand that the model computes, `own` the name of a tensor that it owns.

    `helper` asks for a function of `operators/helpers`, `bind` gives the results of an expression names of their own.
    """

    def __init__(
        self,
        graph: Graph,
        node: Node,
        text_of: Callable[[str], Code],
        own: Callable[[str, Value], Code],
        uses: Mapping[str, int],
        helper: Callable[[str], None],
        bind: Callable[[Code, int], list[Code]],
    ) -> None:
        self.graph, self.node, self.text_of, self.own, self.uses = graph, node, text_of, own, uses
        self.helper, self.bind = helper, bind

    def has(self, place: int) -> bool:
        return place < len(self.node.inputs) and bool(self.node.inputs[place])

    def value(self, place: int) -> Value:
        return self.graph.values[self.node.inputs[place]]

    def result(self, place: int = 0) -> Value:
        return self.graph.values[self.node.outputs[place]]

    def wants(self, place: int) -> bool:
        """Whether the node has such a result, and something reads it."""
        outputs = self.node.outputs
        return place < len(outputs) and bool(outputs[place]) and self.uses.get(outputs[place], 0) > 0

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attributes.get(name, default)

    def rank(self, place: int = 0) -> int:
        return self.value(place).rank

    def axis(self, number: int, rank: int) -> int:
        """The axis counted from 0. Raises Unsupported."""
        if not -rank <= number < rank:
            raise Unsupported(f"the axis {number} of a tensor with {rank}")
        return number % rank

    def extent(self, value: Value, axis: int) -> str:
        return expression([shape[axis] for shape in value.shapes], self.graph.sizes)

    def extents(self, value: Value) -> list[str]:
        return [self.extent(value, axis) for axis in range(value.rank)]

    def fixed(self, value: Value, axis: int) -> int:
        """A size that depends on no free one. Raises Unsupported."""
        text = self.extent(value, axis)
        if not text.isdigit():
            raise Unsupported(f"`{self.node.op}` along an axis of the free size {text}", "fix it with --size NAME=N")
        return int(text)

    def is_batch(self, value: Value, axis: int) -> bool:
        names = self.graph.sizes[0]
        return BATCH in names and BATCH in self.extent(value, axis).split()

    def numbers(self, place: int) -> list[int]:
        """A constant list of whole numbers. Raises Unsupported."""
        content = self.value(place).constant
        if content is None:
            raise Unsupported(
                f"`{self.node.op}` by the numbers in `{self.node.inputs[place]}`, which are not known",
                "give it as a constant: `--sample` fixes inputs that decide a shape",
                self.node.inputs[place],
            )
        return [int(n) for n in content.reshape(-1)]

    def known_numbers(self, place: int) -> list[str]:
        """The texts of whole numbers that follow from sizes. Raises Unsupported."""
        value = self.value(place)
        if value.contents is None:
            self.numbers(place)
        return self.known_numbers_of(value)

    def known_numbers_of(self, value: Value) -> list[str]:
        assert value.contents is not None
        flat = [content.reshape(-1) for content in value.contents]
        return [expression([int(one[i]) for one in flat], self.graph.sizes) for i in range(len(flat[0]))]

    def source_of(self, name: str) -> str:
        """The value from which one comes by conversions and moves alone."""
        makers = {output: node for node in self.graph.nodes for output in node.outputs}
        while name in makers and makers[name].op in _MOVES:
            name = makers[name].inputs[0]
        return name

    def scalar(self, place: int) -> float | int | bool | None:
        """The one number of a constant of one element."""
        content = self.value(place).constant
        return None if content is None or content.size != 1 else content.reshape(-1)[0]

    def text(self, place: int) -> Code:
        """An operand; a constant of one element is a literal."""
        value = self.value(place)
        if value.constant is not None and value.constant.size == 1 and not value.weight:
            return self.literal_of(value)
        return self.tensor(place)

    def literal_of(self, value: Value) -> Code:
        assert value.contents is not None
        return code.number(value.contents[0].reshape(-1)[0])

    def tensor(self, place: int) -> Code:
        """An operand as a tensor of its own shape."""
        value = self.value(place)
        if value.contents is None:
            return self.text_of(value.name)
        if value.constant is None:
            if value.contents[0].size == 1:
                shown = expression([int(one.reshape(-1)[0]) for one in value.contents], self.graph.sizes)
                if value.dtype.startswith("int") and BATCH not in shown:
                    return self.filled(Code(shown, code.SUM), value)
            row = self.row_of(value)
            if row is None:
                return self.text_of(value.name)
            flat = row.contents[0].reshape(-1) if row.contents is not None else np.zeros(0)
            if is_one_number(flat):
                return self.filled(code.number(flat[0]), value)
            return self.copies(self.of_constant(row), row, value)
        return self.of_constant(value)

    def row_of(self, value: Value) -> Value | None:
        """The first row of a known tensor that has one for each row of the batch, all alike, as a constant."""
        if value.contents is None or value.is_constant or not value.rank or not self.is_batch(value, 0):
            return None
        row = value.contents[0][:1]
        if any(one.shape[1:] != row.shape[1:] or not (one == row).all() for one in value.contents):
            return None
        name = f"{value.name}[0]"
        found = Value(name, value.dtype, (row.shape,) * len(value.shapes), (row,) * len(value.shapes), value.weight)
        self.graph.values[name] = found
        return found

    def copies(self, x: Code, value: Value, result: Value) -> Code:
        """A tensor repeated along axes of 1, as a product with ones of its own type."""
        extents = ", ".join(self.extents(result))
        if value.dtype == "bool":
            return code.binary("and", x, Code(f"zeros({extents}) == 0", code.COMPARE))
        ones = Code(f"ones({extents})")
        return code.binary(
            "*", x, ones if value.dtype == "float32" else code.call("cast", ones, Code(self.dtype(value)))
        )

    def of_constant(self, value: Value) -> Code:
        content = value.constant
        assert content is not None
        self.dtype(value)
        if not content.size:
            none = Code(f"zeros({', '.join(map(str, content.shape))})")
            return none if value.dtype == "float32" else code.call("cast", none, Code(self.dtype(value)))
        if value.weight:
            return self.own(value.name, value)
        plain = self._plain(content, value)
        return plain if plain is not None else self.own(value.name, value)

    def _plain(self, content: Tensor, value: Value) -> Code | None:
        """A constant that has a formula: one number everywhere, or the numbers from 0 on."""
        flat = content.reshape(-1)
        if is_one_number(flat):
            return self.filled(code.number(flat[0]), value)
        if content.dtype.kind == "i" and flat.size > 1 and np.array_equal(flat, np.arange(flat.size)):
            along = [axis for axis, extent in enumerate(content.shape) if extent != 1]
            text = Code(f"arange({flat.size})")
            if len(along) == 1:
                items = ", ".join(":" if axis == along[0] else "None" for axis in range(content.ndim))
                text = text if content.ndim == 1 else code.index(text, items)
            else:
                text = code.call("reshape", text, *(code.number(e) for e in content.shape))
            return self.cast(text, "int32", value.dtype)
        return self._triangular(content)

    def _triangular(self, content: Tensor) -> Code | None:
        """A causal mask, of booleans or of two numbers."""
        if content.ndim < 2 or content.size != content.shape[-2] * content.shape[-1] or min(content.shape[-2:]) < 2:
            return None
        seen = np.tri(*content.shape[-2:], dtype=bool)
        matrix = content.reshape(content.shape[-2:])
        mask = Code(f"causal_mask({content.shape[-2]}, {content.shape[-1]})")
        lead = ", ".join(["None"] * (content.ndim - 2) + [":", ":"])
        if content.dtype == bool and np.array_equal(matrix, seen):
            return code.index(mask, lead) if content.ndim > 2 else mask
        inside, outside = float(matrix[0, 0]), float(matrix[0, -1])
        masked: Tensor = np.where(seen, inside, outside).astype(content.dtype)
        if content.dtype.kind == "f" and np.array_equal(matrix, masked):
            chosen = code.call("where", mask, code.number(matrix[0, 0]), code.number(matrix[0, -1]))
            return code.index(chosen, lead) if content.ndim > 2 else chosen
        return None

    def filled(self, fill: Code, value: Value) -> Code:
        extents = self.extents(value)
        dtype = self.dtype(value)
        if dtype == "bool":
            return Code(f"zeros({', '.join(extents)}) {'==' if fill.text == 'true' else '!='} 0", code.COMPARE)
        is_whole = dtype == "f32" and not any(mark in fill.text for mark in (".", "e", "inf"))
        found = Code(f"full({', '.join([fill.argument + '.0' * is_whole, *extents])})")
        return found if dtype == "f32" else code.call("cast", found, Code(dtype))

    def cast(self, operand: Code, dtype: str, to: str) -> Code:
        return operand if dtype == to else code.call("cast", operand, Code(DTYPES[to]))

    def dtype(self, value: Value) -> str:
        """The element type in `.dl`. Raises Unsupported."""
        if value.dtype not in DTYPES:
            raise Unsupported(
                f"`{value.name}` has the element type {value.dtype}",
                f"export the model with one of {', '.join(DTYPES)}",
            )
        return DTYPES[value.dtype]

    def held(self, place: int) -> Tensor:
        """The content of a constant operand."""
        content = self.value(place).constant
        assert content is not None
        return content

    def weight(self, place: int, content: Tensor | None = None) -> Weight:
        value = self.value(place)
        given = value.constant if content is None else content
        assert given is not None
        return Weight(given, value.weight or (value.name,))

    def is_own(self, place: int, rank: int | None = None) -> bool:
        """Whether a layer can own an operand: a constant tensor of floats which this node alone reads, or a vector.

        Equal vectors, such as the scales of new norms, are one in many files, and are no shared weights.
        """
        if not self.has(place):
            return False
        value = self.value(place)
        alone = self.uses.get(value.name, 0) == 1 or value.rank == 1
        fits = value.is_constant and value.dtype in ("float32", "float64") and alone
        return fits and (rank is None or value.rank == rank)

    def refuse(self, what: str, how: str = "") -> Unsupported:
        return Unsupported(f"`{self.node.op}` {what}", how)


def is_one_number(flat: Tensor) -> bool:
    """Whether all elements are the same, such as NaN."""
    return bool(flat.size) and bool((flat == flat[0]).all() or (flat != flat).all())


def spread(site: Site, operand: Code, value: Value, rank: int) -> Code:
    """A vector of channels beside tensors of `rank` axes, of which it is axis 1."""
    return code.index(operand, ", ".join([":", *["None"] * (rank - 2)])) if rank > 2 else operand


def joined(parts: Sequence[Code], axis: int) -> Code:
    return parts[0] if len(parts) == 1 else code.call("concat", *parts, axis=axis)
