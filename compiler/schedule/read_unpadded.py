"""After fusion: taps that slide over an image read it where it lies, and 0 outside, instead of a copy between zeros."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.graph.ir import Graph, Node
from compiler.graph.op import Category
from compiler.loops.ir import Edge, Space
from compiler.ops.movement import Broadcast
from compiler.ops.sources import Constant
from compiler.schedule.access import IDENTITY, Form, add, address
from compiler.schedule.choose_split import LANES_OF_ROWS
from compiler.schedule.copy import Copy
from compiler.schedule.fuse import INLINE, Fuser, Group, Link, node_key
from compiler.schedule.placement import Insert
from compiler.schedule.product_sum import ProductSum
from compiler.schedule.split import ColumnSplit

FEWEST_READS = 4  # of an image by a kernel, that then computes several pixels side by side


def read_unpadded(graph: Graph, groups: Sequence[Group], fuser: Fuser) -> list[Group]:
    """The groups that are left: copies between zeros go where all their readers can do without."""
    outputs = {output.value.index for output in graph.outputs}
    bases = {n.operands[0].index for g in groups for n in g.nodes if isinstance(n.op, Insert)}
    gone: set[int] = set()
    for group in groups:
        insert, fill = group.nodes[0], _fill_of(group, fuser)
        if fill is None or insert.results[0].index in outputs | bases:
            continue
        readers = fuser.readers.get(insert.results[0].index, [])
        links = {node_key(reader): _links_of(reader, insert, fuser) for reader in readers}
        if _reads_enough(insert, readers, fuser) and None not in links.values():
            fuser.node_links.update((key, found) for key, found in links.items() if found is not None)
            (part,) = fuser.sources(insert)[:1]
            fuser.readers[part.index] = [n for n in fuser.readers[part.index] if n is not insert] + readers
            gone |= {group.number, fill.number}
    return [group for group in groups if group.number not in gone]


def _fill_of(group: Group, fuser: Fuser) -> Group | None:
    """The group that fills what a value is copied into, if that is all that both do, and it fills with 0."""
    insert = group.nodes[0]
    if len(group.nodes) > 1 or not isinstance(insert.op, Insert) or insert.op.axis is not None:
        return None
    (link,) = fuser.node_links[node_key(insert)]
    part, base = insert.operands[1], insert.operands[0]
    fill, producers = fuser.home.get(base.index), fuser.links.producers
    source = producers.get(link.source.index)
    if link.form != IDENTITY or fill is None or (source is not None and isinstance(source.op, INLINE)):
        return None
    if len(fill.nodes) > 1 or not isinstance(fill.nodes[0].op, Copy) or not part.type.dtype.is_float:
        return None
    value = producers.get(fill.nodes[0].operands[0].index)
    number = None if value is None or not isinstance(value.op, Broadcast) else producers.get(value.operands[0].index)
    is_zero = number is not None and isinstance(number.op, Constant) and repr(float(number.op.value)) == "0.0"
    return fill if is_zero and part.type.shape[-1] == base.type.shape[-1] else None


def _reads_enough(insert: Node, readers: Sequence[Node], fuser: Fuser) -> bool:
    forms: dict[int, set[Form]] = {}
    for reader in readers:
        for link in fuser.node_links[node_key(reader)]:
            if link.source == insert.results[0]:
                forms.setdefault(fuser.home[node_key(reader)].number, set()).add(link.form)
    return bool(forms) and all(len(found) >= FEWEST_READS for found in forms.values())


def _links_of(reader: Node, insert: Node, fuser: Fuser) -> tuple[Link, ...] | None:
    """The links of a reader past the copy; None where some link has no such form."""
    group = fuser.home[node_key(reader)]
    is_plain = reader.op.category is Category.ELEMENTWISE or isinstance(reader.op, ProductSum)
    walks_rows = group.split is None or isinstance(group.split, ColumnSplit)
    if group.alone or group.is_tile or not (is_plain and walks_rows):
        return None
    if group.spaces[node_key(reader)] is not Space.FULL:
        return None
    columns = LANES_OF_ROWS if group.split is None else group.split.columns
    found: list[Link] = []
    for link in fuser.node_links[node_key(reader)]:
        moved = _moved(link, insert, fuser, columns) if link.source == insert.results[0] else link
        if moved is None:
            return None
        found.append(moved)
    return tuple(found)


def _moved(link: Link, insert: Node, fuser: Fuser, columns: object) -> Link | None:
    """A link to what was copied, with an edge for each axis along which it may lie outside."""
    assert isinstance(insert.op, Insert)
    shape, forms, edges = insert.operands[1].type.shape, list[Form](), list[Edge]()
    for extent, start, form in zip(shape, insert.op.starts, link.forms, strict=True):
        moved = add(Form(-start), form)
        forms.append(moved)
        if extent == insert.results[0].type.shape[len(forms) - 1]:
            continue
        if not isinstance(extent, int) or not isinstance(columns, int) or not form.terms:
            return None
        last: int | None = moved.offset
        for term in form.terms:
            if term.stride < 1 or term.divisor % columns or not isinstance(shape[-1], int) or term.divisor % shape[-1]:
                return None
            last = None if last is None or term.modulus is None else last + (term.modulus - 1) * term.stride
        if moved.offset < 0 or last is None or last >= extent:
            edges.append(Edge(moved.offset, form.terms, extent))
    (original,) = fuser.node_links[node_key(insert)]
    return Link(original.source, address(shape, tuple(forms)), tuple(forms), tuple(edges))
