"""Brings contractions into a normal form: ops that move axes become labels, and the left operand gives the rows."""

from __future__ import annotations

from collections import Counter

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Value
from compiler.graph_passes.rewrite import Rewriting
from compiler.ops.contraction import Contraction, Labels
from compiler.ops.elementwise import Multiply
from compiler.ops.movement import Broadcast, Reshape, Transpose
from compiler.ops.reduction import Sum
from compiler.support.record import record
from compiler.types import Shape


def canonicalise_contractions(graph: Graph) -> Graph:
    """Folds transposes, broadcasts and unit axes of operands, and transposes and sums of results, into the labels.

    A contraction that sums nothing becomes a product of broadcasts. Operands are swapped so that the result's first
    axis that is not in both is the left one's; labels count from 0 in order of appearance.
    """
    rewriting = Rewriting(graph)
    uses = Counter(operand.index for node in graph.nodes for operand in node.operands)
    uses.update(output.value.index for output in graph.outputs)

    def canonical(node: Node) -> Value | None:
        value, result = None, node.results[0]
        if isinstance(node.op, Contraction):
            value = _canonical(rewriting.builder, _Product.of(node.op, node.operands), result.type.shape)
        elif isinstance(node.op, (Transpose, Sum)):
            value = _absorbed(rewriting.builder, node, uses)
        if value is None or value.type != result.type:
            return None
        uses[value.index] += uses[result.index]
        return value

    return rewriting.each(canonical)


@record
class _Product:
    """A contraction under change."""

    left: Value
    lhs: Labels
    right: Value
    rhs: Labels
    out: Labels

    @staticmethod
    def of(op: Contraction, operands: tuple[Value, ...]) -> _Product:
        return _Product(operands[0], op.lhs, operands[1], op.rhs, op.out)

    def swapped(self) -> _Product:
        return _Product(self.right, self.rhs, self.left, self.lhs, self.out)


def _canonical(builder: GraphBuilder, product: _Product, shape: Shape) -> Value | None:
    before = product
    for _ in range(2):  # each side in turn stands on the left
        product = _with_plain_left(builder, product).swapped()
    product = _without_units(builder, product)
    if not (set(product.lhs) & set(product.rhs)) - set(product.out):
        return _product_of_broadcasts(builder, product, shape)
    product = _numbered(_ordered(product))
    if product == before:
        return None
    result = builder.emit(Contraction(product.lhs, product.rhs, product.out), product.left, product.right)
    return result if result.type.shape == shape else builder.emit(Reshape(shape), result)


def _with_plain_left(builder: GraphBuilder, product: _Product) -> _Product:
    """Look through the producers of the left operand, as long as labels can express them."""
    while True:
        node = builder.definition(product.left)
        if node is None:
            return product
        match node.op:
            case Transpose(permutation=permutation):
                labels = dict(zip(permutation, product.lhs, strict=True))
                lhs = tuple(labels[axis] for axis in range(len(labels)))
            case Broadcast(axes=axes) if _may_drop(
                product, {x for k, x in enumerate(product.lhs) if k not in axes}, node
            ):
                lhs = tuple(product.lhs[axis] for axis in axes)
            case _:
                return product
        product = _Product(node.operands[0], lhs, product.right, product.rhs, product.out)


def _may_drop(product: _Product, labels: set[int], node: Node) -> bool:
    """Whether the repeated axes stand in the other operand and the result, so that the labels there suffice."""
    assert isinstance(node.op, Broadcast)
    kept = tuple(node.op.shape[axis] for axis in node.op.axes)
    return node.operands[0].type.shape == kept and labels <= set(product.rhs) & set(product.out)


def _without_units(builder: GraphBuilder, product: _Product) -> _Product:
    """Without the labels of extent 1."""
    extents = dict(
        zip((*product.lhs, *product.rhs), (*product.left.type.shape, *product.right.type.shape), strict=True)
    )
    units = {label for label, extent in extents.items() if extent == 1}
    if not units:
        return product

    def wide(labels: Labels) -> Labels:
        return tuple(label for label in labels if label not in units)

    def dropped(value: Value) -> Value:
        shape = tuple(extent for extent in value.type.shape if extent != 1)
        return value if shape == value.type.shape else builder.emit(Reshape(shape), value)

    left, right = dropped(product.left), dropped(product.right)
    return _Product(left, wide(product.lhs), right, wide(product.rhs), wide(product.out))


def _product_of_broadcasts(builder: GraphBuilder, product: _Product, shape: Shape) -> Value:
    """Nothing is summed: multiply elementwise."""
    extents = dict(
        zip((*product.lhs, *product.rhs), (*product.left.type.shape, *product.right.type.shape), strict=True)
    )
    wide = tuple(extents[label] for label in product.out)

    def spread(value: Value, labels: Labels) -> Value:
        places = [product.out.index(label) for label in labels]
        order = tuple(sorted(range(len(places)), key=places.__getitem__))
        arranged = value if order == tuple(range(len(order))) else builder.emit(Transpose(order), value)
        axes = tuple(sorted(places))
        return arranged if len(axes) == len(wide) else builder.emit(Broadcast(wide, axes), arranged)

    result = builder.emit(Multiply(), spread(product.left, product.lhs), spread(product.right, product.rhs))
    return result if result.type.shape == shape else builder.emit(Reshape(shape), result)


def _ordered(product: _Product) -> _Product:
    """The first label of the result that one operand lacks belongs to the left one."""
    for label in product.out:
        if (label in product.lhs) != (label in product.rhs):
            return product if label in product.lhs else product.swapped()
    return product


def _numbered(product: _Product) -> _Product:
    numbers: dict[int, int] = {}
    for label in (*product.lhs, *product.rhs):
        numbers.setdefault(label, len(numbers))

    def renamed(labels: Labels) -> Labels:
        return tuple(numbers[label] for label in labels)

    return _Product(product.left, renamed(product.lhs), product.right, renamed(product.rhs), renamed(product.out))


def _absorbed(builder: GraphBuilder, node: Node, uses: Counter[int]) -> Value | None:
    """transpose(contraction), sum(contraction) -> contraction, where the contraction has no other use."""
    inner = builder.definition(node.operands[0])
    if inner is None or not isinstance(inner.op, Contraction) or uses[node.operands[0].index] > 1:
        return None
    product = _Product.of(inner.op, inner.operands)
    match node.op:
        case Transpose(permutation=permutation):
            out = tuple(product.out[axis] for axis in permutation)
        case Sum(axes=axes):
            summed = [product.out[axis] for axis in axes]
            product = _with_summed_operands(builder, product, set(summed))
            out = tuple(label for label in product.out if label not in summed)
        case _:
            return None
    shape = node.results[0].type.shape
    changed = _Product(product.left, product.lhs, product.right, product.rhs, out)
    canonical = _canonical(builder, changed, shape)
    if canonical is not None:
        return canonical
    return builder.emit(Contraction(changed.lhs, changed.rhs, changed.out), changed.left, changed.right)


def _with_summed_operands(builder: GraphBuilder, product: _Product, summed: set[int]) -> _Product:
    """Labels to be summed that only one operand has are summed there, before the product."""
    for _ in range(2):
        axes = tuple(i for i, label in enumerate(product.lhs) if label in summed and label not in product.rhs)
        if axes:
            left = builder.emit(Sum(axes), product.left)
            lhs = tuple(label for i, label in enumerate(product.lhs) if i not in axes)
            product = _Product(left, lhs, product.right, product.rhs, product.out)
        product = product.swapped()
    return product
