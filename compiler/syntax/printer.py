"""The abstract syntax as indented text or as plain data, for people and tools to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from compiler.errors.diagnostics import Source, Span
from compiler.syntax.tree import Module


def print_ast(module: Module) -> str:
    """One node a line, with its place and its plain fields; its parts are indented below it."""
    lines = [f"Module {module.source.name}"]
    for declaration in module.declarations:
        lines += _node_lines(declaration, "    ", "")
    return "\n".join(lines) + "\n"


def ast_to_json(module: Module, spans: bool = True) -> dict[str, Any]:
    """The module as JSON data. A node is `{"node": class, "span": [line, column, end line, end column], field: …}`."""
    declarations = [_data(declaration, spans) for declaration in module.declarations]
    return {"node": "Module", "source": module.source.name, "declarations": declarations}


def _data(value: Any, spans: bool) -> Any:
    if isinstance(value, tuple):
        return [_data(item, spans) for item in _items(value)]
    if not _is_node(value):
        return value
    data: dict[str, Any] = {"node": type(value).__name__}
    for name, part in _fields(value):
        if not isinstance(part, Span):
            data[name] = _data(part, spans)
        elif spans:
            data[name] = [part.line, part.column, part.end_line, part.end_column]
    return data


def _node_lines(node: Any, indent: str, label: str) -> Iterator[str]:
    plain = "".join(f" {name}={value!r}" for name, value in _fields(node) if isinstance(value, str | int | float))
    span = next(value for name, value in _fields(node) if name == "span")
    place = f"{span.line}:{span.column}-{span.end_line}:{span.end_column}"
    yield f"{indent}{label}{type(node).__name__}{plain}  @{place}"
    for name, value in _fields(node):
        if _is_node(value):
            yield from _node_lines(value, indent + "    ", f"{name}: ")
        elif isinstance(value, tuple) and value:
            yield f"{indent}    {name}:"
            yield from _tuple_lines(_items(value), indent + "        ")


def _tuple_lines(values: tuple[Any, ...], indent: str) -> Iterator[str]:
    for value in values:
        if isinstance(value, tuple):
            yield f"{indent}({'' if value else ')'}"
            yield from _tuple_lines(_items(value), indent + "    ")
        else:
            yield from _node_lines(value, indent, "")


def _items(value: Any) -> tuple[Any, ...]:
    return value


def _fields(node: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(node, field.name)) for field in fields(node)]


def _is_node(value: Any) -> bool:
    return hasattr(value, "__dataclass_fields__") and not isinstance(value, Span | Source)
