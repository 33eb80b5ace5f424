"""Data sources of `train`: `csv("data.csv", header = true)`. The runtime knows the meaning of the formats' options."""

from __future__ import annotations

from compiler.errors.diagnostics import Span, hint
from compiler.frontend.elaborator import Session
from compiler.frontend.failures import Failure, failure, nearest
from compiler.frontend.program import DataSource, SettingValue
from compiler.frontend.settings import plain
from compiler.frontend.train.constants import evaluate_constant
from compiler.frontend.values import describe
from compiler.support.data_formats import OPTIONS
from compiler.syntax import tree

FORMATS = tuple(OPTIONS)
_OF_TEXT = ("text", "lines", "pairs")  # whatever the names of their files end in
_FURTHER_FILES = {"lines": ("labels", "synonyms"), "pairs": ("target",)}
_ENDINGS = {".csv": "csv", ".tsv": "csv", ".npz": "npz", ".npy": "npy"}


def data_source(session: Session, train: tree.Train, key: str, expression: tree.Expression) -> DataSource:
    """A source as `train` names it. Raises `Failure`."""
    if not isinstance(expression, tree.Call) or not isinstance(expression.function, tree.Name):
        raise failure(
            "E0603",
            f"`{key}` is a data source",
            expression.span,
            hint('such as `csv("data.csv")` or `idx("data/mnist")`'),
        )
    name = expression.function
    if name.id not in FORMATS:
        notes = nearest(name.id, FORMATS) or (hint(f"the formats are {', '.join(FORMATS)}"),)
        raise failure("E0201", f"there is no data format `{name.id}`", name.span, *notes)
    positional = list(expression.positional)
    options: dict[str, SettingValue] = {}
    others: dict[str, str] = {}
    for keyword in expression.keywords:
        if keyword.name == "path" and not positional:
            positional.append(keyword.value)
        elif keyword.name in _FURTHER_FILES.get(name.id, ()):
            others[keyword.name] = _path(session, train, name.id, keyword.value)
        elif keyword.name not in OPTIONS[name.id]:
            raise _unknown_option(name.id, keyword)
        else:
            options[keyword.name] = plain(evaluate_constant(session, train, keyword.value))
    if name.id == "pairs" and len(positional) == 2:
        others["target"] = _path(session, train, name.id, positional.pop())
    if len(positional) != 1:
        raise failure("E0302", f"`{name.id}` needs one path", expression.span, hint(f'such as `{name.id}("data")`'))
    path = _path(session, train, name.id, positional[0])
    return DataSource(name.id, path, tuple(options.items()), expression.span, tuple(others.items()))


def _unknown_option(format_name: str, keyword: tree.Keyword) -> Failure:
    known = (*_FURTHER_FILES.get(format_name, ()), *OPTIONS[format_name])
    listed = hint(f"its options are {', '.join(known)}" if known else "it has none")
    notes = nearest(keyword.name, known) or (listed,)
    return failure("E0301", f"`{format_name}` has no option `{keyword.name}`", keyword.span, *notes)


def _path(session: Session, train: tree.Train, format_name: str, expression: tree.Expression) -> str:
    path = evaluate_constant(session, train, expression)
    if not isinstance(path, str):
        raise failure("E0304", f"the path of `{format_name}` is a string, not {describe(path)}", expression.span)
    return path


def source_from_path(path: str, declared: DataSource | None, span: Span) -> DataSource:
    """Another path in place of the declared one; the format follows an ending that says it, else the declared one."""
    lowered = path.lower().removesuffix(".gz")
    by_ending = next((name for ending, name in _ENDINGS.items() if lowered.endswith(ending)), None)
    if declared is not None and (by_ending in (None, declared.format) or declared.format in _OF_TEXT):
        return DataSource(declared.format, path, declared.options, span)
    return DataSource(by_ending or "idx", path, (), span)
