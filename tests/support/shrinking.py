"""Shrinks a text while a property of it holds: programs of the language, and graphs as text.

A candidate is the text with something less: lines, a stage of a pipeline, an argument, an operand; or with a smaller
number. The first that still has the property takes the text's place, until none has it. The larger pieces
come first, as in delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002).
Most candidates mean nothing; who judges them says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TypeAlias

Holds: TypeAlias = Callable[[str], bool]
Candidates: TypeAlias = Callable[[str], Iterator[str]]

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_OPERATOR = r" (?:\+|-|\*|/|@|\^|%) "
_COUNT = re.compile(r"(?<![\w.%\"$])\d+(?![\w.\"*])")
_VALUE = re.compile(r"%\d+")
_DEFINITION = re.compile(r"^(\s*)(%\d+: \w+\[[^]]*\](?:, %\d+: \w+\[[^]]*\])*) = \w+\(([^)]*)\)")


def shrunk_program(text: str, holds: Holds) -> str:
    """The text of a program with the property `holds`, as short as it was found."""
    kinds = (_without_lines, _without_aliases, _without_brackets, _without_pieces, _in_place, _smaller_numbers)
    return _shrunk(text, holds, kinds)


def shrunk_graph(text: str, holds: Holds) -> str:
    """The text of a graph with the property `holds`, as short as it was found. It has no comments."""
    text = "\n".join(line.split("  # ")[0].rstrip() for line in text.split("\n"))
    return _shrunk(text, holds, (_without_outputs, _cut_nodes, _bypassed_nodes, _tidy, _smaller_numbers))


def _shrunk(text: str, holds: Holds, kinds: tuple[Candidates, ...]) -> str:
    """Each kind of candidates again and again, until none of any kind has the property."""
    tried = {text}
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for candidates in kinds:
            while (found := _first(candidates(text), holds, tried)) is not None:
                text, is_smaller = found, True
    return text


def _first(candidates: Iterator[str], holds: Holds, tried: set[str]) -> str | None:
    for candidate in candidates:
        if candidate not in tried:
            tried.add(candidate)
            if holds(candidate):
                return candidate
    return None


# Programs


def _without_lines(text: str) -> Iterator[str]:
    """Without a stretch of lines whose brackets close within it: halves, quarters, …, whole blocks, lines."""
    lines = text.split("\n")
    size = len(lines) // 2
    while size >= 1:
        for first in range(0, len(lines), size):
            last = _end_of_block(lines, min(first + size, len(lines)), first)
            if last is not None:
                yield "\n".join(lines[:first] + lines[last:])
        size //= 2


def _end_of_block(lines: list[str], last: int, first: int) -> int | None:
    """The line from which on no bracket is open that was opened from line `first` on; None where one closes more."""
    depth = 0
    for number, line in enumerate(lines[first:], first):
        if number >= last and depth == 0:
            return number
        for mark in line:
            depth += (mark in "([{") - (mark in ")]}")
            if depth < 0:
                return None
    return len(lines) if depth == 0 else None


def _without_aliases(text: str) -> Iterator[str]:
    """Without a line that names a name, a number or what is read once, or with a number in place of a setting."""
    for match in re.finditer(r"^\s*(\w+) = (.+)\n", text, re.MULTILINE):
        before, rest, name = text[: match.start()], text[match.end() :], re.compile(rf"\b{match[1]}\b")
        if re.fullmatch(r"[\w.]+", match[2]):
            yield name.sub(match[2], before + rest)
        for value in (match[2], f"({match[2]})"):
            yield before + name.sub(lambda _, value=value: value, rest, count=1)
    for match in re.finditer(r"(?<=\()(\w+) = (\d+)\)", text):
        yield re.sub(rf"\b{match[1]}\b", match[2], text[: match.start() - 1] + text[match.end() :])


def _brackets(text: str) -> list[tuple[int, int]]:
    """The places of each pair of brackets, outermost first."""
    pairs: list[tuple[int, int]] = []
    opened: list[int] = []
    for place, mark in enumerate(text):
        if mark in _CLOSING:
            opened.append(place)
        elif mark in _CLOSING.values() and opened and _CLOSING[text[opened[-1]]] == mark:
            pairs.append((opened.pop(), place))
    return sorted(pairs, key=lambda pair: pair[0] - pair[1])


def _without_brackets(text: str) -> Iterator[str]:
    """Without a pair of brackets and its content, with its content alone, or without the function in front of it."""
    for first, last in _brackets(text):
        if "\n" in text[first:last]:
            continue
        inside = text[first + 1 : last]
        name = len(text[:first]) - len(re.search(r"[\w.]*$", text[:first])[0])  # type: ignore[index]
        yield text[:name] + inside + text[last + 1 :]
        yield text[:name] + text[last + 1 :]
        yield text[:first] + text[last + 1 :]
        for part in _split(inside, ", "):
            yield text[:name] + part + text[last + 1 :]


def _without_pieces(text: str) -> Iterator[str]:
    """Without an item of a list, a stage of a pipeline or an operand."""
    for first, last in _brackets(text):
        parts = _split(text[first + 1 : last], ", ")
        for number in range(len(parts) if len(parts) > 1 else 0):
            rest = ", ".join(parts[:number] + parts[number + 1 :])
            yield text[: first + 1] + rest + text[last:]
    for begin, end in _statements(text):
        statement = text[begin:end]
        for separator in (r" \|> ", _OPERATOR):
            cuts = [match for match in re.finditer(separator, statement) if _depth(statement[: match.start()]) == 0]
            edges = [0, *(match.start() for match in cuts), len(statement)]
            for low, high in pairwise(edges[1:]):
                yield text[: begin + low] + text[begin + high :]
            if cuts:
                yield text[:begin] + statement[cuts[0].end() :] + text[end:]


def _in_place(text: str) -> Iterator[str]:
    """With a name in place of what a statement computes."""
    for begin, end in _statements(text):
        for name in dict.fromkeys(re.findall(r"\b[a-z]\w*\b", text[begin:end])):
            if name != text[begin:end]:
                yield text[:begin] + name + text[end:]


def _statements(text: str) -> Iterator[tuple[int, int]]:
    """Where the right side of each assignment of one line stands, and where each argument does."""
    for match in re.finditer(r"^.* = (.+)$|^\s*return (.+)$", text, re.MULTILINE):
        yield match.span(1) if match[1] else match.span(2)
    for first, last in _brackets(text):
        if "\n" not in text[first:last]:
            yield first + 1, last


def _split(text: str, separator: str) -> list[str]:
    """The parts of a list, of which none ends within brackets."""
    parts = [""]
    for piece in text.split(separator):
        parts[-1] += piece
        if _depth(parts[-1]) == 0:
            parts.append("")
        else:
            parts[-1] += separator
    return parts[:-1] if parts[-1] == "" else parts


def _depth(text: str) -> int:
    return sum((mark in "([{") - (mark in ")]}") for mark in text)


def _smaller_numbers(text: str) -> Iterator[str]:
    """With a smaller number in each place of one, or in one place."""
    places = list(_COUNT.finditer(text))
    for number in sorted({int(match[0]) for match in places}, reverse=True):
        for smaller in sorted({1, 2, number // 2, number - 1} - {0}):
            if smaller < number:
                yield _COUNT.sub(lambda match, n=number, s=smaller: str(s) if int(match[0]) == n else match[0], text)
    for match in places:
        for smaller in sorted({1, 2, int(match[0]) // 2, int(match[0]) - 1}):
            if 0 < smaller < int(match[0]):
                yield text[: match.start()] + str(smaller) + text[match.end() :]


# Graphs


def _without_outputs(text: str) -> Iterator[str]:
    """Without half of the outputs, a quarter, …, one."""
    lines = text.split("\n")
    outputs = [number for number, line in enumerate(lines) if line.startswith("  output ")]
    size = len(outputs) // 2
    while size >= 1:
        for first in range(0, len(outputs), size):
            gone = set(outputs[first : first + size])
            if len(gone) < len(outputs):
                yield _live("\n".join(line for number, line in enumerate(lines) if number not in gone))
        size //= 2


def _cut_nodes(text: str) -> Iterator[str]:
    """With an input in place of a node, the last ones first: what only it reads goes with it."""
    for first, last, match in reversed(_nodes(text)):
        lines = text.split("\n")
        given = [f'  input "cut {part.split(":")[0][1:]}" data {part}' for part in _results(match[2])]
        yield _live("\n".join([lines[0], *given, *lines[1:first], *lines[last:]]))


def _bypassed_nodes(text: str) -> Iterator[str]:
    """With an operand in place of a node's only result; where types differ, the text is no graph."""
    for first, last, match in reversed(_nodes(text)):
        lines = text.split("\n")
        results = _results(match[2])
        for operand in match[3].split(", ") if match[3] and len(results) == 1 else ():
            name = results[0].split(":")[0]
            rest = "\n".join(lines[:first] + lines[last:])
            yield _live(re.sub(rf"{name}(?!\d)", operand, rest))


