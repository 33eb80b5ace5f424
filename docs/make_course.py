"""Draws the pictures of the course and of lessons anew, from values of the models in `course/` and in the examples.

Run it from the root of the repository: `python docs/make_course.py`. The values have the same bits on every machine.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script sees its own folder only

import dlc  # noqa: E402
from compiler.driver import Array  # noqa: E402
from compiler.support.palette import NEGATIVE, POSITIVE, style_as_system  # noqa: E402
from runtime.reporting.charts import CHART_STYLE, line_chart  # noqa: E402

COURSE = ROOT / "docs" / "course"
PICTURES = ROOT / "docs" / "pictures"

_STYLE = f"""
{style_as_system("svg")}svg {{ color: var(--ink); color-scheme: light dark; }}
text {{ font: var(--tiny) var(--sans); }} .title {{ font-weight: 600; fill: currentColor; }}
.{POSITIVE} {{ fill: var(--{POSITIVE}); }} .{NEGATIVE} {{ fill: var(--{NEGATIVE}); }}
""".strip()
_CELL, _GAP, _TOP, _MARGIN = 22, 26, 24, 12
_STEPS = 20  # strengths of a colour


class Map:
    """A matrix as coloured squares: orange is `-bound`, blue `bound`, 0 nothing; `marks` are (row, column, text)."""

    def __init__(
        self, title: str, values: Array, bound: float, cell: int = _CELL, marks: Sequence[tuple[float, float, str]] = ()
    ) -> None:
        self.title, self.values, self.bound, self.cell, self.marks = title, np.atleast_2d(values), bound, cell, marks

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        rows, columns = self.values.shape
        columns = max([columns, *(int(column) + 1 for _, column, _ in self.marks)])
        rows = max([rows, *(int(row) + 1 for row, _, _ in self.marks)])
        return max(columns * self.cell, 7 * len(self.title)), rows * self.cell + _TOP

    def drawn(self, x: int, y: int) -> list[str]:
        parts = [f'<text x="{x}" y="{y + 12}" class="title">{escape(self.title)}</text>']
        for step, squares in self._by_strength(x, y + _TOP).items():
            kind = POSITIVE if step > 0 else NEGATIVE
            parts.append(f'<path d="{"".join(squares)}" class="{kind}" fill-opacity="{abs(step) / _STEPS:.2f}"/>')
        for row, column, text in self.marks:
            place = f'x="{x + column * self.cell:.0f}" y="{y + _TOP + row * self.cell + 4:.0f}"'
            parts.append(f'<text {place} text-anchor="middle" class="title">{escape(text)}</text>')
        return parts

    def _by_strength(self, x: int, y: int) -> dict[int, list[str]]:
        """Paths of squares side by side, by their strength in steps of either sign."""
        found: dict[int, list[str]] = {}
        shares = np.clip(self.values / self.bound, -1, 1)
        for row, steps in enumerate(np.round(shares * _STEPS).astype(int).tolist()):
            begin = 0
            for step, same in groupby(steps):
                width = len(list(same))
                if step:
                    place = f"M{x + begin * self.cell} {y + row * self.cell}"
                    across = width * self.cell
                    found.setdefault(step, []).append(f"{place}h{across}v{self.cell}h-{across}z")
                begin += width
        return found


def maps_in_lines(label: str, lines: Sequence[Sequence[Map]]) -> str:
    """An SVG file with lines of maps, one below the other."""
    parts: list[str] = []
    width, y = 0, _MARGIN
    for line in lines:
        x = _MARGIN
        for one in line:
            parts += one.drawn(x, y)
            x += one.size[0] + _GAP
        width, y = max(width, x - _GAP + _MARGIN), y + max(one.size[1] for one in line) + _GAP
    return _file(label, width, y - _GAP + _MARGIN, "\n".join(parts))


def _file(label: str, width: int, height: int, content: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{escape(label)}"'
        f' xmlns="http://www.w3.org/2000/svg">\n<style>\n{CHART_STYLE}\n{_STYLE}\n</style>\n'
        f"{content}\n</svg>\n"
    )


def _chart_file(label: str, chart: str) -> str:
    return _file(label, 640, 240, chart)


def _trained(name: str) -> dlc.Model:
    model = dlc.load(COURSE / f"{name}.dl")
    model.train(progress=False)
    return model


def perceptron() -> str:
    """The logits of both models of the first chapter, over the plane around the four points."""
    ticks = np.linspace(-0.5, 1.5, 21, dtype=np.float32)
    points = np.stack(np.meshgrid(ticks, ticks[::-1]), axis=-1).reshape(-1, 2)
    marks = [(15.5 - 10 * b, 5.5 + 10 * a, str(a ^ b)) for a in (0, 1) for b in (0, 1)]
    maps = [
        Map(title, _trained(name).predict(points)["logit"].reshape(21, 21), 4.0, 12, marks)
        for name, title in (("line", "one weighted sum"), ("bent", "a hidden layer of 8"))
    ]
    return maps_in_lines("logits over the plane", [maps])


def training() -> str:
    """The loss of the third chapter's network, epoch by epoch, at three rates."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for rate in (1e-4, 5e-3, 0.3):
        model = dlc.load(COURSE / "maps.dl")
        settings: dict[str, Any] = {"optimizer.lr": rate}
        result = model.train(progress=False, **settings)
        lines[f"lr = {rate:g}"] = [(event.epoch, event.scalars["loss"]) for event in result.history]
    return _chart_file("loss by rate", line_chart("training loss", lines, "epoch"))


