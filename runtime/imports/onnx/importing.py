"""An ONNX file to a model file, weights and recorded inputs and outputs, compared with the ONNX model's own results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

import numpy as np

from compiler import driver
from compiler.driver import PREDICTION, Options, Steps
from compiler.errors.diagnostics import DataError, Source, SourceError
from compiler.support.record import record
from compiler.syntax.format import format_source
from compiler.types import numpy_dtype
from runtime.imports.onnx.examine import Examiner
from runtime.imports.onnx.extents import BATCH, points_of
from runtime.imports.onnx.graph import Graph, Tensor, Undecided, Unsupported
from runtime.imports.onnx.model_file import onnx_module, read_model
from runtime.imports.onnx.names import identifier
from runtime.imports.onnx.operators.table import TABLE
from runtime.imports.onnx.passes.pipeline import recognised
from runtime.imports.onnx.program import Feed, ProgramText, program_text, refuse, title_of
from runtime.imports.onnx.recording import Drawn, distance, drawn_inputs, own_results
from runtime.imports.onnx.writer import missing_of
from runtime.inference.given_names import GivenInput, GivenNames
from runtime.inference.model import batch_axes

_LONGEST_NAME = 1000  # bytes of UTF-8; the fields of an npz file take up to 65,535
MOST_APART = 1e-3  # of a program that is the model
BY_ROUNDING = 1e-5  # a difference that rounding alone explains


@record
class Imported:
    """`text` is the model file, `weights` its tensors by path, `program` the program that they belong to.

    `inputs` and `outputs` are recorded ones of the ONNX model, and `apart` is how far the program is from them.
    `together`: the rows of a batch have an influence on each other.
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

    @property
    def names(self) -> GivenNames:
        inputs = {feed.given: GivenInput(feed.name, feed.rows) for feed in self.feeds}
        return GivenNames(inputs, self.output_names, self.together)


