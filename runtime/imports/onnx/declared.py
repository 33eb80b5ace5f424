"""The inputs that an ONNX file declares, checked beside sizes and a sample; and the ways to see rows in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler.errors.diagnostics import DataError
from compiler.support.record import record
from runtime.imports.onnx.extents import BATCH
from runtime.imports.onnx.graph import Tensor, Unsupported
from runtime.imports.onnx.model_file import onnx_module
from runtime.imports.onnx.names import identifier

_LONGEST_NAME = 1000  # bytes of UTF-8; the fields of an npz file take up to 65,535


@record
class Given:
    """An input as the ONNX file declares it: sizes are numbers, or names of free ones."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


def check_names(model: Any) -> None:
    """Raise DataError where the name of an input or output is too long for the recorded arrays."""
    for value in (*model.graph.input, *model.graph.output):
        if len(value.name.encode()) > _LONGEST_NAME:
            where = f"the name that begins with `{value.name[:40]}`"
            raise DataError(f"{where} is longer than {_LONGEST_NAME} bytes", fix="export the model with shorter names")


def declared_inputs(model: Any, sizes: Mapping[str, int], sample: Mapping[str, Tensor]) -> list[Given]:
    onnx = onnx_module()
    known = {tensor.name for tensor in model.graph.initializer}
    found: list[Given] = []
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
            found.append(Given(value.name, dtype, sample[value.name].shape))
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
        found.append(Given(value.name, dtype, tuple(shape)))
    unknown = [name for name in sizes if not any(name in _names(g) for g in _undecided(model))]
    if unknown:
        free = sorted({n for g in _undecided(model) for n in _names(g)})
        raise DataError(f"no axis is called `{unknown[0]}`", fix=f"free axes: {', '.join(free) or 'none'}")
    return found


def check_sample(model: Any, given: Sequence[Given], sample: Mapping[str, Tensor]) -> None:
    """Raise DataError where the sample has an array that is no input, or one of another shape or type than is declared.

    An axis that is called as another has its size.
    """
    names = [value.name for value in model.graph.input]
    unknown = [name for name in sample if name not in names]
    if unknown:
        raise DataError(
            f"--sample has `{unknown[0]}`, which is no input of the model", fix=f"inputs: {', '.join(names)}"
        )
    for one in given:
        shape = sample[one.name].shape if one.name in sample else one.shape
        pairs = zip(shape, one.shape, strict=True)
        if len(shape) != len(one.shape) or any(isinstance(want, int) and got != want for got, want in pairs):
            wanted = ", ".join(str(extent) for extent in one.shape)
            raise DataError(
                f"--sample has `{one.name}` with the shape {list(shape)}", fix=f"the model takes [{wanted}]"
            )
        if one.name in sample and sample[one.name].dtype.name != one.dtype:
            kind = sample[one.name].dtype.name
            raise DataError(f"--sample has `{one.name}` as {kind}", fix=f"the model takes {one.dtype}")
    _check_sizes([one for one in given if one.name in sample], sample)


def _check_sizes(given: Sequence[Given], sample: Mapping[str, Tensor]) -> None:
    """Raise DataError where axes of one name have two sizes."""
    found: dict[str, tuple[str, int]] = {}
    for one in given:
        for extent, size in zip(one.shape, sample[one.name].shape, strict=True):
            if isinstance(extent, str):
                name, known = found.setdefault(extent, (one.name, size))
                if known != size:
                    sizes = f"{known} in `{name}` and {size} in `{one.name}`"
                    raise DataError(f"in --sample, the axis `{extent}` is {sizes}", fix="give it one size")


def _undecided(model: Any) -> list[Any]:
    return [value.type.tensor_type for value in model.graph.input if value.type.HasField("tensor_type")]


def _names(tensor: Any) -> list[str]:
    return [extent.dim_param for extent in tensor.shape.dim if extent.dim_param]


def attempts_of(
    given: Sequence[Given], sample: Mapping[str, Tensor]
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


def _rows_name(given: Sequence[Given], names: Sequence[str]) -> str | None:
    """The free size that counts rows: that of the first axis, or the one that says so."""
    for name in names:
        if "batch" in name.lower() or name in ("N", "n"):
            return name
    first = [one.shape[0] for one in given if one.shape and isinstance(one.shape[0], str)]
    return str(first[0]) if first else None
