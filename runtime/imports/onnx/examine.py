"""A checked ONNX model to the small graph: types at several points of the free sizes, and all that is known folded.

A value that is computed from shapes alone, such as the target of a reshape, is evaluated at each point; whatever
formula led there, its numbers at the points say how it depends on the sizes. Branches that are decided, loops of a
known number of rounds and operators that ONNX defines by others are written out.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from runtime.imports.onnx.classical import CLASSICAL, CLASSICAL_DOMAIN
from runtime.imports.onnx.extents import BATCH
from runtime.imports.onnx.flow import FLOW
from runtime.imports.onnx.graph import Graph, Node, Tensor, Unsupported, Value
from runtime.imports.onnx.model_file import evaluated, onnx_module, place_of
from runtime.imports.onnx.operators.helpers import how_to_write
from runtime.imports.onnx.result_shapes import COUNTING, RESULT_SHAPES, shape_of_result

_DRAWS = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
_LITERAL = re.compile(r"val_\d+$|.*Constant")  # names that exporters give to numbers of the text
_MOST_NODES = 200_000
_LARGEST_CONTENT = 4096  # elements of a tensor that type inference is shown


class Examiner:
    """Walks the nodes in order. `known_ops` have `.dl` text; others are expanded where ONNX defines them by others."""

    def __init__(
        self, model: Any, points: Sequence[Mapping[str, int]], known_ops: frozenset[str], rows: int | None
    ) -> None:
        """`rows` is the fixed size of the axis that is taken to count rows; targets of `Reshape` have that number."""
        self.onnx = onnx_module()
        self.model, self.points, self.known_ops = model, points, known_ops
        self.opsets = {one.domain: one.version for one in model.opset_import}
        self.values: dict[str, Value] = {}
        self.nodes: list[Node] = []
        self.missing: list[tuple[str, str]] = []
        self.rows = rows
        self.reads = Counter[str](name for proto in model.graph.node for name in proto.input)
        self.count = 0
        self.visited = 0
        self.wanted: set[str] = set()  # values that would have to be known
        self.parents: dict[str, tuple[str, ...]] = {}

    def constant(self, name: str, tensor: Tensor, is_weight: bool) -> None:
        is_weight = is_weight and tensor.dtype.kind == "f" and not _is_literal(name, tensor)
        weight = (name,) if is_weight and bool(np.isfinite(tensor).all()) else ()
        contents = (tensor,) * len(self.points)
        self.values[name] = Value(name, tensor.dtype.name, (tensor.shape,) * len(self.points), contents, weight)

    def free(self, name: str, dtype: str, shapes: tuple[tuple[int, ...], ...]) -> None:
        self.values[name] = Value(name, dtype, shapes)

    def graph(self, inputs: Sequence[str]) -> Graph:
        """The graph of the model. Raises Unsupported, where anything is missing, with all of it."""
        for tensor in self.model.graph.initializer:
            if tensor.name not in self.values:
                self.constant(tensor.name, self.onnx.numpy_helper.to_array(tensor), is_weight=True)
        if self.model.graph.sparse_initializer:
            raise Unsupported("a sparse tensor among the weights", "store it densely, and export again")
        self.visit(self.model.graph.node, self.opsets)
        outputs = tuple(output.name for output in self.model.graph.output)
        return Graph(tuple(inputs), outputs, self.nodes, self.values, self.points)

    def visit(self, protos: Sequence[Any], opsets: Mapping[str, int]) -> None:
        for proto in protos:
            self.visited += 1
            self.parents.update(dict.fromkeys(proto.output, tuple(proto.input)))
            if self.visited > _MOST_NODES:
                raise Unsupported(f"more than {_MOST_NODES:,} operations, with loops written out")
            if any(name and name not in self.values for name in proto.input):
                continue  # the results are not known either, and nothing that reads them is judged
            try:
                self._node(proto, opsets)
            except Unsupported as error:
                self.wanted.update([error.unknown] if error.unknown else [])
                self.missing.append((place_of(proto), f"{error}{'; ' + error.fix if error.fix else ''}"))

    def _node(self, proto: Any, opsets: Mapping[str, int]) -> None:
        if proto.domain == CLASSICAL_DOMAIN and proto.op_type in CLASSICAL:
            CLASSICAL[proto.op_type](self, proto, opsets)
            return
        if proto.domain not in ("", "ai.onnx"):
            raise Unsupported(f"the operator `{proto.op_type}` of `{proto.domain}`", "export with standard operators")
        version = opsets.get("", opsets.get("ai.onnx", 0))
        flow = FLOW.get(proto.op_type)
        if flow is not None:
            flow(self, proto, opsets)
            return
        if proto.op_type == "Constant":
            self.constant(proto.output[0], self._attributes_of(proto)["value"], is_weight=False)
            return
        schema = self._schema(proto.op_type, version)
        if self.rows is not None and proto.op_type == "Reshape" and len(proto.input) > 1:
            proto = self._with_rows(proto, self.rows)
        contents = self._evaluated(proto, version)
        if contents is None and proto.op_type not in self.known_ops and self._expanded(proto, schema, version):
            return
        if contents is None and proto.op_type not in self.known_ops:
            unknown = proto.input[0] if proto.op_type in COUNTING else ""
            raise Unsupported(f"the operator `{proto.op_type}`", how_to_write(proto.op_type), unknown)
        types = self._types(proto, schema, version) if contents is None else None
        self._record(proto, version, contents, types)

    def _with_rows(self, proto: Any, rows: int) -> Any:
        """A `Reshape` whose target has the batch in place of a fixed number of rows, if that is how sizes agree."""
        value, target = self.values[proto.input[0]], self.values[proto.input[1]]
        if target.constant is None or value.contents is not None:
            return proto
        found: list[Tensor] = []
        for point, shape in zip(self.points, value.shapes, strict=True):
            wanted = target.constant.astype(np.int64).copy()
            wanted = np.where(
                (wanted == 0) & (not proto.attribute), [*shape, *[1] * len(wanted)][: len(wanted)], wanted
            )
            whole, axes = int(np.prod(shape)), [i for i, e in enumerate(shape) if e % point[BATCH] == 0 and e]
            changes = (-1 in wanted and wanted[0] == rows) or (-1 not in wanted and int(np.prod(wanted)) != whole)
            if not axes or not changes:
                return proto
            before = int(np.prod(shape[: axes[0]]))
            place = next(
                (i for i in range(len(wanted)) if int(np.prod(wanted[:i])) == before and wanted[i] % rows == 0), None
            )
            if place is None or wanted[place] == -1:
                return proto
            wanted[place] = wanted[place] // rows * point[BATCH]
            found.append(wanted)
        name = f"{proto.input[1]} of {place_of(proto)}"
        shapes = tuple(one.shape for one in found)
        self.values[name] = Value(name, "int64", shapes, tuple(found))
        copy = self.onnx.NodeProto()
        copy.CopyFrom(proto)
        copy.input[1] = name
        return copy

    def _schema(self, op: str, version: int) -> Any:
        try:
            return self.onnx.defs.get_schema(op, version, "")
        except self.onnx.defs.SchemaError as error:
            raise Unsupported(f"ONNX has no operator `{op}` at opset {version}", "export again") from error

    def _record(self, proto: Any, version: int, contents: Any, types: Any) -> None:
        weight = tuple(dict.fromkeys(w for name in proto.input if name for w in self.values[name].weight))
        for i, name in enumerate(proto.output):
            if not name:
                continue
            if contents is not None:
                found = tuple(content[i] for content in contents)
                shapes = tuple(one.shape for one in found)
                origin = weight if found[0].dtype.kind == "f" else ()  # the shape of a weight is none
                self.values[name] = Value(name, found[0].dtype.name, shapes, found, origin)
            else:
                dtypes, shapes = zip(*(one[name] for one in types), strict=True)
                self.values[name] = Value(name, dtypes[0], tuple(shapes))
        outputs = [self.values[name] for name in proto.output if name]
        if not all(value.is_constant for value in outputs):
            attributes = self._attributes_of(proto)
            node = Node(proto.op_type, tuple(proto.input), tuple(proto.output), attributes, place_of(proto), version)
            self.nodes.append(node)

    def _attributes_of(self, proto: Any) -> dict[str, Any]:
        onnx = self.onnx
        found: dict[str, Any] = {}
        for attribute in proto.attribute:
            value: Any = onnx.helper.get_attribute_value(attribute)
            name = attribute.name
            if isinstance(value, onnx.TensorProto):
                value = onnx.numpy_helper.to_array(value)
            elif isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            elif isinstance(value, list | tuple):
                several = cast("list[Any]", value)
                value = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in several]
            if proto.op_type == "Constant" and name.startswith("value_"):
                if name.startswith("value_string"):
                    raise Unsupported("a constant text")
                value = np.array(value, np.float32 if name.startswith("value_float") else np.int64)
                name = "value"
            found[name] = value
        if proto.op_type == "Constant" and not isinstance(found.get("value"), np.ndarray):
            raise Unsupported("a constant that is no tensor")
        return found

    def inputs_behind(self, names: Iterable[str]) -> frozenset[str]:
        """The values without a maker on which others depend."""
        pending, seen = list(names), set[str]()
        while pending:
            name = pending.pop()
            if name not in seen:
                seen.add(name)
                pending += self.parents.get(name, ())
        return frozenset(name for name in seen if name and name not in self.parents)

    # Contents.

    def _evaluated(self, proto: Any, version: int) -> list[tuple[Tensor, ...]] | None:
        """The results at each point, where they follow from what is known."""
        op = proto.op_type
        if op in ("Shape", "Size"):
            value = self.values[proto.input[0]]
            attributes = self._attributes_of(proto)
            part = slice(attributes.get("start", 0), attributes.get("end"))
            if op == "Size":
                return [(np.array(int(np.prod(shape)), np.int64),) for shape in value.shapes]
            return [(np.array(shape[part], np.int64),) for shape in value.shapes]
        operands = [self.values[name] if name else None for name in proto.input]
        if op in _DRAWS or any(value is not None and value.contents is None for value in operands):
            return None
        if op == "Gather" and operands[0] is not None and operands[0].weight:
            return None  # rows of a table are chosen in the text, so that the whole table is its parameter
        if op == "Transpose" and self.reads[proto.input[0]] > 1 and operands[0] is not None and operands[0].weight:
            return None  # one weight in two places, such as a table that is the head as well
        found: list[tuple[Tensor, ...]] = []
        before: list[Tensor | None] = []
        known = [None if value is None else value.contents for value in operands]
        for point in range(len(self.points)):
            inputs = [None if contents is None else contents[point] for contents in known]
            if point and all(a is b for a, b in zip(inputs, before, strict=True)):
                found.append(found[-1])
                continue
            before = inputs
            result = self._run(proto, version, inputs)
            if result is None:
                return None
            found.append(result)
        return found

    def _run(self, proto: Any, version: int, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...] | None:
        if proto.op_type in _OWN:
            attributes = self._attributes_of(proto)
            return None if attributes.get("batch_dims", 0) else (_OWN[proto.op_type](inputs, attributes),)
        feeds = {name: array for name, array in zip(proto.input, inputs, strict=True) if name}
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                results = evaluated(proto, {"": version}, feeds)
        except Exception:  # the evaluator does not know every form; then the operation stays, and is judged as text
            return None
        arrays = tuple(np.asarray(result) for result in results if result is not None)
        usable = len(arrays) == len(proto.output) and all(array.dtype.kind in "fiub" for array in arrays)
        return arrays if usable else None

    # Types.

    def _types(self, proto: Any, schema: Any, version: int) -> list[dict[str, tuple[str, tuple[int, ...]]]]:
        """The element type and shape of each result at each point. Raises Unsupported where they are not known."""
        from onnx.shape_inference import infer_node_outputs

        found: list[dict[str, tuple[str, tuple[int, ...]]]] = []
        bare = self.onnx.NodeProto()
        bare.CopyFrom(proto)
        for point in range(len(self.points)):
            if point and self._same_as_before(proto, point):
                found.append(found[-1])
                continue
            inputs = {name: self._type_proto(name, point) for name in proto.input if name}
            data = {name: tensor for name in proto.input if name and (tensor := self._content(name, point)) is not None}
            opsets = [self.onnx.helper.make_opsetid("", version)]
            try:
                inferred = infer_node_outputs(schema, bare, inputs, data, opset_imports=opsets)
            except Exception as error:
                reason = str(error).strip().splitlines()
                raise Unsupported(
                    f"the types of `{proto.op_type}` do not agree: {reason[-1] if reason else error}"
                ) from error
            found.append(
                {
                    name: self._shaped(proto, inferred.get(name) or self.onnx.TypeProto(), point)
                    for name in proto.output
                    if name
                }
            )
        return found

    def _same_as_before(self, proto: Any, point: int) -> bool:
        return all(
            self.values[name].shapes[point] == self.values[name].shapes[point - 1]
            and (self.values[name].contents is None or self.values[name].is_constant)
            for name in proto.input
            if name
        )

    def _type_proto(self, name: str, point: int) -> Any:
        value = self.values[name]
        element = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
        return self.onnx.helper.make_tensor_type_proto(element, value.shapes[point])

    def _content(self, name: str, point: int) -> Any:
        contents = self.values[name].contents
        if contents is None or contents[point].size > _LARGEST_CONTENT:
            return None
        return self.onnx.numpy_helper.from_array(contents[point], name)

    def _shaped(self, proto: Any, inferred: Any, point: int) -> tuple[str, tuple[int, ...]]:
        whole = inferred.HasField("tensor_type") and inferred.tensor_type.HasField("shape")
        if not whole or proto.op_type in RESULT_SHAPES:
            operands = [self.values[name] if name else None for name in proto.input]
            shaped = shape_of_result(proto.op_type, operands, self._attributes_of(proto), point)
            if shaped is not None:
                return shaped
        if not whole or not all(d.HasField("dim_value") for d in inferred.tensor_type.shape.dim):
            places = proto.input if proto.op_type in ("Range", "ConstantOfShape") else proto.input[1:]
            unknown = [i for i in places if i and self.values[i].contents is None]
            of = f"the numbers in `{unknown[0]}`" if unknown else "its data"
            how = "a tensor of .dl has a fixed shape: leave this operation to the program around the model"
            if unknown:
                how = f"make `{unknown[0]}` a constant: give it in --sample, or export it so"
            message = f"the shape that `{proto.op_type}` gives depends on {of}"
            raise Unsupported(message, how, unknown[0] if unknown else "")
        dtype = self.onnx.helper.tensor_dtype_to_np_dtype(inferred.tensor_type.elem_type).name
        return dtype, tuple(d.dim_value for d in inferred.tensor_type.shape.dim)

    # Operators by others.

    def _expanded(self, proto: Any, schema: Any, version: int) -> bool:
        """Write an operator out by the function that ONNX defines it with; False where it has none."""
        onnx = self.onnx
        types = [self._type_proto(name, 0).SerializeToString() if name else b"" for name in proto.input]
        function = None
        if schema.has_context_dependent_function:
            content = schema.get_context_dependent_function(proto.SerializeToString(), types)
            function = onnx.FunctionProto.FromString(content) if content else None
        if (function is None or not function.node) and schema.has_function:
            function = schema.function_body
            if isinstance(function, bytes):
                function = onnx.FunctionProto.FromString(function)
        if function is None or not function.node:
            return False
        given = {attribute.name: attribute for attribute in proto.attribute}
        usual = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.type}
        given = {**usual, **{a.name: a for a in function.attribute_proto}, **given}
        names = dict(zip(function.input, [*proto.input, *[""] * len(function.input)], strict=False))
        names |= dict(zip(function.output, proto.output, strict=False))
        opsets = {one.domain: one.version for one in function.opset_import} or {"": version}
        self._inlined(function.node, names, given, opsets, place_of(proto))
        return True

    def _inlined(
        self,
        protos: Sequence[Any],
        names: dict[str, str],
        attributes: Mapping[str, Any],
        opsets: Mapping[str, int],
        place: str,
    ) -> None:
        """Visit the nodes of a body whose names are those of `names`, or else new."""
        self.count += 1
        prefix = f"{place}/{self.count}/"
        names = {"": "", **names}
        for proto in protos:
            for name in proto.output:
                if name and not names.get(name):
                    names[name] = prefix + name
            copy = self.onnx.NodeProto()
            copy.CopyFrom(proto)
            copy.name = proto.name or place
            copy.input[:] = [names.get(name, name) for name in proto.input]
            copy.output[:] = [names[name] for name in proto.output]
            kept = [a for a in proto.attribute if not a.ref_attr_name]
            for attribute in proto.attribute:
                if attribute.ref_attr_name in attributes:
                    referred = self.onnx.AttributeProto()
                    referred.CopyFrom(attributes[attribute.ref_attr_name])
                    referred.name = attribute.name
                    kept.append(referred)
            del copy.attribute[:]
            copy.attribute.extend(kept)
            for attribute in copy.attribute:
                if attribute.HasField("g"):
                    _rename_outer(attribute.g, names)
            self.visit([copy], opsets)

    def body(self, graph: Any, names: dict[str, str], opsets: Mapping[str, int], place: str) -> list[str]:
        """Visit a graph inside of a node, and give the names of its results."""
        self.count += 1
        prefix = f"{place}/{self.count}/"
        for tensor in graph.initializer:
            names[tensor.name] = prefix + tensor.name
            self.constant(names[tensor.name], self.onnx.numpy_helper.to_array(tensor), is_weight=True)
        names = {"": "", **names}
        for output in (name for proto in graph.node for name in proto.output):
            names[output] = prefix + output if output else ""
        self._inlined(graph.node, names, {}, opsets, place)
        return [str(names.get(output.name, output.name)) for output in graph.output]

    def alias(self, name: str, source: str) -> None:
        """`name` is `source`."""
        value = self.values.get(source)
        if value is None:
            return
        self.values[name] = Value(name, value.dtype, value.shapes, value.contents, value.weight)
        if not value.is_constant:
            self.nodes.append(Node("Identity", (source,), (name,)))

    def decided(self, name: str, of: str) -> Tensor:
        """The content of a value on which the flow of the model depends. Raises Unsupported."""
        constant = self.values[name].constant
        if constant is None:
            how = "a program of .dl has one flow: export the branch that is used"
            raise Unsupported(f"{of} depends on the data", how, name)
        return constant


def _rename_outer(graph: Any, names: Mapping[str, str]) -> None:
    """Give the values that a graph inside of a node takes from outside their new names."""
    own = {name for node in graph.node for name in node.output} | {v.name for v in graph.input}
    own |= {t.name for t in graph.initializer}
    for node in graph.node:
        node.input[:] = [name if name in own else names.get(name, name) for name in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_outer(attribute.g, {k: v for k, v in names.items() if k not in own})
    for output in graph.output:
        if output.name not in own and output.name in names:
            output.name = names[output.name]


def _is_literal(name: str, tensor: Tensor) -> bool:
    """Whether one number among the initialisers is no weight: by its name, or a zero that belongs to no module."""
    return tensor.size == 1 and (_LITERAL.match(name) is not None or ("." not in name and not tensor.any()))


def _taken_along(inputs: Sequence[Tensor | None], attributes: Mapping[str, Any]) -> Tensor:
    """`GatherElements`, whose indices need not reach as far as the tensor."""
    data, index = inputs
    assert data is not None
    assert index is not None
    axis = attributes.get("axis", 0) % data.ndim
    part = tuple(slice(None) if i == axis else slice(0, index.shape[i]) for i in range(data.ndim))
    return np.take_along_axis(data[part], index, axis)


def _taken_at(inputs: Sequence[Tensor | None], attributes: Mapping[str, Any]) -> Tensor:
    """`GatherND` without axes in common."""
    del attributes
    data, index = inputs
    assert data is not None
    assert index is not None
    return data[tuple(np.moveaxis(index, -1, 0))]


def _with_axes(inputs: Sequence[Tensor | None], attributes: Mapping[str, Any]) -> Tensor:
    """`Unsqueeze`, of which old opsets give the axes as a setting."""
    data, axes = (*inputs, None)[:2]
    assert data is not None
    given: Sequence[int] = attributes["axes"] if axes is None else [int(axis) for axis in axes]
    return np.expand_dims(data, tuple(given))


# Operators that the evaluator of `onnx` does not know in every form.
_OWN: dict[str, Callable[[Sequence[Tensor | None], Mapping[str, Any]], Tensor]] = {
    "GatherElements": _taken_along,
    "GatherND": _taken_at,
    "Unsqueeze": _with_axes,
}
