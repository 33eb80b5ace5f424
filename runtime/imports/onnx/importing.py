"""An ONNX file to a model file, weights and recorded inputs and outputs, compared with the ONNX model's own results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

import numpy as np

from compiler import driver
from compiler.driver import PREDICTION, Options, Steps
from compiler.errors.diagnostics import Source, SourceError
from compiler.support.record import record
from compiler.syntax.format import format_source
from compiler.types import numpy_dtype
from runtime.imports.onnx.declared import Given, attempts_of, check_names, check_sample, declared_inputs
from runtime.imports.onnx.examine import Examiner
from runtime.imports.onnx.extents import BATCH, points_of
from runtime.imports.onnx.graph import Graph, Tensor, Undecided, Unsupported
from runtime.imports.onnx.model_file import read_model
from runtime.imports.onnx.operators.table import TABLE
from runtime.imports.onnx.passes.linear import drop_unused
from runtime.imports.onnx.passes.pipeline import recognised
from runtime.imports.onnx.program import Feed, ProgramText, program_text, refuse, title_of
from runtime.imports.onnx.recording import Drawn, distance, drawn_inputs, own_results
from runtime.imports.onnx.writer import missing_of
from runtime.inference.given_names import GivenInput, GivenNames
from runtime.inference.model import batch_axes

_ROWS = Feed("rows", "rows", "float32", None)  # the input of a model that has none; nothing reads it
MOST_APART = 1e-3  # of a program that is the model
BY_ROUNDING = 1e-5  # a difference that rounding alone explains


@record
class _Empty:
    """An output without elements; an extent that counts rows is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@record
class Imported:
    """`text` is the model file, `weights` its tensors by path, `program` the program that they belong to.

    `inputs` and `outputs` are recorded ones of the ONNX model, and `apart` is how far the program is from them.
    `together`: the rows of a batch have an influence on each other. `empty` are outputs without elements, with a shape
    for a number of rows, which the program leaves out; `open_ended` those that end with rows of -1.
    """

    text: str
    weights: Mapping[str, Tensor]
    program: driver.Program
    feeds: tuple[Feed, ...]
    output_names: Mapping[str, str]
    inputs: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    outputs: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    apart: float = 0.0
    together: bool = False
    empty: tuple[_Empty, ...] = ()
    open_ended: frozenset[str] = frozenset()

    @property
    def names(self) -> GivenNames:
        inputs = {feed.given: GivenInput(feed.name, feed.rows) for feed in self.feeds}
        return GivenNames(inputs, self.output_names, self.together)


def import_model(
    path: Path, sizes: Mapping[str, int], sample: Mapping[str, Tensor], options: Options | None = None
) -> Imported:
    """Read an ONNX file. `sizes` fix free axes by name, `sample` gives inputs; those that decide a shape are fixed.

    `options` compile the program that is compared with the ONNX model.

    Raises DataError, and Unsupported with all that is missing.
    """
    model = read_model(path)
    check_names(model)
    given = declared_inputs(model, sizes, sample)
    check_sample(model, given, sample)
    attempts = attempts_of(given, sample)
    error: Unsupported | None = None
    for free, feeds in attempts:
        try:
            return _import(model, path, given, free, feeds, sample, options or Options(threads=1))
        except Unsupported as found:
            error = error or found
    assert error is not None
    raise error


def _import(
    model: Any,
    path: Path,
    given: Sequence[Given],
    free: Mapping[str, str],
    rows: Mapping[str, int | None],
    sample: Mapping[str, Tensor],
    options: Options,
) -> Imported:
    points: list[dict[str, int]] = points_of(list(free.values())) if free else [{}]
    graph, feeds = _decided(model, given, free, rows, sample, points)
    named = model.graph.name
    usual = not named or named in ("main_graph", "torch_jit", "torch-jit-export") or "_jit" in named
    open_ended = frozenset(o for node in graph.nodes if node.op == "NonMaxSuppression" for o in node.outputs)
    notes = [f"## Imported from {path.name}."]
    notes += [f"## The output {name} has no elements, and is left out." for name in graph.empty]
    made = program_text(graph, title_of(path.stem if usual else named), feeds, "\n".join(notes))
    empty = tuple(_empty(graph, name) for name in graph.empty)
    imported = replace(checked(made), empty=empty, open_ended=open_ended)
    compared = _compared(model, imported, _recorded(graph, given, free, feeds, sample), "" in free, options)
    if compared.apart > MOST_APART and "" in free:
        raise Unsupported("the rows of the model are no batch")
    return compared