def _tidy(text: str) -> Iterator[str]:
    yield _live(text)


def _nodes(text: str) -> list[tuple[int, int, re.Match[str]]]:
    """The first line of each node, the one behind its last, and its definition; nodes of bodies belong to theirs."""
    lines = text.split("\n")
    found: list[tuple[int, int, re.Match[str]]] = []
    number = 1
    while number < len(lines):
        match = _DEFINITION.match(lines[number])
        last = _end_of_block(lines, number + 1, number) or number + 1
        if match is not None:
            found.append((number, last, match))
        number = last
    return found


def _results(text: str) -> list[str]:
    """`%1: f32[2, 3], %2: f32[]` as its parts."""
    return [match[0] for match in re.finditer(r"%\d+: \w+\[[^]]*\]", text)]


def _live(text: str) -> str:
    """Without the nodes and inputs that no output depends on."""
    lines = text.split("\n")
    read = {name for line in lines if line.startswith("  output ") for name in _VALUE.findall(line)}
    gone: set[int] = set()
    for first, last, match in reversed(_nodes(text)):
        if read & {part.split(":")[0] for part in _results(match[2])}:
            read.update(_VALUE.findall(match[3]))
        else:
            gone.update(range(first, last))
    for number, line in enumerate(lines):
        if line.startswith("  input ") and not read & set(_VALUE.findall(line)):
            gone.add(number)
    return "\n".join(line for number, line in enumerate(lines) if number not in gone)
