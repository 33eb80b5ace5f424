"""A node to an expression of the language that is elaborated to the same op, with the same order of every sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest

from compiler.errors.diagnostics import UsageError
from compiler.graph.ir import Node, Value
from compiler.inspection.gradient.outline import Outline
from compiler.ops import elementwise, mathematics
from compiler.ops.contraction import Contraction
from compiler.ops.indexing import Gather, ScatterAdd
from compiler.ops.movement import Concat, Pad, Reverse, Slice, Transpose
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments
from compiler.ops.sources import BatchSize, Constant, Iota
from compiler.ops.spreading import Broadcast, Reshape, Sum
from compiler.ops.window import Fold, Window
from compiler.support.record import record
from compiler.types import DType, Extent, Shape, TensorType, is_of_pairs

# How tightly an operator binds, from loosest to tightest.
_OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _SIGN, _POWER, ATOM = range(9)
_INFIX: dict[str, tuple[str, int]] = {
    "add": ("+", _SUM),
    "sub": ("-", _SUM),
    "mul": ("*", _PRODUCT),
    "div": ("/", _PRODUCT),
    "floordiv": ("//", _PRODUCT),
    "mod": ("%", _PRODUCT),
    "pow": ("^", _POWER),
    "eq": ("==", _COMPARISON),
    "ne": ("!=", _COMPARISON),
    "lt": ("<", _COMPARISON),
    "le": ("<=", _COMPARISON),
    "and": ("and", _AND),
    "or": ("or", _OR),
}
_CALLED = {"maximum": "max", "minimum": "min", "where": "where", "floor": "floor", "abs": "abs"} | {
    op.name: op.name for op in mathematics.FUNCTIONS
}
_FIXED_POWERS = (1.0, 2.0, 3.0, 4.0, 0.5, -1.0)  # which the language computes by products and roots


@record
class Text:
    """An expression: how tightly its outermost operator binds, and whether it is a number and no tensor."""

    text: str
    binding: int = ATOM
    is_number: bool = False

    def within(self, binding: int) -> str:
        """The text as an operand of an operator that binds so tightly."""
        return self.text if self.binding >= binding else f"({self.text})"


class Expressions:
    """Writes nodes of one function. `name_of` gives the text of a value that has a place."""

    def __init__(self, outline: Outline, name_of: Callable[[Value], Text]) -> None:
        self.outline, self.name_of = outline, name_of

    def whole(self, value: Value) -> Text:
        """A value where a tensor of its shape is needed."""
        node = self.outline.makers.get(value.index)
        if value.index in self.outline.scalars:
            number = self.number(value)
            return Text(f"full({number.text})")
        if node is None or not self.outline.is_placeless(value):
            return self.name_of(value)
        if isinstance(node.op, Broadcast):
            return self._repeated(node, node.op)
        if value.type.shape == () and not isinstance(node.op, Iota):
            return _typed(f"full({self.number(value).text})", value.type.dtype)
        return self._positions(node)

    def number(self, value: Value) -> Text:
        """A scalar that needs no tensor: of constants and settings, or a multiple of the number of rows."""
        node = self.outline.makers.get(value.index)
        if node is None:
            return Text(self.name_of(value).text, ATOM, True)
        match node.op:
            case Constant(constant):
                return _literal(constant)
            case BatchSize():
                return Text("batch", ATOM, True)
            case elementwise.Cast():
                return self.number(node.operands[0])
            case _:
                return self._applied(node, [self.number(o) for o in node.operands])

    def of(self, node: Node) -> Text:
        """A node with a place. Raises UsageError for one that the language has no words for."""
        if isinstance(node.op, (elementwise.Elementwise, elementwise.Where)):
            return self._elementwise(node)
        operands = [self.whole(operand) for operand in node.operands]
        match node.op:
            case elementwise.Cast(dtype):
                return Text(f"cast({operands[0].text}, {dtype.value})")
            case Contraction():
                return self._product(node, node.op)
            case Sum() | Max() | Min() | Moments() | ArgMax() | CumulativeSum():
                return _reduction(node, operands[0])
            case _:
                return _moved(node, operands)

    # Elementwise

    def _elementwise(self, node: Node) -> Text:
        shape = node.results[0].type.shape
        parts = [self._aligned(operand) for operand in node.operands]
        texts = [text for text, _ in parts]
        values = texts[1:] if isinstance(node.op, elementwise.Where) else texts
        if all(text.is_number for text in values):
            place = len(texts) - len(values)
            texts[place], parts[place] = self.whole(node.operands[place]), (Text(""), shape)
        if _joint([found for _, found in parts]) != shape:
            place = next(i for i, text in enumerate(texts) if not text.is_number)
            texts[place] = self.whole(node.operands[place])
        return self._applied(node, [self._of_type(t, o) for t, o in zip(texts, node.operands, strict=True)])

    def _of_type(self, text: Text, operand: Value) -> Text:
        """A number beside tensors takes their type, but for u8, whose arithmetic with numbers is that of i32."""
        is_small = text.is_number and operand.type.dtype is DType.U8
        return Text(f"cast({text.text}, u8)") if is_small else text

    def _aligned(self, operand: Value) -> tuple[Text, Shape]:
        """An operand as it meets others, which repeat it: without the repetition."""
        node = self.outline.makers.get(operand.index)
        if operand.index in self.outline.scalars:
            return self.number(operand), ()
        if node is None or not self.outline.is_placeless(operand):
            return self.name_of(operand), operand.type.shape
        if not isinstance(node.op, Broadcast):
            is_number = operand.type.shape == () and not isinstance(node.op, Iota)
            return (self.number(operand) if is_number else self.whole(operand)), operand.type.shape
        (inner,) = node.operands
        text, found = self._aligned(inner)
        if not found:
            return text, ()
        return _placed(text, found, node.op)

    def _applied(self, node: Node, operands: Sequence[Text]) -> Text:
        is_number = all(operand.is_number for operand in operands)
        name = node.op.name
        if name == "neg":
            return Text(f"-{operands[0].within(_SIGN + 1)}", _SIGN, is_number)
        if name == "not":
            return Text(f"not {operands[0].within(_NOT + 1)}", _NOT, is_number)
        if (
            name == "pow"
            and operands[1].is_number
            and not is_number
            and operands[1].text.strip("()") in map(str, _FIXED_POWERS)
        ):
            operands = [operands[0], Text(f"full({operands[1].text})")]
        if name in _INFIX:
            symbol, binding = _INFIX[name]
            left, right = operands
            return Text(
                f"{left.within(binding + (name == 'pow'))} {symbol} {right.within(binding + 1)}", binding, is_number
            )
        if name in _CALLED:
            return Text(f"{_CALLED[name]}({', '.join(operand.text for operand in operands)})", ATOM, is_number)
        raise _no_words(node)

    # Repetition

    def _repeated(self, node: Node, op: Broadcast) -> Text:
        type_ = node.results[0].type
        text, found = self._aligned(node.operands[0])
        dimensions = _dimensions(type_.shape)
        if not found and type_.dtype.is_float:
            known = {"0.0": "zeros", "1.0": "ones"}.get(text.text)
            return Text(f"{known}({dimensions})" if known else f"full({text.text}, {dimensions})")
        if not found and not text.is_number:
            return Text(f"full({text.text}, {dimensions})")
        if not found:
            return _typed(f"full({text.text}, {dimensions})", type_.dtype)
        text, _ = _placed(text, found, op)
        if type_.dtype is DType.BOOL:
            return Text(f"cast(ones({dimensions}), bool) and {text.within(_AND + 1)}", _AND)
        return Text(f"{text.within(_PRODUCT)} * {_typed(f'ones({dimensions})', type_.dtype).text}", _PRODUCT)

    def _positions(self, node: Node) -> Text:
        op = node.op
        assert isinstance(op, Iota)
        text = _typed(f"arange({_extent(op.shape[op.axis])})", op.dtype, DType.I32)
        if len(op.shape) == 1:
            return text
        text, _ = _placed(text, (op.shape[op.axis],), Broadcast(op.shape, (op.axis,)))
        ones = _typed(f"ones({_dimensions(op.shape)})", op.dtype)
        return Text(f"{text.text} * {ones.text}", _PRODUCT)

    # Products

    def _product(self, node: Node, op: Contraction) -> Text:
        left, right = (self.whole(operand) for operand in node.operands)
        found = _as_matrices(op, left, right)
        if found is not None:
            return found
        letters = iter("abcdefghijklmnopqrstuvwxyz")
        names: dict[int, str] = {}
        for label in (*op.lhs, *op.rhs):
            if label not in names:
                names[label] = next(letters)
        terms = [" ".join(names[label] for label in labels) for labels in (op.lhs, op.rhs, op.out)]
        return Text(f'einsum("{terms[0]}, {terms[1]} -> {terms[2]}", {left.text}, {right.text})')


def _as_matrices(op: Contraction, left: Text, right: Text) -> Text | None:
    """The product written with `@`, where it is one of matrices or of equally stacked ones."""
    if len(op.lhs) < 2 or len(op.rhs) < 2:
        return None
    for turned_left in (False, True):
        for turned_right in (False, True):
            lhs = (*op.lhs[:-2], *reversed(op.lhs[-2:])) if turned_left else op.lhs
            rhs = (*op.rhs[:-2], *reversed(op.rhs[-2:])) if turned_right else op.rhs
            stacks = lhs[:-2], rhs[:-2]
            stack = stacks[0] or stacks[1]
            fits = lhs[-1] == rhs[-2] and op.out == (*stack, lhs[-2], rhs[-1]) and lhs[-1] not in op.out
            if fits and stacks[1] in ((), stack) and stacks[0] in ((), stack):
                first = f"{left.within(ATOM)}.T" if turned_left else left.within(_PRODUCT)
                second = f"{right.within(ATOM)}.T" if turned_right else right.within(_PRODUCT + 1)
                return Text(f"{first} @ {second}", _PRODUCT)
    return None


def _reduction(node: Node, operand: Text) -> Text:
    rank = node.operands[0].type.rank
    match node.op:
        case Sum(axes) | Max(axes) | Min(axes):
            options = "" if len(axes) == rank else f", axis = {_list(axes)}"
            return Text(f"{node.op.name}({operand.text}{options})")
        case ArgMax(axis):
            return Text(f"argmax({operand.text}, axis = {axis})")
        case CumulativeSum(axis, is_reversed):
            return Text(f"cumsum({operand.text}, axis = {axis}{', reverse = true' if is_reversed else ''})")
        case _:
            raise _no_words(node)


def moments(node: Node, operand: Text, reads_mean: bool) -> Text:
    """The mean and the variance that a node gives, or the variance alone."""
    assert isinstance(node.op, Moments)
    options = "" if len(node.op.axes) == node.operands[0].type.rank else f", axis = {_list(node.op.axes)}"
    return Text(f"{'moments' if reads_mean else 'variance'}({operand.text}{options})")


def _moved(node: Node, operands: Sequence[Text]) -> Text:
    shape = node.operands[0].type.shape
    first = operands[0].text
    match node.op:
        case Reshape(new):
            return Text(f"reshape({first}, {_dimensions(new)})")
        case Transpose(order):
            is_turned = order == (*range(len(order) - 2), len(order) - 1, len(order) - 2)
            return Text(f"{operands[0].within(ATOM)}.T" if is_turned else f"transpose({first}, {_items(order)})")
        case Slice():
            return Text(f"{operands[0].within(ATOM)}[{_cuts(node.op, shape)}]")
        case Pad():
            return _padded(operands[0], node.op)
        case Concat(axis):
            return Text(f"concat({', '.join(operand.text for operand in operands)}, axis = {axis})")
        case Reverse(axes):
            return Text(f"reverse({first}, {_items(axes)})")
        case Window(axes, sizes, strides, dilations):
            return Text(f"windows({first}, {_list(sizes)}{_steps(strides, dilations)}, axis = {_list(axes)})")
        case Fold(axes, _, strides, dilations, extents):
            options = f"{_steps(strides, dilations)}, extent = {_list(extents)}, axis = {_list(axes)}"
            return Text(f"overlap_add({first}{options})")
        case Gather(axis, by_row):
            picked = ", ".join((*[":"] * axis, operands[1].text))
            text = f"gather({first}, {operands[1].text}, axis = {axis})"
            return Text(text if by_row else f"{operands[0].within(ATOM)}[{picked}]")
        case ScatterAdd(axis, extent, by_row):
            options = f"{extent}, axis = {axis}{', by_row = true' if by_row else ''}"
            return Text(f"scatter_add({operands[1].text}, {first}, {options})")
        case _:
            raise _no_words(node)


def _no_words(node: Node) -> UsageError:
    line = f" of line {node.origins[0].user_span.line}" if node.origins else ""
    return UsageError(f"the gradient{line} has no text: the language has no words for the operation {node.op.name}")


def _placed(text: Text, shape: Shape, op: Broadcast) -> tuple[Text, Shape]:
    """A tensor with axes of 1 where it is to be repeated, so that it meets the others from the right; of pairs of rows,
    axes of 1 say everywhere which row is meant."""
    rank = len(op.shape)
    kept = op.axes
    first = 0 if is_of_pairs(op.shape) and kept else rank - len(kept)
    if kept == tuple(range(first, rank)):
        return text, shape
    axes = range(first and kept[0], rank)
    items = [":" if axis in kept else "None" for axis in axes]
    extents = dict(zip(kept, shape, strict=True))
    found = tuple(extents.get(axis, 1) for axis in axes)
    if text.text.startswith("arange(") or "[" not in text.text:
        return Text(f"{text.within(ATOM)}[{', '.join(items)}]"), found
    return Text(f"({text.text})[{', '.join(items)}]"), found


def _joint(shapes: Sequence[Shape]) -> Shape:
    """The shape in which operands meet."""
    columns = zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1)
    found: list[Extent] = [next((extent for extent in column if extent != 1), 1) for column in columns]
    return tuple(reversed(found))


def _padded(operand: Text, op: Pad) -> Text:
    text = operand.text
    for axis, (low, high) in enumerate(zip(op.low, op.high, strict=True)):
        if low or high:
            value = "" if repr(op.value) == "0.0" else f", value = {_literal(op.value).text}"
            text = f"pad({text}, {low}, {high}, axis = {axis}{value})"
    return Text(text)


def _cuts(op: Slice, shape: Shape) -> str:
    items: list[str] = []
    for start, size, step, extent in zip(op.starts, op.sizes, op.steps, shape, strict=True):
        if start == 0 and size == extent and step == 1:
            items.append(":")
            continue
        assert isinstance(size, int)
        stop = start + (size - 1) * step + 1 if size else start
        items.append(f"{start or ''}:{stop}" + (f":{step}" if step != 1 else ""))
    while len(items) > 1 and items[-1] == ":":
        items.pop()
    return ", ".join(items)


def _steps(strides: Sequence[int], dilations: Sequence[int]) -> str:
    found = [("stride", strides), ("dilation", dilations)]
    return "".join(f", {name} = {_list(numbers)}" for name, numbers in found if set(numbers) != {1})


def _items(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _list(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"[{_items(numbers)}]"


def _extent(extent: Extent) -> str:
    return str(extent).replace("*", " * ")


def _dimensions(shape: Shape) -> str:
    return ", ".join(map(_extent, shape))


def type_text(type_: TensorType) -> str:
    """The type of a parameter of a function."""
    return f"{type_.dtype.value}[{_dimensions(type_.shape)}]"


def _literal(number: float | int | bool) -> Text:
    if isinstance(number, bool):
        return Text("true" if number else "false", ATOM, True)
    if number != number:
        return Text("(inf - inf)", ATOM, True)
    text = repr(number)
    return Text(text, _SIGN if text.startswith("-") else ATOM, True)


def _typed(text: str, dtype: DType, own: DType = DType.F32) -> Text:
    return Text(text if dtype is own else f"cast({text}, {dtype.value})")
