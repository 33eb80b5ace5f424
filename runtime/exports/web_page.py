"""A web page in one file around a model: pictures to draw, texts to go on with, or fields for numbers, and training."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Mapping, Sequence
from math import isqrt
from pathlib import Path

import numpy as np

from compiler.driver import InputSpec, LibraryTensors
from compiler.support import palette
from compiler.types import DType, numpy_dtype, word_of
from runtime.data.specs import Array as Numbers
from runtime.data.text.byte_pairs import merges_of
from runtime.data.text.tokenizer import SPECIAL, START
from runtime.exports.c_library import Array, Function
from runtime.exports.web_library import MODULE, SLOW_MODULE
from runtime.inference.model import parameter_count
from runtime.inference.wording import Wording
from runtime.runs.trained import Trained

_FOLDER = Path(__file__).with_name("web")
_SMALLEST_PICTURE = 4  # pixels along a side
_SCRIPTS = ("model.js", "byte_pairs.js", "page.js")


def web_page(
    trained: Trained,
    functions: Mapping[str, Function],
    files: Mapping[str, bytes],
    tensors: LibraryTensors,
    rows: Mapping[str, Numbers],
) -> bytes:
    """The page, with modules and weights in it; `rows` of the data are shown and trained on."""
    program = trained.program
    weights = tensors.file_header + b"".join(np.ascontiguousarray(a).tobytes() for a in tensors.values.values())
    data = {
        "manifest": json.loads(files["manifest.json"]),
        "page": _page(trained, functions, rows),
        "module": _packed(files[MODULE]),
        "slow": _packed(files[SLOW_MODULE]),
        "weights": _packed(weights),
        "rows": {name: [_dtype(array), _packed(array.tobytes())] for name, array in rows.items()},
        "row_count": len(rows[functions["predict"].inputs[0].name]) if rows else 0,
    }
    text = (_FOLDER / "page.html").read_text(encoding="utf-8")
    script = "".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    content = json.dumps(data).replace("<", "\\u003c")  # no text of the data may end the element that it stands in
    for word, filled in (
        ("$STYLE", palette.style_as_system(":root")),
        ("$TITLE", html.escape(program.model)),
        ("$SCRIPT", script),
        ("$DATA", content),
    ):
        text = text.replace(word, filled)
    return text.encode()


def _packed(content: bytes) -> str:
    """Compressed, and as text."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def _page(trained: Trained, functions: Mapping[str, Function], rows: Mapping[str, Numbers]) -> dict[str, object]:
    """What the page shows: a picture to draw, a text to go on with, or fields for numbers."""
    program = trained.program
    about = {"about": f"{parameter_count(program):,} parameters."}
    found = _text(trained, functions["predict"]) or _picture(trained, functions, rows)
    return about | (found or {"kind": "rows", "classes": _classes(trained, functions["predict"])})


def _classes(trained: Trained, predict: Function) -> dict[str, tuple[str, ...]]:
    """What the numbers of an output stand for, where they score the words of one target."""
    found: dict[str, tuple[str, ...]] = {}
    for output in predict.outputs:
        targets = [target for target in _targets(trained) if target.low == 0 and target.high == output.elements]
        words = trained.preparation.vocabulary_of(targets[0].name) if trained.preparation and targets else None
        if len(targets) == 1 and words is not None and len(words) == output.elements > 1:
            found[output.name] = words
    return found


def _targets(trained: Trained) -> list[InputSpec]:
    return [spec for spec in trained.program.inputs if spec.is_target]


def _text(trained: Trained, predict: Function) -> dict[str, object] | None:
    """Of a model that goes on with texts, whose tokens the page can cut and which reads nothing else."""
    generation = trained.program.generation
    if generation is None or generation.beam is not None or trained.preparation is None or len(predict.inputs) != 1:
        return None
    feed, tokenizer = predict.inputs[0], trained.preparation.tokenizer_of(generation.feed)
    merges = None if tokenizer is None or tokenizer.pairs is None else merges_of(tokenizer.pairs)
    if tokenizer is None or (tokenizer.pairs is not None and merges is None) or len(feed.shape) != 2:
        return None
    wording = Wording(trained.program, trained.preparation)
    start = wording.prompt(None) if generation.start is not None else (START,)
    return {
        "kind": "text",
        "input": feed.name,
        "output": generation.source,
        "window": feed.elements,
        "tokens": tokenizer.tokens,
        "merges": merges,
        "special": len(SPECIAL),
        "unit": tokenizer.rules.unit,
        "lower": tokenizer.rules.lower,
        "start": start,
        "mark": [START] if start[:1] == (START,) else [],
        "stop": wording.stop() if len(wording.stop()) == 1 else (),
        "length": generation.length,
    }


def _picture(
    trained: Trained, functions: Mapping[str, Function], rows: Mapping[str, Numbers]
) -> dict[str, object] | None:
    """Of a model that tells classes of grey pictures."""
    predict, step = functions["predict"], functions.get("step")
    pictures = [array for array in predict.inputs if array.is_of_rows]
    scores = [array for array in predict.outputs if len(array.shape) == 2 and array.elements > 1]
    size = _size(pictures[0]) if len(predict.inputs) == len(pictures) == 1 else None
    if size is None or not scores:
        return None
    output = scores[0]
    targets = _targets(trained)
    classes = [spec for spec in targets if spec.low == 0 and spec.high == output.elements]
    shown = rows.get(pictures[0].name)
    usual = 255 if pictures[0].dtype is DType.U8 else 1
    return {
        "kind": "image",
        "input": pictures[0].name,
        "height": size[0],
        "width": size[1],
        "brightest": usual if shown is None or not len(shown) else float(shown.max()),
        "output": output.name,
        "names": _classes(trained, predict).get(output.name) or [*map(str, range(output.elements))],
        "target": classes[0].name if step is not None and len(targets) == len(classes) == 1 else None,
    }


def _size(array: Array) -> tuple[int, int] | None:
    """Height and width, where an input is a grey picture: with axes of its own, or a square line by line."""
    extents = [extent for extent in array.shape[1:] if extent is not None and extent != 1]
    if len(extents) == 1:
        side = isqrt(extents[0])
        extents = [side, side] if side * side == extents[0] else []
    height, width = extents if len(extents) == 2 else (0, 0)
    is_picture = min(height, width) >= _SMALLEST_PICTURE and array.dtype in (DType.F32, DType.F64, DType.U8)
    return (height, width) if is_picture else None


def rows_of_page(arrays: Mapping[str, Numbers], rows: Numbers, functions: Sequence[Function]) -> dict[str, Numbers]:
    """Some rows of the arrays that functions read, in the functions' types, and what they read that has no rows."""
    wanted = {array.name: array for function in functions for array in function.inputs if array.name in arrays}
    chosen = {name: arrays[name][rows] if array.is_of_rows else arrays[name] for name, array in wanted.items()}
    return {name: np.ascontiguousarray(array, _numbers_of(wanted[name].dtype)) for name, array in chosen.items()}


def _numbers_of(dtype: DType) -> np.dtype[np.generic]:
    """As model.js takes them: those of f16 as f32."""
    return numpy_dtype(DType.F32 if dtype is DType.F16 else dtype)


def _dtype(array: Numbers) -> str:
    return word_of(array.dtype)
