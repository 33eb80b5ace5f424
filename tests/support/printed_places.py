"""The bytes that a call of a kernel must move, counted in its printed text: each place that its loops reach, once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

_SIZES = {"f64": 8, "i64": 8, "f32": 4, "i32": 4, "u8": 1, "bool": 1}
_NAME = re.compile(r"[a-z]\w*")
_ACCESS = re.compile(r"\b(b\d+)\[([^\[\]]*)\]")


class Unpredictable(Exception):
    """Data decide which places are touched."""


def bytes_of(text: str, batch: int) -> int:
    """What a call of the kernel with this text reads and writes of `batch` rows. Raises Unpredictable."""
    return _Reader(batch).all_of(text)


@dataclass
class _Reader:
    batch: int
    types: dict[str, str] = field(default_factory=dict[str, str])
    around: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])  # indent, name, what it is
    touched: dict[tuple[str, bool], list[np.ndarray]] = field(default_factory=dict[tuple[str, bool], list[np.ndarray]])

    def all_of(self, text: str) -> int:
        for line in text.splitlines():
            self._read(line.split("  #")[0].rstrip())
        return sum(
            np.unique(np.concatenate(places)).size * _SIZES[self.types[buffer]]
            for (buffer, _), places in self.touched.items()
        )

    def _read(self, line: str) -> None:
        said = line.strip()
        indent = len(line) - len(said)
        self.around = [one for one in self.around if one[0] < indent]
        if declared := re.fullmatch(r"(b\d+): (\w+)", said):
            self.types[declared[1]] = declared[2]
        elif said.startswith("for "):
            for loop in re.split(r", (?=\w+ in )", said[4:-1]):
                name, _, extent = loop.partition(" in ")
                self.around.append((indent, name, extent))
        elif said.startswith("if "):
            self.around.append((indent, "", said[3:-1]))
        elif defined := re.fullmatch(r"(row) = (.*)", said):
            self.around.append((indent - 1, defined[1], defined[2]))
        elif not said.startswith("kernel "):
            for access in _ACCESS.finditer(said):
                is_written = access.start() == 0
                self.touched.setdefault((access[1], is_written), []).append(self._places(access[2]))

    def _places(self, index: str) -> np.ndarray:
        if re.search(r"\bv\d", index):
            raise Unpredictable(index)
        known: dict[str, np.ndarray] = {"batch": np.array([self.batch])}
        for _, name, said in self._needed(index):
            if not name:
                kept = _value(said, known)
                known = {key: np.broadcast_to(value, kept.shape)[kept] for key, value in known.items()}
            elif ".." not in said:
                known[name] = _value(said, known)
            else:
                known = _each(name, said, known)
        found = np.broadcast_to(_value(index, known), known["batch"].shape)
        is_touched = np.zeros(found.max(initial=-1) + 1, bool)
        is_touched[found] = True
        return np.flatnonzero(is_touched)

    def _needed(self, index: str) -> list[tuple[int, str, str]]:
        """The loops, rows and conditions around that decide an index, outermost first."""
        names, found = {*_NAME.findall(index)}, list[tuple[int, str, str]]()
        for one in reversed(self.around):
            if one[1] in names or (not one[1] and names & {*_NAME.findall(one[2])}):
                names.update(_NAME.findall(one[2]))
                found.insert(0, one)
        return found


def _each(name: str, extent: str, known: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is known in each round of a loop, whose extent may depend on that."""
    first, _, end = extent.partition("..")
    # a share of the batch ends where the next begins
    end = end or re.sub(r"\bsplit\b", "(split + 1)", first)
    size = known["batch"].shape
    begins, ends = (np.broadcast_to(_value(text, known), size) for text in (first, end))
    rounds = np.maximum(ends - begins, 0)
    of = np.repeat(np.arange(size[0]), rounds)
    places = np.arange(len(of)) - np.repeat(np.cumsum(rounds) - rounds, rounds)
    return {key: np.broadcast_to(value, size)[of] for key, value in known.items()} | {name: begins[of] + places}


def _value(text: str, known: dict[str, np.ndarray]) -> np.ndarray:
    """An expression of whole numbers; a quotient in `ceil` is rounded up, others down."""
    text = re.sub(r"\bceil\(([^()]*)/([^()]*)\)", r"(-(-(\1) // (\2)))", text)
    text = re.sub(r"(?<!/)/(?!/)", "//", text)
    return np.asarray(eval(text, {"__builtins__": {}, "min": np.minimum, "max": np.maximum}, known))