def convolution() -> str:
    """A digit, and what eight filters see of it."""
    model = _trained("maps")
    digit = np.loadtxt(ROOT / "examples/digits/digits.csv.gz", delimiter=",", skiprows=4, max_rows=1)[:64]
    found = model.predict(digit[None].astype(np.float32))
    seen, pooled = found["seen"][0], found["pooled"][0]
    bound = float(seen.max())
    kernels = next(values for values in model.parameters.values() if values.ndim == 4)
    strongest = float(np.abs(kernels).max())
    lines = [
        [Map("picture", digit.reshape(8, 8) / 16, 1.0, 10)],
        [Map(f"filter {k + 1}", kernels[:, :, 0, k], strongest, 20) for k in range(8)],
        [Map(f"map {k + 1}", seen[k], bound, 9) for k in range(8)],
        [Map("pooled", pooled[k], bound, 18) for k in range(8)],
    ]
    return maps_in_lines("a digit, filters, feature maps", lines)


def recurrence() -> str:
    """How long the gradient of the last state is, for inputs further and further back, in two kinds of cells."""
    inputs = np.random.default_rng(0).normal(size=(64, 40, 8)).astype(np.float32)
    lines: dict[str, list[tuple[float, float]]] = {}
    for cell in ("rnn", "lstm"):
        reach = dlc.load(COURSE / "reach.dl", cell=cell).predict(inputs)["reach"].mean(axis=0)
        lines[cell] = [(back, float(value)) for back, value in enumerate(reach[::-1])]
    return _chart_file("gradients by distance", line_chart("length of the gradient", lines, "steps back"))


def attention() -> str:
    """The weights that each place of the answer gives to the places of the question."""
    model = _trained("reversed")
    question = np.array([[3, 1, 4, 1, 5, 9, 2, 6]], np.int32)
    found = model.predict({"question": question})
    answer = found["logits"][0].argmax(axis=-1)
    marks = [(-0.4, column + 0.5, str(token)) for column, token in enumerate(question[0])]
    marks += [(row + 0.5, 8.6, str(token)) for row, token in enumerate(answer)]
    return maps_in_lines("attention", [[Map(" ", found["chosen"][0], 1.0, 26, marks)]])


def _digits() -> tuple[Array, Array]:
    """The pixels of all digits, from 0 to 16, and their labels."""
    rows = np.loadtxt(ROOT / "examples/digits/digits.csv.gz", delimiter=",", skiprows=1)
    return rows[:, :64].astype(np.float32), rows[:, 64].astype(np.int32)


