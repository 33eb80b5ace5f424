"""The fused graph: groups of nodes, each of which becomes one kernel, their reads of each other, and storage."""

from __future__ import annotations

from enum import Enum

from compiler.graph.ir import GraphInput, GraphOutput, Node, Value
from compiler.loops.ir import Edge, Space
from compiler.machine import GENERIC, Machine
from compiler.ops.contraction import Contraction
from compiler.ops.indexing import ScatterAdd
from compiler.ops.movement import Broadcast, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import CumulativeSum, Max, Min, Sum
from compiler.ops.sources import BatchSize, Constant, Iota
from compiler.ops.window import Window
from compiler.schedule.addresses import IndexMap
from compiler.schedule.numerics.internal_ops import (
    CHAINED,
    After,
    Insert,
    OrderedContraction,
    ProductSum,
    RoundedContraction,
    SplitContraction,
)
from compiler.schedule.split import Split
from compiler.support.record import record
from compiler.types import Extent, Shape

VIEWS = (Transpose, Broadcast, Slice, Reshape, Reverse, Window, After)
REDUCTIONS = (Sum, ProductSum, Max, Min)
CONTRACTIONS = (Contraction, SplitContraction, OrderedContraction, RoundedContraction, *CHAINED)
INLINE = (Constant, Iota, BatchSize)  # computed by each kernel that reads them


class GroupKind(Enum):
    """The kind of computation of a group."""

    ELEMENTS = "elements"  # elementwise nodes and reductions
    PRODUCT = "product"  # a contraction, and elementwise nodes of its elements
    ALONE = "alone"  # a node that fuses with nothing


@record
class Link:
    """One operand of a node: a value in memory or of the same group, and its address for the node's own index.

    `axes` has the index along each axis of the source; it is () where only the address is known. Outside of one of the
    `edges` the operand is 0.
    """

    source: Value
    address: IndexMap
    axes: tuple[IndexMap, ...]
    edges: tuple[Edge, ...] = ()  # terms of the index, as in `address`


@record
class Member:
    """A node of a group: its place in the order of the graph, the space of its index, and its reads.

    It comes after the `gates`. A scan has its `body`.
    """

    node: Node
    place: int
    space: Space
    links: tuple[Link, ...]
    gates: tuple[Value, ...] = ()
    body: FusedGraph | None = None

    @property
    def key(self) -> int:
        """Members are told apart by the first result of their nodes."""
        return self.node.results[0].index

    @property
    def sources(self) -> list[Value]:
        """The values that it reads or, as an insertion, writes into."""
        found = [link.source for link in self.links]
        return [*found, self.node.operands[0]] if type(self.node.op) is Insert else found

    @property
    def needs(self) -> list[Value]:
        """The values that must be complete before it, if another group computes them."""
        return [*self.sources, *self.gates]


@record
class Group:
    """Members in order, which become one kernel over the elements of `domain`.

    The `split` into rows and columns is that of its reductions; without any, it is chosen when the kernel is made.
    """

    number: int
    kind: GroupKind
    domain: Extent
    split: Split | None
    members: tuple[Member, ...]


@record
class Alias:
    """A value that lies where another one lies."""

    value: Value
    target: Value


@record
class FusedGraph:
    """Groups that compute the outputs from the inputs at the nominal `batch`, as the `machine` prefers.

    `unplaced` are the nodes that no group computes, each with its place in the order of the graph: views, through which
    links read; constants, positions and others that each reader computes; and tensors that insertions fill. `before`
    has the numbers of groups of which the first must come before the second, though neither reads the other. `copies`
    are made at the end: of a value to the memory of the input that it updates. With `is_ordered`, groups stand in the
    order in which they run.
    """

    name: str
    batch: int
    inputs: tuple[GraphInput, ...]
    unplaced: tuple[tuple[int, Node], ...]
    groups: tuple[Group, ...]
    outputs: tuple[GraphOutput, ...]
    aliases: tuple[Alias, ...] = ()
    copies: tuple[Alias, ...] = ()
    before: tuple[tuple[int, int], ...] = ()
    is_ordered: bool = False
    machine: Machine = GENERIC


def domain_shape(node: Node) -> Shape:
    """The shape that a node goes over: of a reduction's operand, of an inserted part, of the result otherwise."""
    if isinstance(node.op, (Sum, ProductSum, Max, Min, CumulativeSum)):
        return node.operands[0].type.shape
    return (node.operands[1] if isinstance(node.op, (Insert, ScatterAdd)) else node.results[0]).type.shape