def _empty(graph: Graph, name: str) -> _Empty:
    value = graph.values[name]
    extents = (tuple({shape[axis] for shape in value.shapes}) for axis in range(value.rank))
    return _Empty(name, value.dtype, tuple(one[0] if len(one) == 1 else None for one in extents))


def _decided(
    model: Any,
    given: Sequence[Given],
    free: Mapping[str, str],
    rows: Mapping[str, int | None],
    sample: Mapping[str, Tensor],
    points: Sequence[Mapping[str, int]],
) -> tuple[Graph, list[Feed]]:
    """As `examined`, with inputs of the sample fixed as far as they decide shapes."""
    fixed: frozenset[str] = frozenset()
    while True:
        try:
            return examined(model, given, free, rows, sample, points, fixed)
        except Undecided as error:
            fixed |= error.names


def _recorded(
    graph: Graph, given: Sequence[Given], free: Mapping[str, str], feeds: Sequence[Feed], sample: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Inputs of the ONNX model: the sample, where it has all of them, or numbers that are drawn."""
    if sample and all(feed.name in sample for feed in feeds):
        return {name: array for name, array in sample.items() if name in {one.name for one in given}}
    sizes = {name: 3 if own == BATCH else 8 for name, own in free.items() if name}
    most = _tables(graph)
    wanted = [
        Drawn(one.name, one.dtype, tuple(sizes[e] if isinstance(e, str) else e for e in one.shape), most.get(one.name))
        for one in given
    ]
    return {**drawn_inputs(wanted), **{name: array for name, array in sample.items()}}


def _tables(graph: Graph) -> dict[str, int]:
    """The inputs that choose rows, with the size of the smallest table."""
    makers = {output: node for node in graph.nodes for output in node.outputs}
    found: dict[str, int] = {}
    for node in graph.nodes:
        if node.op != "Gather" or node.attributes.get("axis", 0) != 0:
            continue
        name = node.inputs[1]
        while name in makers and makers[name].op in (
            "Cast",
            "Reshape",
            "Identity",
            "Squeeze",
            "Unsqueeze",
            "Transpose",
        ):
            name = makers[name].inputs[0]
        size = graph.values[node.inputs[0]].shapes[0][0]
        found[name] = min(size, found.get(name, size))
    return {name: size for name, size in found.items() if name in graph.inputs}


def _compared(
    model: Any, imported: Imported, inputs: Mapping[str, Tensor], rowwise: bool, options: Options
) -> Imported:
    """The import with recorded outputs, and how far the program is from them.

    `rowwise`: the ONNX model has a fixed number of rows, and must give each row what it has in another place too.
    """
    wanted = own_results(model, inputs)
    found = predicted(imported, inputs, options)
    chosen = {name: array[array[:, 0] >= 0] for name, array in found.items() if name in imported.open_ended}
    apart = distance({**found, **chosen}, wanted)
    rows = [feed for feed in imported.feeds if feed.rows is not None]
    alone = imported.program.outputs and rows and all(_is_alone(imported, inputs, found, options) for _ in range(1))
    if rowwise and not alone:
        apart = float("inf")
    together = bool(rows) and not alone
    recorded = {feed.name: np.zeros((), feed.dtype) for feed in imported.feeds if feed == _ROWS} | dict(inputs)
    return replace(imported, inputs=recorded, outputs=wanted, apart=apart, together=together)


def _is_alone(imported: Imported, inputs: Mapping[str, Tensor], found: Mapping[str, Tensor], options: Options) -> bool:
    """Whether the last row has the same results without the others before it."""
    first = {
        f.name: np.take(inputs[f.name], [-1], f.rows) if f.rows is not None else inputs[f.name] for f in imported.feeds
    }
    axes = batch_axes(imported.program)
    if any(axes[own] is None for own in imported.output_names):
        return False
    single = predicted(imported, {**inputs, **first}, options)
    last = {
        name: np.take(found[name], [-1], axes[own])
        for own, name in imported.output_names.items()
        if found[name].shape[axes[own] or 0]
    }
    kept = {name: single[name] for name in last}
    return distance(kept, last) < 1e-4


def examined(
    model: Any,
    given: Sequence[Given],
    free: Mapping[str, str],
    rows: Mapping[str, int | None],
    sample: Mapping[str, Tensor],
    points: Sequence[Mapping[str, int]],
    fixed: frozenset[str],
) -> tuple[Graph, list[Feed]]:
    """The graph with the inputs that stay inputs. Raises Unsupported."""
    deciding = _deciding(model, given) | fixed
    static = (
        next((one.shape[0] for one in given if one.shape and isinstance(one.shape[0], int)), None)
        if "" in free
        else None
    )
    examiner = Examiner(model, points, frozenset(TABLE), static)
    feeds = _declare(examiner, [one for one in given if not _fixed(examiner, one, deciding, sample)], free, rows)
    graph = examiner.graph([feed.name for feed in feeds])
    graph = drop_unused(_without_empty(graph))
    missing, wanted = missing_of(graph)
    behind = examiner.inputs_behind(examiner.wanted | wanted) & set(sample) - fixed
    if behind:
        raise Undecided("numbers of inputs decide a shape", behind)
    if examiner.missing:
        refuse([*examiner.missing, *missing])
    negative = frozenset(name for name, array in sample.items() if array.dtype.kind == "i" and (array < 0).any())
    graph = replace(graph, may_be_negative=negative)
    if not feeds and not given:
        examiner.free(_ROWS.name, _ROWS.dtype, ((),) * len(points))
        feeds.append(_ROWS)
    elif not feeds:
        some = next((one for one in given if 0 not in one.shape), given[0])
        feeds.append(Feed(some.name, some.name, some.dtype, None))
    return recognised(graph), feeds


def _without_empty(graph: Graph) -> Graph:
    """The graph without outputs that have no elements, unless it has no others."""
    known = [name for name in graph.outputs if name in graph.values]
    empty = tuple(name for name in known if all(0 in shape for shape in graph.values[name].shapes))
    if not empty or len(empty) == len(graph.outputs):
        return graph
    return replace(graph, outputs=tuple(name for name in graph.outputs if name not in empty), empty=empty)


def _fixed(examiner: Examiner, one: Given, deciding: set[str], sample: Mapping[str, Tensor]) -> bool:
    """Whether an input is a constant: it decides a shape and is in the sample, or has no elements."""
    if one.name in deciding and one.name in sample:
        examiner.constant(one.name, sample[one.name], is_weight=False)
        return True
    if 0 in one.shape:
        empty = np.zeros([e if isinstance(e, int) else 1 for e in one.shape], one.dtype)
        examiner.constant(one.name, empty, is_weight=False)
        return True
    return False


def _declare(
    examiner: Examiner, given: Sequence[Given], free: Mapping[str, str], rows: Mapping[str, int | None]
) -> list[Feed]:
    """The inputs that stay inputs, with their shapes at every point. Raises Unsupported."""
    feeds: list[Feed] = []
    for one in given:
        axis = rows.get(one.name)
        if axis is None and BATCH in free.values():
            message = f"the input `{one.name}` has no axis that counts rows"
            raise Unsupported(message, "make it a constant, or give it the batch axis")
        shapes = tuple(_shape_at(one, free, axis if "" in free else None, point) for point in examiner.points)
        examiner.free(one.name, one.dtype, shapes)
        feeds.append(Feed(one.name, one.name, one.dtype, axis))
    return feeds


def _shape_at(one: Given, free: Mapping[str, str], static: int | None, point: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of an input at a point; `static` is an axis of a fixed size that is taken to count rows."""
    return tuple(
        point[BATCH] if axis == static else extent if isinstance(extent, int) else point[free[extent]]
        for axis, extent in enumerate(one.shape)
    )


# Inputs of operators that decide a shape, an axis or a setting.
_DECIDING: Mapping[str, tuple[int, ...]] = {
    "Reshape": (1,), "Expand": (1,), "Tile": (1,), "ConstantOfShape": (0,), "Range": (0, 1, 2), "Slice": (1, 2, 3, 4),
    "Pad": (1, 2, 3), "Squeeze": (1,), "Unsqueeze": (1,), "Split": (1,), "OneHot": (1,), "TopK": (1,), "CumSum": (1,),
    "CumProd": (1,), "Resize": (1, 2, 3), "Upsample": (1,), "Trilu": (1,), "CenterCropPad": (1,), "Dropout": (1, 2),
    "Loop": (0, 1), "If": (0,), "Compress": (1,), "Col2Im": (1, 2), "DFT": (1, 2), "STFT": (1, 3), "HannWindow": (0,),
    "HammingWindow": (0,),
    "BlackmanWindow": (0,), "AffineGrid": (1,), "MelWeightMatrix": (0, 1, 2, 3, 4), "MaxUnpool": (2,), "Clip": (),
    "ReduceSum": (1,), "ReduceMean": (1,), "ReduceMax": (1,), "ReduceMin": (1,), "ReduceProd": (1,), "ReduceL1": (1,),
    "ReduceL2": (1,), "ReduceLogSum": (1,), "ReduceLogSumExp": (1,), "ReduceSumSquare": (1,), "ReverseSequence": (),
    "LSTM": (4,), "GRU": (4,), "RNN": (4,), "NonMaxSuppression": (2, 3, 4),
}  # fmt: skip


def _deciding(model: Any, given: Sequence[Given]) -> set[str]:
    names = {one.name for one in given}
    found: set[str] = set()
    for node in model.graph.node:
        places = _DECIDING.get(node.op_type, ())
        found |= {node.input[place] for place in places if place < len(node.input) and node.input[place] in names}
    return found


def checked(made: ProgramText) -> Imported:
    """The program of the formatted text, with the weights by path. Raises Unsupported where it is refused."""
    try:
        text = format_source(Source("model.dl", made.text))
        program = driver.load_text(text, "model.dl", None, (), lambda question: dict.fromkeys(question.names, 8))
    except SourceError as error:
        raise Unsupported(f"the text of the model was refused: {error}", "report this with the model") from error
    specs = program.parameters
    if len(specs) != len(made.weights):
        raise Unsupported(f"the text makes {len(specs)} tensors, and the model has {len(made.weights)}", "report this")
    weights: dict[str, Tensor] = {}
    for spec, weight in zip(specs, made.weights, strict=True):
        shape = tuple(spec.type.shape)
        if shape != weight.content.shape:
            raise Unsupported(
                f"`{spec.path}` is {shape}, and `{weight.origin[0]}` is {weight.content.shape}", "report this"
            )
        weights[spec.path] = np.asarray(weight.content, order="C")
    return Imported(text, weights, program, made.inputs, {own: name for name, own in made.outputs.items()})


def predicted(imported: Imported, inputs: Mapping[str, Tensor], options: Options) -> dict[str, Tensor]:
    """The outputs of the program by their names in ONNX, of arrays as ONNX takes them."""
    program = imported.program
    inputs = {_ROWS.name: np.zeros((), _ROWS.dtype), **inputs}
    arrays = {f.given: _rows_first(inputs[f.name], f.rows) for f in imported.feeds}
    open_sizes = driver.data_dimensions(program)
    if open_sizes:
        found_sizes = {
            str(name): arrays[spec.name].shape[axis]
            for spec in program.inputs
            for axis, name in enumerate(spec.dimension_names)
            if name in open_sizes
        }
        program = driver.resized(program, found_sizes)
    tensors = driver.allocate(program, options)
    for path, content in imported.weights.items():
        tensors.write(path, content)
    count = len(next(iter(arrays.values())))
    executable = driver.compile_program(program, PREDICTION, options)
    results = executable.run(Steps(tensors, arrays, np.arange(count), max(count, 1), 0))
    kinds = {output.name: numpy_dtype(output.value.type.dtype) for output in program.inference_graph.outputs}
    lasting = {name: values[-1].astype(kinds[name]) for name, values in results.scalars.items()}
    found = {**results.arrays, **lasting}
    empty = {e.name: np.zeros([count if n is None else n for n in e.shape], e.dtype) for e in imported.empty}
    return {**{name: found[own] for own, name in imported.output_names.items()}, **empty}


def _rows_first(array: Tensor, rows: int | None) -> Tensor:
    return array[None] if rows is None else np.ascontiguousarray(np.moveaxis(array, rows, 0))