def perceptron_lesson() -> str:
    """A genuine and a forged note: what is measured, the weights, and their products, whose sum is the score."""
    model = dlc.load(ROOT / "examples/perceptron/model.dl")
    model.train(progress=False)
    rows = np.loadtxt(ROOT / "examples/perceptron/banknotes.csv", delimiter=",", skiprows=1, dtype=np.float32)
    weights, bias = (model.parameters[name] for name in model.parameters)
    lines: list[list[Map]] = []
    for label, name in ((0, "genuine"), (1, "forged")):
        note = rows[rows[:, 4] == label][3, :4]
        score = float(model.predict(note[None])["score"][0])
        given = [note, weights[:, 0], note * weights[:, 0]]
        maps = [
            Map(title, values, float(np.abs(values).max()), 30)
            for title, values in zip((f"{name} note", "weights", "products"), given, strict=True)
        ]
        said = f"sum {given[2].sum():.2f}, bias {bias[0]:.2f}: score {score:.2f}"
        lines.append([*maps, Map(said, np.array([score]), abs(score), 30)])
    return maps_in_lines("a banknote times the weights", lines)


def layers_lesson() -> str:
    """A digit, the weights of twelve hidden units, how strongly each answers, and the logits."""
    model = dlc.load(ROOT / "examples/digits/model.dl")
    model.train(progress=False, epochs=10)
    pixels, _ = _digits()
    first, bias = (model.parameters[f"logits.dense.{name}"] for name in ("W", "b"))
    answers = np.maximum(pixels[3] / 16 @ first + bias, 0)
    chosen = np.argsort(-answers, kind="stable")[:12]
    logits = model.predict(pixels[3][None])["logits"][0]
    marks = [(1.6, digit + 0.5, str(digit)) for digit in range(10)]
    strongest = float(np.abs(first[:, chosen]).max())
    return maps_in_lines(
        "a digit and what hidden units see of it",
        [
            [Map("picture", pixels[3].reshape(8, 8) / 16, 1.0, 10)],
            [Map(f"{answers[unit]:.1f}", first[:, unit].reshape(8, 8), strongest, 6) for unit in chosen],
            [Map("what the ten outputs make of all 128", logits, float(np.abs(logits).max()), 26, marks)],
        ],
    )


def lenet_lesson() -> str:
    """A digit of 28 × 28 pixels, the six filters of LeNet-5, and their maps before and after pooling."""
    pixels, labels = _digits()
    large = np.zeros((len(pixels), 28, 28), np.uint8)
    large[:, 2:26, 2:26] = np.kron(pixels.reshape(-1, 8, 8) * 15.9, np.ones((1, 3, 3))).astype(np.uint8)
    model = dlc.load(ROOT / "examples/lenet/model.dl")
    model.train({"image": large, "label": labels.astype(np.uint8)}, progress=False, epochs=5)
    weights, bias = (model.parameters[f"logits.conv2d.{name}"] for name in ("W", "b"))
    padded = np.pad(large[3] / 255, 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    maps = np.maximum(np.einsum("yxij,ijk->kyx", windows, weights[:, :, 0]) + bias[:, None, None], 0)
    pooled = maps.reshape(6, 14, 2, 14, 2).max(axis=(2, 4))
    lines = [
        [Map("picture", large[3] / 255, 1.0, 4)],
        [Map(f"filter {k + 1}", weights[:, :, 0, k], float(np.abs(weights).max()), 14) for k in range(6)],
        [Map(f"map {k + 1}", maps[k], float(maps.max()), 3) for k in range(6)],
        [Map("pooled", pooled[k], float(maps.max()), 6) for k in range(6)],
    ]
    return maps_in_lines("a digit, the filters of LeNet-5, and their maps", lines)


LESSONS = {"perceptron": perceptron_lesson, "layers": layers_lesson, "lenet": lenet_lesson}
"""Pictures that READMEs of examples show below `Line by line`, and the page of a model beside its lines."""

CHAPTERS = {
    "perceptron": perceptron,
    "training": training,
    "convolution": convolution,
    "recurrence": recurrence,
    "attention": attention,
}

if __name__ == "__main__":
    for name, drawn in CHAPTERS.items():
        (PICTURES / f"course-{name}.svg").write_text(drawn())
    for name, drawn in LESSONS.items():
        (PICTURES / f"lesson-{name}.svg").write_text(drawn())
