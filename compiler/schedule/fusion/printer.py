"""A fused graph as text; `reader` reads the text back.

A member stands on two lines: its place in the order of the graph with its node, then its space and its links. In an
index map, `e` is the linear index of the member's own elements: `%3[e//10, e mod 10]` is read along the axes of %3, and
`%3 at e*2` at an address of its memory. `where {e//8 + -1 < 4}` says within which bounds it is not 0. Aliases, copies,
and which groups come before which, stand behind the outputs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from compiler.graph.ir import Value
from compiler.graph.printer import Json, print_input, print_node, print_origin, print_output
from compiler.schedule.addresses import IndexMap
from compiler.schedule.fusion.ir import FusedGraph, Group, Link, Member
from compiler.schedule.split import ColumnSplit, RowSplit, Split


def print_fused(fused: FusedGraph, origins: bool = False) -> str:
    """The whole fused graph as text; with `origins`, each node ends with a comment that says where it comes from."""
    order = " ordered" if fused.is_ordered else ""
    lines = [f"fused {json.dumps(fused.name)} batch {fused.batch}{order}"]
    lines += map(print_input, fused.inputs)
    lines += [f"  {place}: {print_node(node)}" for place, node in fused.unplaced]
    for group in fused.groups:
        split = "" if group.split is None else f" by {print_split(group.split)}"
        lines.append(f"  group {group.number} {group.kind.value} {group.domain}{split}")
        for member in group.members:
            lines += _member(member, origins)
    lines += map(print_output, fused.outputs)
    lines += [f"  {_name(alias.value)} lies in {_name(alias.target)}" for alias in fused.aliases]
    lines += [f"  copy {_name(copy.value)} to {_name(copy.target)}" for copy in fused.copies]
    lines += [f"  {first} before {second}" for first, second in fused.before]
    return "\n".join([*lines, "end"]) + "\n"


def print_map(index_map: IndexMap) -> str:
    """`e//10 mod 5*3 + 2`."""
    terms: list[str] = []
    for term in index_map.terms:
        divisor = f"//{term.divisor}" if term.divisor != 1 else ""
        modulus = f" mod {term.modulus}" if term.modulus is not None else ""
        stride = f"*{term.stride}" if term.stride != 1 else ""
        terms.append(f"e{divisor}{modulus}{stride}")
    if index_map.offset or not terms:
        terms.append(str(index_map.offset))
    return " + ".join(terms)


def print_split(split: Split) -> str:
    """`rows batch x 10`, or `columns 2 x batch x 10` for two blocks of rows."""
    match split:
        case RowSplit(rows=rows, columns=columns):
            return f"rows {rows} x {columns}"
        case ColumnSplit(outer=outer, rows=rows, columns=columns):
            return f"columns {outer} x {rows} x {columns}"


def fused_to_json(fused: FusedGraph) -> Json:
    """The content of the text as data."""
    groups: list[Json] = [_group_to_json(group) for group in fused.groups]
    aliases: list[Json] = [[alias.value.index, alias.target.index] for alias in fused.aliases]
    copies: list[Json] = [[copy.value.index, copy.target.index] for copy in fused.copies]
    return {"name": fused.name, "batch": fused.batch, "groups": groups, "aliases": aliases, "copies": copies}


def _group_to_json(group: Group) -> Json:
    members: list[Json] = [
        {
            "node": print_node(member.node),
            "space": member.space.value,
            "reads": [_link(link) for link in member.links],
            "body": None if member.body is None else fused_to_json(member.body),
            "origins": [print_origin(origin) for origin in member.node.origins],
        }
        for member in group.members
    ]
    split = None if group.split is None else print_split(group.split)
    return {
        "number": group.number,
        "kind": group.kind.value,
        "domain": str(group.domain),
        "split": split,
        "members": members,
    }


def _member(member: Member, origins: bool) -> list[str]:
    first, *rest = print_node(member.node, origins).splitlines()
    lines = [f"    {member.place}: {first}", *(f"    {line}" for line in rest)]
    reads = ", ".join(map(_link, member.links))
    gates = f" after {_names(member.gates)}" if member.gates else ""
    lines.append(f"        {member.space.value} {reads}{gates}".rstrip())
    if member.body is not None:
        lines += ["        body", *(f"        {line}" for line in print_fused(member.body, origins).splitlines())]
    return lines


def _link(link: Link) -> str:
    where = f"[{', '.join(map(print_map, link.axes))}]" if link.axes else ""
    if not link.axes and link.source.type.shape:
        where = f" at {print_map(link.address)}"
    edges = "; ".join(f"{print_map(IndexMap(edge.offset, edge.terms))} < {edge.extent}" for edge in link.edges)
    return _name(link.source) + where + (f" where {{{edges}}}" if edges else "")


def _names(values: Sequence[Value]) -> str:
    return ", ".join(map(_name, values))


def _name(value: Value) -> str:
    return f"%{value.index}"
