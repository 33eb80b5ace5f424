"""A printed derivative to the graph that its text means, and whether it computes the bits of the derived gradient.

Where both graphs are the same behind all passes, they become the same kernels; otherwise both are run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from compiler.errors.diagnostics import CompilerBug, Source, SourceError
from compiler.frontend.elaborate import elaborate_function
from compiler.frontend.program import Program
from compiler.graph.ir import Graph, GraphInput, GraphOutput, Node, Role
from compiler.graph.printer import attributes_of, print_attribute
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.inspection.gradient.derivative import LOSS
from compiler.inspection.gradient.losses import ONLY_LOSS, LossNames
from compiler.inspection.gradient.text import Printed, gradient_text
from compiler.interface import Array, Options
from compiler.ops.contraction import Contraction
from compiler.ops.scan import Scan
from compiler.ops.sources import Constant, RandomUniform
from compiler.ops.spreading import Broadcast, Reshape
from compiler.programs.load import in_precision
from compiler.programs.stages import prepared
from compiler.programs.steps.training_step import StepBuilder
from compiler.support.arrays import np
from compiler.syntax.modules import load_modules
from compiler.types import DType, numpy_dtype

NAME = "gradient.dl"


def proved_text(program: Program, options: Options, loss: LossNames = ONLY_LOSS) -> Printed:
    """The text of the derivative of a program with one loss, with the gradients of which nothing is proved.

    The passes that compile a text are those that simplified what it says, and where they find more to simplify than the
    first time, sums may come in another order: such a text is written without the first time. Raises UsageError for
    what cannot be said.
    """
    texts = (gradient_text(program, is_simplified, loss=loss) for is_simplified in (True, False))
    tried = [(text, open_ones(program, text, options)) for text in islice(texts, 1)]
    if tried[0][1]:
        tried += [(text, open_ones(program, text, options)) for text in texts]
    text, others = min(tried, key=lambda one: len(one[1]))
    if others:
        names = ", ".join(others)
        said = f"# The order of additions may be another than in a training step, and so the last bits, in: {names}.\n"
        text = replace(text, text=said + text.text)
    return replace(text, unproved=others)


def open_ones(program: Program, text: Printed, options: Options) -> tuple[str, ...]:
    """The gradients that the text does not compute by the operations of the step, behind all passes."""
    settings = {s.name: float(s.value) for s in program.settings if isinstance(s.value, int | float)}
    derived = with_fixed_inputs(derived_graph(program, options), settings, text.derivative.draws)
    try:
        return differing(derived, printed_graph(text), options)
    except SourceError as mistake:
        raise CompilerBug("gradient", str(mistake), text.text) from None


def derived_graph(program: Program, options: Options) -> Graph:
    """The loss and the gradients as a training step derives them, by the paths of the parameters."""
    program = in_precision(program, options)
    assert program.plan is not None
    step = StepBuilder(replace(program, augmentation=None), program.plan)
    step.differentiate(step.forward[LOSS])
    step.builder.output(LOSS, Role.OUTPUT, step.forward[LOSS])
    for path, gradient in step.gradients.items():
        step.builder.output(path, Role.OUTPUT, gradient)
    return eliminate_dead(step.builder.build())


def printed_graph(printed: Printed) -> Graph:
    """The graph that the text means, with the inputs and outputs of the derivative. Raises SourceError."""
    modules = load_modules(Source(NAME, printed.text), None)
    types = [entry.value.type for entry in printed.tensors]
    graph, _ = elaborate_function(modules, printed.whole, {}, types)
    inputs = tuple(
        GraphInput(known.name, known.role, own.value) for known, own in zip(printed.tensors, graph.inputs, strict=True)
    )
    outputs = tuple(
        GraphOutput(name, Role.OUTPUT, output.value)
        for name, output in zip(printed.results, graph.outputs, strict=True)
    )
    return replace(graph, inputs=inputs, outputs=outputs)


def with_fixed_inputs(graph: Graph, settings: Mapping[str, float], draws: Mapping[str, Node]) -> Graph:
    """The derived graph with settings as constants and with inputs in place of draws, as the text has them."""
    names = {node.op: name for name, node in draws.items()}
    fixed = [e for e in graph.inputs if e.role is Role.SETTING]
    nodes = [Node(Constant(settings[e.name], DType.F32), (), (e.value,)) for e in fixed]
    inputs = [entry for entry in graph.inputs if entry not in fixed]
    for node in graph.nodes:
        if isinstance(node.op, RandomUniform) and node.op in names:
            inputs.append(GraphInput(names[node.op], Role.DATA, node.results[0]))
        else:
            nodes.append(node)
    return eliminate_dead(replace(graph, inputs=tuple(inputs), nodes=tuple(nodes)))


def differing(derived: Graph, printed: Graph, options: Options) -> tuple[str, ...]:
    """The outputs that the two graphs do not compute by the same operations behind all passes."""
    forms = [forms_of(prepared(graph, options)) for graph in (derived, printed)]
    return tuple(name for name, form in forms[0].items() if forms[1].get(name) != form)


def forms_of(graph: Graph) -> dict[str, int]:
    """For each output, a number that two graphs share if the same operations compute it from the same inputs."""
    known = {entry.value.index: hash(("input", entry.name)) for entry in graph.inputs}
    _add_forms(graph.nodes, known, {})
    return {output.name: known[output.value.index] for output in graph.outputs}


def _add_forms(nodes: Sequence[Node], known: dict[int, int], bases: dict[int, int]) -> None:
    """`bases` has the forms of values as they are without their axes of 1."""
    for node in nodes:
        operands = [known[operand.index] for operand in node.operands]
        if isinstance(node.op, Scan):
            forms = _forms_of_scan(node.op, operands)
        elif isinstance(node.op, (Reshape, Broadcast)) and _only_adds_units(node):
            (operand,), (result,) = node.operands, node.results
            base = bases.get(operand.index, known[operand.index])
            if isinstance(node.op, Reshape):
                bases[result.index] = base
            forms = [hash(("repeated", _places(node), base))]
        else:
            form = hash((_form(node), *operands))
            forms = [hash((form, place)) for place in range(len(node.results))]
        known.update((r.index, hash((f, str(r.type)))) for r, f in zip(node.results, forms, strict=True))


def _forms_of_scan(scan: Scan, operands: Sequence[int]) -> list[int]:
    """The forms of all results, whatever the order of what is scanned, captured and emitted."""
    last = scan.scanned + scan.carries
    kinds = ["x"] * scan.scanned + [f"carry {k}" for k in range(scan.carries)] + ["capture"] * (len(operands) - last)
    pairs = zip(scan.body.inputs, kinds, operands, strict=True)
    known = {entry.value.index: hash((kind, form)) for entry, kind, form in pairs}
    _add_forms(scan.body.nodes, known, {})
    carried = tuple(known[value.index] for value in scan.next_carries)
    whole = hash((scan.length, scan.reverse, carried, tuple(operands[scan.scanned : last])))
    ends = [hash((whole, "end", place)) for place in range(scan.carries)]
    return [*ends, *(hash((whole, "stack", known[value.index])) for value in scan.emitted)]


def _only_adds_units(node: Node) -> bool:
    """Whether a value only gets or loses axes of 1, or is repeated along some."""
    extents = [extent for extent in node.operands[0].type.shape if extent != 1]
    return isinstance(node.op, Broadcast) or extents == [e for e in node.results[0].type.shape if e != 1]


def _places(node: Node) -> tuple[str, ...]:
    """Where the axes of an operand that are not 1 stand in the result, or -, for each axis of that."""
    shape, own = node.results[0].type.shape, node.operands[0].type.shape
    if isinstance(node.op, Broadcast):
        kept = {axis for extent, axis in zip(own, node.op.axes, strict=True) if extent != 1}
        return tuple(f"{extent}{'' if axis in kept else ' -'}" for axis, extent in enumerate(shape))
    return tuple(f"{extent}{' -' if extent == 1 else ''}" for extent in shape)


def _form(node: Node) -> object:
    match node.op:
        case Contraction(lhs, rhs, out):
            places = {label: place for place, label in enumerate(dict.fromkeys((*lhs, *rhs)))}
            return ("contraction", *(tuple(places[label] for label in labels) for labels in (lhs, rhs, out)))
        case Constant(value, dtype):
            return ("constant", dtype.value, repr(np.asarray(value, numpy_dtype(dtype))))
        case op:
            return (op.name, *((name, print_attribute(value)) for name, value in attributes_of(op)))


def differing_bits(first: Mapping[str, Array], second: Mapping[str, Array]) -> tuple[str, ...]:
    """The names of arrays that differ in a bit."""
    return tuple(name for name, array in first.items() if array.tobytes() != second[name].tobytes())