@record
class _Given:
    """An input as the ONNX file declares it: sizes are numbers, or names of free ones."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


def import_model(
    path: Path, sizes: Mapping[str, int], sample: Mapping[str, Tensor], options: Options | None = None
) -> Imported:
    """Read an ONNX file. `sizes` fix free axes by name, `sample` gives inputs; those that decide a shape are fixed.

    `options` compile the program that is compared with the ONNX model.

    Raises DataError, and Unsupported with all that is missing.
    """
    model = read_model(path)
    _check_names(model)
    given = _declared_inputs(model, sizes, sample)
    attempts = _attempts(given, sample)
    error: Unsupported | None = None
    for free, feeds in attempts:
        try:
            return _import(model, path, given, free, feeds, sample, options or Options(threads=1))
        except Unsupported as found:
            error = error or found
    assert error is not None
    raise error


def _check_names(model: Any) -> None:
    """Raise DataError where the name of an input or output is too long for the recorded arrays."""
    for value in (*model.graph.input, *model.graph.output):
        if len(value.name.encode()) > _LONGEST_NAME:
            where = f"the name that begins with `{value.name[:40]}`"
            raise DataError(f"{where} is longer than {_LONGEST_NAME} bytes", fix="export the model with shorter names")


def _declared_inputs(model: Any, sizes: Mapping[str, int], sample: Mapping[str, Tensor]) -> list[_Given]:
    onnx = onnx_module()
    known = {tensor.name for tensor in model.graph.initializer}
    found: list[_Given] = []
    for value in model.graph.input:
        if value.name in known:
            continue
        if not value.type.HasField("tensor_type"):
            raise Unsupported(f"the input `{value.name}` is no tensor", "give its parts as inputs of their own")
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        if not tensor.HasField("shape"):
            if value.name not in sample:
                raise Unsupported(
                    f"the input `{value.name}` has no declared shape", "give an example of it in --sample"
                )
            found.append(_Given(value.name, dtype, sample[value.name].shape))
            continue
        shape: list[int | str] = []
        for axis, extent in enumerate(tensor.shape.dim):
            size: int | str = extent.dim_value if extent.HasField("dim_value") else extent.dim_param
            if size == "" and value.name in sample and sample[value.name].ndim > axis and axis:
                size = sample[value.name].shape[axis]
            elif size == "":
                size = BATCH if axis == 0 else f"{identifier(value.name)}_{axis}"
            shape.append(sizes.get(size, size) if isinstance(size, str) else size)
        if any(isinstance(extent, int) and not 0 <= extent <= 2**31 for extent in shape):
            raise DataError(
                f"the input `{value.name}` is declared with the shape {shape}",
                fix="an extent is a whole number from 0 to 2147483648: export the model with another shape",
            )
        found.append(_Given(value.name, dtype, tuple(shape)))
    unknown = [name for name in sizes if not any(name in _names(g) for g in _undecided(model))]
    if unknown:
        free = sorted({n for g in _undecided(model) for n in _names(g)})
        raise DataError(f"no axis is called `{unknown[0]}`", fix=f"free axes: {', '.join(free) or 'none'}")
    return found


def _undecided(model: Any) -> list[Any]:
    return [value.type.tensor_type for value in model.graph.input if value.type.HasField("tensor_type")]


def _names(tensor: Any) -> list[str]:
    return [extent.dim_param for extent in tensor.shape.dim if extent.dim_param]


def _attempts(
    given: Sequence[_Given], sample: Mapping[str, Tensor]
) -> list[tuple[dict[str, str], dict[str, int | None]]]:
    """Ways to see the rows: names of free sizes by those of ONNX, and the axis of rows of each input."""
    names = list(dict.fromkeys(size for one in given for size in one.shape if isinstance(size, str)))
    rows = _rows_name(given, names)
    found: list[tuple[dict[str, str], dict[str, int | None]]] = []
    if rows is not None:
        taken = {BATCH}
        free = {rows: BATCH}
        for name in names:
            if name != rows:
                own = identifier(name, "size")
                while own in taken:
                    own += "_"
                taken.add(own)
                free[name] = own
        found.append((free, {one.name: one.shape.index(rows) for one in given if rows in one.shape}))
    elif not names and given:
        first = {one.shape[0] for one in given if one.shape}
        if len(first) == 1 and all(one.shape for one in given):
            found.append(({"": BATCH}, {one.name: 0 for one in given}))
    if not names:
        found.append(({}, {one.name: None for one in given}))
    return found


def _rows_name(given: Sequence[_Given], names: Sequence[str]) -> str | None:
    """The free size that counts rows: that of the first axis, or the one that says so."""
    for name in names:
        if "batch" in name.lower() or name in ("N", "n"):
            return name
    first = [one.shape[0] for one in given if one.shape and isinstance(one.shape[0], str)]
    return str(first[0]) if first else None


def _import(
    model: Any,
    path: Path,
    given: Sequence[_Given],
    free: Mapping[str, str],
    rows: Mapping[str, int | None],
    sample: Mapping[str, Tensor],
    options: Options,
) -> Imported:
    points: list[dict[str, int]] = points_of(list(free.values())) if free else [{}]
    graph, feeds = _decided(model, given, free, rows, sample, points)
    named = model.graph.name
    usual = not named or named in ("main_graph", "torch_jit", "torch-jit-export") or "_jit" in named
    made = program_text(graph, title_of(path.stem if usual else named), feeds, f"## Imported from {path.name}.")
    imported = checked(made)
    compared = _compared(model, imported, _recorded(graph, given, free, feeds, sample), "" in free, options)
    if compared.apart > MOST_APART and "" in free:
        raise Unsupported("the rows of the model are no batch")
    return compared


def _decided(
    model: Any,
    given: Sequence[_Given],
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
    graph: Graph, given: Sequence[_Given], free: Mapping[str, str], feeds: Sequence[Feed], sample: Mapping[str, Tensor]
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
    apart = distance(found, wanted)
    rows = [feed for feed in imported.feeds if feed.rows is not None]
    alone = imported.program.outputs and rows and all(_is_alone(imported, inputs, found, options) for _ in range(1))
    if rowwise and not alone:
        apart = float("inf")
    together = bool(rows) and not alone
    return replace(imported, inputs=inputs, outputs=wanted, apart=apart, together=together)


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
    given: Sequence[_Given],
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
    missing, wanted = missing_of(graph)
    behind = examiner.inputs_behind(examiner.wanted | wanted) & set(sample) - fixed
    if behind:
        raise Undecided("numbers of inputs decide a shape", behind)
    if examiner.missing:
        refuse([*examiner.missing, *missing])
    negative = frozenset(name for name, array in sample.items() if array.dtype.kind == "i" and (array < 0).any())
    graph = replace(graph, may_be_negative=negative)
    if not feeds and not given:
        raise Unsupported("the model has no input", "its outputs are constants")
    if not feeds:
        some = next((one for one in given if 0 not in one.shape), given[0])
        feeds.append(Feed(some.name, some.name, some.dtype, None))
    return recognised(graph), feeds


def _fixed(examiner: Examiner, one: _Given, deciding: set[str], sample: Mapping[str, Tensor]) -> bool:
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
    examiner: Examiner, given: Sequence[_Given], free: Mapping[str, str], rows: Mapping[str, int | None]
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


def _shape_at(one: _Given, free: Mapping[str, str], static: int | None, point: Mapping[str, int]) -> tuple[int, ...]:
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
}  # fmt: skip


def _deciding(model: Any, given: Sequence[_Given]) -> set[str]:
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
        weights[spec.path] = np.ascontiguousarray(weight.content)
    return Imported(text, weights, program, made.inputs, {own: name for name, own in made.outputs.items()})


def predicted(imported: Imported, inputs: Mapping[str, Tensor], options: Options) -> dict[str, Tensor]:
    """The outputs of the program by their names in ONNX, of arrays as ONNX takes them."""
    program = imported.program
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
    return {name: found[own] for own, name in imported.output_names.items()}


def _rows_first(array: Tensor, rows: int | None) -> Tensor:
    return array[None] if rows is None else np.ascontiguousarray(np.moveaxis(array, rows, 0))
