"""A model's predictions as sections of a page: classes, numbers, samples, tokens of texts.

Behind them stand the elements of all sections: escaped text, tables of names and values, pictures.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

import numpy as np

from compiler.driver import Array
from compiler.errors.diagnostics import size
from compiler.support.harmless import harmless_lines
from runtime.analysis.examined.examination import Examination
from runtime.analysis.examined.measures import ClassScores, Confusion, NumberFit
from runtime.analysis.examined.samples import ANY, RIGHT, WORST, WRONG, JudgedText, JudgedToken, ShownRow, ShownValue
from runtime.reporting.charts import histogram, scatter
from runtime.reporting.units import amount, heading, measure, share, value_text
from runtime.support.files import JsonObject, JsonValue
from runtime.support.pictures import png_bytes

MOST_IN_FULL = 20
"""Classes of which the whole matrix is shown; of more, those that are confused most."""
_MOST_CONFUSED = 20
_KINDS = {
    RIGHT: "Right",
    WRONG: "Wrong, the highest losses first",
    ANY: "Some rows",
    WORST: "The highest losses",
}
_STRONGEST = 6.0  # the loss of a token, in nats, from which on its colour is the same


def measured_text(found: Examination, checkpoint: str) -> str:
    """Which rows were measured, and with which weights."""
    said = f"{found.measured:,} rows" if found.measured == found.rows else f"{found.measured:,} of {found.rows:,} rows"
    spread = "" if found.measured == found.rows else ", spread evenly over them"
    return f"Measured on {found.data}, {said}{spread}, with the weights of {checkpoint}."


def predictions_section(found: Examination, checkpoint: str) -> str:
    """Everything that predictions show but the samples."""
    parts = [f"<p>{shown(measured_text(found, checkpoint))}</p>"]
    parts += [f"<p>{shown(note)}</p>" for note in found.notes]
    if found.nonfinite:
        parts.append(f"<p>{found.nonfinite:,} rows have an output that is not finite.</p>")
    parts.append(pairs({heading(name): value for name, value in found.scalars.items()}))
    parts += [_classes(confusion) for confusion in found.confusions]
    parts += [_numbers(fit) for fit in found.fits]
    return "\n".join(parts)


def samples_section(samples: Sequence[ShownRow], texts: Sequence[JudgedText]) -> str:
    """Rows with what was predicted for them, by kind; then texts with their tokens."""
    parts: list[str] = []
    for kind, title in _KINDS.items():
        of_kind = [row for row in samples if row.kind == kind]
        if of_kind:
            parts.append(f'<h3>{title}</h3>\n<div class="cards">{"".join(map(_card, of_kind))}</div>')
        elif kind == WRONG and any(row.kind == RIGHT for row in samples):
            parts.append("<p>No row is wrong.</p>")
    if texts:
        explained = f"The redder a token, the less likely it was; from a loss of {_STRONGEST:g} on the red is the same."
        parts.append(f"<h3>Tokens</h3>\n<p>{explained} Point at one for its probability.</p>")
        parts += map(_text, texts)
    return "\n".join(parts)


def _classes(found: Confusion) -> str:
    scores = found.scores()
    title = f"<h3>Classes of {shown(found.target)} by {shown(found.output)}</h3>"
    parts = [title]
    if found.threshold is not None:
        parts.append(f"<p>{shown(found.output)} above {found.threshold:g} counts as {shown(found.classes[1])}.</p>")
    parts.append(pairs({heading(name): value for name, value in found.averages().items()}))
    if len(found.classes) <= MOST_IN_FULL:
        parts.append(_matrix(found))
        chosen = list(range(len(found.classes)))
    else:
        occurs = np.flatnonzero(scores.present + scores.taken > 0)
        # of equals those first that occur often
        order = np.lexsort((-scores.present[occurs], scores.f1[occurs]))
        chosen = occurs[order[:MOST_IN_FULL]].tolist()
        parts.append(f"<p>The lowest F1 of the {len(occurs):,} classes that occur, of {len(found.classes):,}:</p>")
    parts.append(rows([class_row(found, scores, number) for number in chosen]))
    confused = most_confused_rows(found)
    if confused and len(found.classes) > 2:
        parts.append(f"<h4>Confused most often</h4>\n{rows(confused)}")
    return "\n".join(parts)


def class_row(found: Confusion, scores: ClassScores, number: int) -> dict[str, JsonValue]:
    """A class with its counts and shares."""
    return {
        "class": found.classes[number],
        "count": int(scores.present[number]),
        "predicted": int(scores.taken[number]),
        "right": int(scores.hits[number]),
        "precision": float(scores.precision[number]),
        "recall": float(scores.recall[number]),
        "f1": float(scores.f1[number]),
    }


def most_confused_rows(found: Confusion) -> list[dict[str, JsonValue]]:
    """The pairs of classes that are confused most, with the share of the true class."""
    present = found.scores().present
    return [
        {
            "class": found.classes[true],
            "taken_for": found.classes[guess],
            "count": count,
            "share": count / int(present[true]),
        }
        for true, guess, count in found.most_confused(_MOST_CONFUSED)
    ]


def _matrix(found: Confusion) -> str:
    counts = found.counts
    sums = counts.sum(axis=1)
    head = "".join(f"<th>{shown(name)}</th>" for name in found.classes)
    lines: list[str] = []
    for number, name in enumerate(found.classes):
        shares = counts[number] / max(int(sums[number]), 1)
        cells = "".join(map(_count_cell, counts[number].tolist(), shares.tolist()))
        lines.append(f"<tr><th>{shown(name)}</th>{cells}</tr>")
    caption = "Rows are the true classes, columns the predicted ones: the count, and its share of the row."
    return (
        f'<p>{caption}</p>\n<div class="wide"><table class="matrix">\n<tr><th></th>{head}</tr>\n'
        + "\n".join(lines)
        + "\n</table></div>"
    )


def _count_cell(count: int, part: float) -> str:
    if not count:
        return "<td></td>"
    colour = f"background: rgba(31, 119, 180, {0.65 * part:.3f})"
    return f'<td style="{colour}">{count:,}<small>{shown(share(part))}</small></td>'


def _numbers(fit: NumberFit) -> str:
    parts = [f"<h3>{shown(fit.target)} by {shown(fit.output)}</h3>"]
    parts.append(pairs({"values": fit.count, **{heading(name): value for name, value in fit.errors.items()}}))
    if fit.nonfinite:
        parts.append(f"<p>{fit.nonfinite:,} values are left out, since their error is not finite.</p>")
    if len(fit.points):
        if len(fit.points) < fit.count:
            parts.append(f"<p>Drawn are {len(fit.points):,} of the values, spread evenly over them.</p>")
        true, guess = fit.points.T
        drawings = (
            scatter("predicted over true", fit.points, f"{fit.target}, true"),
            histogram("errors (predicted - true)", guess - true, "error"),
        )
        parts.append(f'<div class="side">{"".join(drawings)}</div>')
    return "\n".join(parts)


def _card(row: ShownRow) -> str:
    drawn = [
        picture(value.picture, f"{value.name} of {row.place}")
        for value in (*row.inputs, *row.targets, *row.predictions)
        if value.picture is not None
    ]
    lines: list[tuple[str, str]] = []
    for value in (*row.targets, *map(_named, row.predictions)):
        lines += _lines(value)
    lines.append(("loss", measure(row.loss)))
    for value in row.inputs:
        lines += _lines(value) if value.picture is None else []
    table = "".join(f"<tr><td>{shown(name)}</td><td>{shown(text)}</td></tr>" for name, text in lines)
    return f'<div class="card"><strong>{shown(row.place)}</strong>{"".join(drawn)}<table>{table}</table></div>'


def _named(value: ShownValue) -> ShownValue:
    return ShownValue(f"{value.name}, predicted", value.text, value.columns, value.left_out)


def _lines(value: ShownValue) -> list[tuple[str, str]]:
    if not value.columns:
        return [(value.name, value.text)]
    more = [("", f"and {value.left_out:,} more")] if value.left_out else []
    return [*value.columns.items(), *more]


def _text(text: JudgedText) -> str:
    mean = f"mean loss {measure(text.mean_loss)}, perplexity {measure(text.perplexity)}"
    first = "" if len(text.tokens) == text.count else f"the first {len(text.tokens):,} of "
    head = f"<strong>{shown(text.place)}</strong>: {shown(text.target)}, {first}{text.count:,} tokens, {mean}"
    return f'<p>{head}</p>\n<p class="tokens">{"".join(map(_token, text.tokens))}</p>'


def _token(token: JudgedToken) -> str:
    strength = 0.8 * min(token.loss, _STRONGEST) / _STRONGEST if token.loss == token.loss else 0.8
    said = f"{token.text}: {token.probability:.2%}, loss {measure(token.loss)}"
    if token.likeliest != token.text:
        said += f"; likeliest {token.likeliest}: {token.likeliest_probability:.2%}"
    colour = f"background: rgba(214, 39, 40, {max(strength, 0):.2f})"
    return f'<span style="{colour}" title="{shown(said)}">{shown(token.text)}</span>'


def shown(text: str) -> str:
    """Text of others as a page may hold it: it can neither be read as a part of the page nor steer what shows it."""
    return html.escape(harmless_lines(text))


def tables(record: JsonObject) -> str:
    """A table for each mapping and each list of rows, after one for the single values."""
    single = {name: value for name, value in record.items() if not isinstance(value, Mapping) and not _is_rows(value)}
    parts = [pairs(single, has_keys=True)] if single else []
    for name, value in record.items():
        title = f"<h3>{shown(heading(name))}</h3>\n" if name else ""
        if isinstance(value, Mapping) and value:
            parts.append(title + pairs(value, has_keys=True))
        elif _is_rows(value) and isinstance(value, Sequence):
            parts.append(title + rows([row for row in value if isinstance(row, Mapping)]))
    return "\n".join(parts)


def pairs(named: JsonObject, has_keys: bool = False) -> str:
    """A table of names and values; with `has_keys`, names are keys of a record, or of files."""
    said = {str(name): heading(str(name)) if has_keys and str(name).isidentifier() else str(name) for name in named}
    lines = "\n".join(
        f"<tr><td>{shown(said[str(name)])}</td>{_cell(str(name), value)}</tr>" for name, value in named.items()
    )
    return f"<table>\n{lines}\n</table>"


def rows(records: Sequence[JsonObject]) -> str:
    """A table with a line for each record; the names of the first are the headings."""
    if not records:
        return ""
    head = "".join(f"<th{_of_numbers(name, records)}>{shown(heading(name))}</th>" for name in records[0])
    lines = "\n".join("<tr>" + "".join(_cell(name, row.get(name)) for name in records[0]) + "</tr>" for row in records)
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{lines}\n</table></div>'


def picture(image: Array, label: str, css: str = "picture") -> str:
    """An `<img>` that holds u8[channels, height, width]."""
    content = base64.b64encode(png_bytes(image)).decode()
    return f'<img class="{css}" alt="{shown(label)}" src="data:image/png;base64,{content}">'


def text_of(name: str, value: JsonValue) -> str:
    """A value as people read it, in the unit that its name implies."""
    match value:
        case None | bool():
            return value_text(value)
        case int() | float() if "flops" in name:
            return amount(value)
        case int() if "bytes" in name:
            return size(value)
        case float():
            return measure(value)
        case int():
            return f"{value:,}"
        case str():
            return value
        case Mapping():
            return ", ".join(f"{key}: {text_of(str(key), item)}" for key, item in value.items())
        case _:
            return ", ".join(text_of(name, item) for item in value)


def _is_rows(value: JsonValue) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(v, Mapping) for v in value)


def _cell(name: str, value: JsonValue) -> str:
    return f"<td{_NUMBER if _is_number(value) else ''}>{shown(text_of(name, value))}</td>"


def _of_numbers(name: str, records: Sequence[JsonObject]) -> str:
    return _NUMBER if all(_is_number(row.get(name)) for row in records) else ""


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_NUMBER = ' class="number"'
