"""What random networks hold and what was checked of them: names by group, and how many networks have each."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import TypeAlias

from standard_library import declared

from compiler.frontend.builtins.functions import BUILTINS
from compiler.graph.ir import Graph
from compiler.ops import OPS
from compiler.ops.scan import Scan

Features: TypeAlias = Mapping[str, frozenset[str]]

_OF_TRAIN = ("optimizer", "schedule", "clip", "penalty")  # entries that name what the library has a kind of
_OF_MODEL = ("layer", "fn", "init")
_WIDTH, _GAP = 118, "\0"  # of a line; what stands for a space at which none ends
_DECLARED_HERE = re.compile(r"^(fn|optimizer|schedule|layer) (\w+)", re.MULTILINE)
_ELEMENT_TYPE = re.compile(r"^    (input|target) \w+: (\w+)\[", re.MULTILINE)
_ENTRY = re.compile(r"^    (\w+) (?:= |\{)")


def features_of(text: str, graphs: Iterable[Graph], variants: Collection[str]) -> Features:
    """The kind of a network that `random_network` wrote, the ops of its graphs, what it applies, and its entries."""
    declarations, body, train = re.split(r"^model M |^train M ", text, flags=re.MULTILINE)
    kind = declarations.split("\n")[0].removeprefix("# of_")
    known = _of_library() | {(key, name) for key, name in _DECLARED_HERE.findall(declarations)}
    found = {key: _named(known, key, body) for key in _OF_MODEL}
    for line in train.split("\n"):
        entry = _ENTRY.match(line)
        if entry and entry[1] in _OF_TRAIN:
            found[entry[1]] = _named(known, entry[1], line.partition("=")[2])
        elif entry:
            found["fn"] |= _named(known, "fn", line)
            found["other entries"] = found.get("other entries", frozenset()) | {entry[1]}
    types = frozenset(f"{role} {dtype}" for role, dtype in _ELEMENT_TYPE.findall(text))
    checked = frozenset(f"{kind}: {variant}" for variant in variants)
    return {
        "kind": frozenset((kind,)),
        **found,
        "element type": types,
        "op": frozenset[str]().union(*map(_ops, graphs)),
        "checked": checked,
    }


@cache
def _of_library() -> frozenset[tuple[str, str]]:
    return frozenset(declared()) | {("fn", name) for name in BUILTINS}


def _named(known: Collection[tuple[str, str]], kind: str, text: str) -> frozenset[str]:
    words = frozenset(re.findall(r"[a-z]\w*", text))
    return frozenset(name for of, name in known if of == kind and name in words)


def _ops(graph: Graph) -> frozenset[str]:
    found = frozenset(type(node.op).__name__ for node in graph.nodes)
    return found.union(*(_ops(node.op.body) for node in graph.nodes if isinstance(node.op, Scan)))


class Coverage:
    """How many networks have each feature."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}

    def add(self, features: Features) -> None:
        for group, names in features.items():
            self.counts.setdefault(group, Counter()).update(names)

    def lines(self) -> Iterator[str]:
        """A paragraph for each group, the most frequent first; then the ops never reached, and the checks by kind."""
        for group, counts in self.counts.items():
            if group != "checked":
                shown = (f"{name} {count}" for name, count in counts.most_common())
                yield from _paragraph(f"{group} ({len(counts)})", shown)
        yield from _paragraph("op, never", sorted({op.__name__ for op in OPS} - set(self.counts.get("op", ()))))
        yield from _table(self.counts.get("checked", Counter()))


def _paragraph(title: str, items: Iterable[str]) -> Iterator[str]:
    text = f"{title}: {', '.join(item.replace(' ', _GAP) for item in items) or 'none'}"
    for line in textwrap.wrap(text, _WIDTH, subsequent_indent="    ", break_on_hyphens=False):
        yield line.replace(_GAP, " ")


def _table(checked: Mapping[str, int]) -> Iterator[str]:
    """A row for each kind of network, a column for each check."""
    pairs = [pair.split(": ") for pair in checked]
    kinds, variants = (sorted(set(names)) for names in zip(*pairs, strict=True)) if pairs else ([], [])
    yield "".join([f"{'checked':16}", *(f"  {variant}" for variant in variants)])
    for kind in kinds:
        cells = (f"  {checked.get(f'{kind}: {variant}', 0):{len(variant)}}" for variant in variants)
        yield "".join([f"{kind:16}", *cells])
