"""The tensors of a model as sections of a page: a table with small histograms, and the first filters as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.analysis.examined.weights import Filters, WeightFacts
from runtime.reporting.page_parts import picture, shown
from runtime.reporting.small_charts import mosaic, small_histogram
from runtime.reporting.units import measure, share

_MOST_TENSORS = 400
_HEADINGS = ("tensor", "shape", "count", "mean", "std", "min", "max", "norm", "zeros", "not finite", "histogram")


def weights_section(facts: Sequence[WeightFacts], filters: Filters | None, checkpoint: str) -> str:
    """Of the first 400 tensors. The numbers are of the finite elements."""
    parameters = [one.count for one in facts if one.role == "parameter"]
    states = len(facts) - len(parameters)
    text = f"The weights of {checkpoint}: {sum(parameters):,} numbers in {len(parameters):,} parameters"
    text += f", and {states:,} states." if states else "."
    if len(facts) > _MOST_TENSORS:
        text += f" The first {_MOST_TENSORS:,} are shown."
    head = "".join(f"<th{_style(name)}>{name}</th>" for name in _HEADINGS)
    lines = "\n".join(map(_line, facts[:_MOST_TENSORS]))
    table = f'<div class="wide"><table class="weights">\n<tr>{head}</tr>\n{lines}\n</table></div>'
    return "\n".join([f"<p>{shown(text)}</p>", table, *([_filters(filters)] if filters is not None else [])])


def _line(one: WeightFacts) -> str:
    shape = " × ".join(map(str, one.shape)) or "one number"
    numbers = [measure(value) for value in (one.mean, one.std, one.least, one.most, one.norm)]
    finite = max(one.count - one.nonfinite, 1)
    cells = [f"{one.count:,}", *numbers, shown(share(one.zeros / finite)), f"{one.nonfinite:,}"]
    name = one.path if one.role == "parameter" else f"{one.path} ({one.role})"
    return (
        f'<tr><td>{shown(name)}</td><td class="shape">{shape}</td>'
        + "".join(f'<td class="number">{cell}</td>' for cell in cells)
        + f"<td>{small_histogram(one.bins)}</td></tr>"
    )


def _style(name: str) -> str:
    return "" if name in ("tensor", "shape", "histogram") else ' class="number"'


def _filters(found: Filters) -> str:
    count, height, width, channels = found.images.shape
    shown_count = f"{count:,}" if count == found.count else f"the first {count:,} of {found.count:,}"
    colours = (
        "The three channels are the colours; grey is 0."
        if channels == 3
        else "Red is positive, blue negative, white 0"
        + ("." if channels == 1 else f", of the mean over {channels:,} channels.")
    )
    bound = f"The strongest colour is {measure(found.bound)}."
    drawn = picture(mosaic(found.images, found.bound), f"filters of {found.path}", "filters")
    title = f"<h3>Filters of {shown(found.path)}</h3>"
    return f"{title}\n<p>{shown_count} filters of {height} × {width}. {colours} {bound}</p>\n{drawn}"
