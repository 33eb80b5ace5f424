"""Lists of ONNX nodes: which names they read, those on which outputs depend, and other names for their results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnx import AttributeProto, GraphProto, NodeProto


def bodies(node: NodeProto) -> list[GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == AttributeProto.GRAPH]


def read_by(nodes: Iterable[NodeProto]) -> set[str]:
    """The names that nodes read, in the bodies of scans too."""
    found: set[str] = set()
    for node in nodes:
        found.update(node.input)
        for body in bodies(node):
            found |= read_by(body.node)
    return found


def needed(nodes: list[NodeProto], outputs: Iterable[str]) -> list[NodeProto]:
    """The nodes on which outputs depend, in their order; the same of the bodies of scans, in place."""
    wanted, kept = {*outputs}, list[NodeProto]()
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            for body in bodies(node):
                inner = needed([*body.node], [output.name for output in body.output])
                del body.node[:]
                body.node.extend(inner)
            wanted |= read_by([node])
            kept.append(node)
    return kept[::-1]


def rename(nodes: Iterable[NodeProto], names: Mapping[str, str]) -> None:
    """Give values the names that they have in `names`, in place."""
    for node in nodes:
        for fields in (node.input, node.output):
            for place, name in enumerate(fields):
                if name in names:
                    fields[place] = names[name]
        for body in bodies(node):
            rename(body.node, names)


def by_dependence(nodes: Iterable[NodeProto], given: Iterable[str]) -> tuple[list[NodeProto], list[NodeProto]]:
    """The nodes that depend on none of the given names, and those that do."""
    reached, apart, dependent = {*given}, list[NodeProto](), list[NodeProto]()
    for node in nodes:
        if reached.isdisjoint(read_by([node])):
            apart.append(node)
        else:
            reached.update(node.output)
            dependent.append(node)
    return apart, dependent
