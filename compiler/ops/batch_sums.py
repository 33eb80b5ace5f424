"""A scalar split into sums over the rows of a batch and a function of these, so that batches can be joined.

`(S1 / N) * 2 + P`, say, with S1 a sum over rows and N their number: the sums of parts of a batch add up to those of the
whole, and what follows gives the value for the whole from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Role, Value, depending
from compiler.ops.autodiff import apply_chain_rule
from compiler.ops.build import filled
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Divide
from compiler.ops.sources import BatchSize
from compiler.ops.spreading import Sum
from compiler.support.record import record
from compiler.types import depends_on_batch, is_of_pairs


@record
class BatchSums:
    """`nodes` compute the wanted values from `sums`, which add up over rows, and from values without rows.

    `others` are results without rows that nodes make of rows in any other way, such as a maximum over the batch.
    """

    nodes: tuple[Node, ...]
    sums: tuple[Value, ...]
    others: tuple[Value, ...]


def taken_apart(graph: Graph, wanted: Sequence[Value]) -> BatchSums:
    """How `wanted`, which have no rows, follow from sums over rows."""
    needed = {value.index for value in wanted}
    kept: list[Node] = []
    sums: dict[int, Value] = {}
    others: dict[int, Value] = {}
    for node in reversed(graph.nodes):
        if not any(result.index in needed for result in node.results):
            continue
        if isinstance(node.op, BatchSize) or any(depends_on_batch(operand.type.shape) for operand in node.operands):
            found = sums if adds_up(node) else others
            found.update((result.index, result) for result in node.results if result.index in needed)
        else:
            kept.append(node)
            needed.update(operand.index for operand in node.operands)
    return BatchSums(tuple(reversed(kept)), tuple(reversed(sums.values())), tuple(reversed(others.values())))


def made_of_sums(graph: Graph, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the outputs that follow from sums over rows alone, and not from a maximum or a variance, say."""
    return tuple(name for name in names if not taken_apart(graph, (graph.output(name).value,)).others)


def adds_up(node: Node) -> bool:
    """Whether the result for a batch is the sum of those for its parts."""
    match node.op:
        case BatchSize():
            return True
        case Sum(axes=axes):
            shape = node.operands[0].type.shape  # pairs of a batch are more than those of its parts
            return not is_of_pairs(shape) and any(depends_on_batch((shape[axis],)) for axis in axes)
        case Contraction(lhs=lhs, rhs=rhs, out=out):
            labels = [
                {label for label, extent in zip(own, operand.type.shape, strict=True) if depends_on_batch((extent,))}
                for own, operand in zip((lhs, rhs), node.operands, strict=True)
            ]
            return labels[0] == labels[1] and len(labels[0]) == 1 and not labels[0] & set(out)
        case _:
            return False


def trained_sums(graph: Graph, parts: BatchSums) -> tuple[Value, ...]:
    """The sums that depend on parameters or states; the others count."""
    trained = (entry.value.index for entry in graph.inputs if entry.role in (Role.PARAMETER, Role.STATE))
    varying = depending(graph.nodes, trained)
    return tuple(value for value in parts.sums if value.index in varying)


def divisor_of(graph: Graph, scalar: Value) -> Value | None:
    """The divisor of a mean over some elements of a batch: how many there are.

    None where the scalar is divided by the number of rows, as the mean over all of them is, or is no such mean.
    """
    parts = taken_apart(graph, (scalar,))
    trained = trained_sums(graph, parts)
    counts = [value for value in parts.sums if value not in trained]
    if len(counts) != 1 or not trained or parts.others:
        return None
    rows = {result.index for node in graph.nodes if isinstance(node.op, BatchSize) for result in node.results}
    counting = depending(parts.nodes, (counts[0].index,))
    is_divisor = any(isinstance(node.op, Divide) and node.operands[1].index in counting for node in parts.nodes)
    return counts[0] if is_divisor and counts[0].index not in rows and not counts[0].type.shape else None


@record
class Ledger:
    """The sums over the batches of an update.

    `counts`, on which the loss depends and no parameter has an influence, must be known before gradients are taken;
    `sums` are the other ones of the loss and the metrics. `loss` and `every` say how what is wanted follows from them.
    """

    counts: tuple[Value, ...]
    sums: tuple[Value, ...]
    trained: tuple[Value, ...]
    loss: BatchSums
    every: BatchSums


def ledger_of(graph: Graph, metrics: Sequence[str]) -> Ledger:
    """Of a graph with the outputs `loss` and `metrics`."""
    loss = graph.output("loss").value
    of_loss = taken_apart(graph, (loss,))
    of_all = taken_apart(graph, (loss, *(graph.output(name).value for name in metrics)))
    trained = trained_sums(graph, of_loss)
    counts = tuple(value for value in of_loss.sums if value not in trained)
    return Ledger(counts, tuple(value for value in of_all.sums if value not in counts), trained, of_loss, of_all)


def slopes_of(
    builder: GraphBuilder, parts: BatchSums, scalar: Value, trained: Sequence[Value]
) -> Mapping[int, Value] | None:
    """The derivative of `scalar` by each trained sum, by index; None where one depends on a trained sum itself.

    They are appended to `builder`, which holds the nodes of the graph. Where there are such derivatives, the scalar is
    a sum of products of them with the trained sums, and of what depends on neither.
    """
    before = len(builder.nodes)
    floats = [value for value in trained if value.type.dtype.is_float]
    found = apply_chain_rule(builder, parts.nodes, {scalar.index: filled(builder, 1, scalar.type)}, floats)
    slopes = {value.index: slope for value, slope in zip(floats, found, strict=True) if slope is not None}
    varying = depending((*parts.nodes, *builder.nodes[before:]), (value.index for value in trained))
    return None if any(slope.index in varying for slope in slopes.values()) else slopes


def evaluated_again(builder: GraphBuilder, nodes: Sequence[Node], known: dict[int, Value]) -> dict[int, Value]:
    """Results of `nodes` with some values replaced: `known`, with each value that depends on a replaced one."""
    for node in nodes:
        if any(operand.index in known for operand in node.operands):
            with builder.at(node.origins):
                operands = [known.get(operand.index, operand) for operand in node.operands]
                results = builder.emit_all(node.op, *operands)
            known.update(zip((result.index for result in node.results), results, strict=True))
    return known
