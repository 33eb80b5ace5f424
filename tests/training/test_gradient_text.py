"""The derivative printed as text is elaborated to the derived gradient itself: for all examples, layers and ops."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from elaboration import modules, program
from golden import Golden
from image_cases import IMAGE_LAYERS
from layer_cases import LAYERS, LayerCase
from op_samples import SAMPLES, Sample, graph_of, name_of
from random_networks import random_network
from repository import ROOT
from standard_library import applied

from compiler.errors.diagnostics import SourceError, UsageError
from compiler.frontend.elaborate import elaborate
from compiler.frontend.program import Program
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.inspection.gradient.derivative import Derivative, derivative_of_graph
from compiler.inspection.gradient.losses import each_loss, losses_of
from compiler.inspection.gradient.proof import derived_graph, differing, printed_graph, proved_text, with_fixed_inputs
from compiler.inspection.gradient.text import gradient_text, printed
from compiler.inspection.levels import Level
from compiler.interface import Options
from compiler.ops import OPS
from compiler.ops.autodiff import gradients_of
from compiler.ops.elementwise import Add, Multiply
from compiler.ops.spreading import Sum
from compiler.pipeline import prepare_for_gradients
from compiler.syntax import tree
from compiler.syntax.modules import load_modules
from compiler.types import BatchExtent, DType, depends_on_batch
from runtime.cli.main import main
from runtime.data.dimensions import dimensions_of

OF_THE_COMPILER = {"fma", "flush", "put", "threefry"}
"""Ops with a gradient that no text reaches: passes make them, and programs that decode, and `augment`."""


OF_PAIRS = ("clip", "simclr")
"""Examples with pairs of rows: which nodes are computed by places depends on their order, and no bit does."""


def experiments() -> Iterator[tuple[Path, str | None]]:
    for path in sorted((ROOT / "examples").glob("*/*.dl")):
        declared = [d for d in load_modules(path, None)[-1].declarations if isinstance(d, tree.Train)]
        for train in declared:
            yield path, train.name or (train.model.id if len(declared) > 1 else None)


def loaded(path: Path, name: str | None) -> Program:
    """The example; where its data is not there, with a size for all dimensions of it."""
    found = load_modules(path, None)
    try:
        return elaborate(found, name, (), dimensions_of(None))
    except (SourceError, UsageError):
        return elaborate(found, name, (), lambda question: dict.fromkeys(question.names, 17))


def difference(found: Program) -> tuple[str, ...]:
    """The gradients that the text computes by other operations than the step does."""
    texts = each_loss(found, lambda alone, loss: gradient_text(alone, loss=loss))
    settings = {s.name: float(s.value) for s in found.settings if s.is_runtime and isinstance(s.value, int | float)}
    different: tuple[str, ...] = ()
    for alone, text in zip(losses_of(found).values(), texts, strict=True):
        derived = with_fixed_inputs(derived_graph(alone, Options()), settings, text.derivative.draws)
        different += differing(derived, printed_graph(text), Options())
    return different


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param(*found, id=f"{found[0].parent.name}-{found[0].stem}-{found[1]}")
        for found in experiments()
        if found[0].parent.name not in OF_PAIRS
    ],
)
def test_the_text_of_an_example_is_its_gradient(path: Path, name: str | None) -> None:
    assert difference(loaded(path, name)) == ()


@pytest.mark.parametrize("name", OF_PAIRS)
def test_the_text_of_pairs_computes_the_bits_of_its_gradient(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", str(ROOT / "examples" / name / "model.dl"), "--gradient"]) == 0
    assert "the same bits" in "".join(capsys.readouterr())


@pytest.mark.parametrize("name", ["xor", "iris", "tagging", "lenet"])
def test_the_text_of_an_example_is_as_it_was_read_last(name: str, golden: Golden) -> None:
    golden(f"gradient/{name}.dl", gradient_text(loaded(ROOT / "examples" / name / "model.dl", None)).text)


@pytest.mark.parametrize("seed", [40, 208])
def test_a_text_is_written_so_that_it_is_compiled_to_its_gradient(seed: int) -> None:
    found = program(random_network(seed))
    assert difference(found) != ()  # of the text that is simplified first
    text = proved_text(found, Options())
    assert text.unproved == ()
    assert text.text.startswith("# The derivative of the loss")


def test_a_text_says_where_sums_may_come_in_another_order() -> None:
    text = proved_text(program(random_network(268)), Options())
    assert text.unproved == ("x.batch_norm.gamma", "x.batch_norm.beta")
    assert text.text.startswith(
        "# The order of additions may be another than in a training step, and so the last bits, in:"
    )


# Ops


def loss_of(sample: Sample) -> Graph | None:
    """The sum of the squares of the op's results of floats; None where it has none, or no operand of f32."""
    graph = graph_of(sample)
    builder = GraphBuilder.extending(graph)
    total: Value | None = None
    for output in graph.outputs:
        if output.value.type.dtype is DType.F32:
            square = builder.emit(Multiply(), output.value, output.value)
            term = builder.emit(Sum(tuple(range(square.type.rank))), square) if square.type.rank else square
            total = term if total is None else builder.emit(Add(), total, term)
    if total is None or not any(entry.value.type.dtype is DType.F32 for entry in graph.inputs):
        return None
    builder.output("loss", Role.OUTPUT, total)
    return builder.build()


def plainly_derived(graph: Graph, wanted: list[str]) -> Graph:
    ready = prepare_for_gradients(graph)
    builder = GraphBuilder.extending(ready)
    loss = ready.output("loss").value
    entries = [ready.input(name) for name in wanted]
    slopes = gradients_of(builder, ready.nodes, loss, [entry.value for entry in entries])
    builder.output("loss", Role.OUTPUT, loss)
    for entry, slope in zip(entries, slopes, strict=True):
        assert slope is not None
        builder.output(entry.name, Role.OUTPUT, slope)
    return builder.build()


def knows_the_rows(sample: Sample) -> bool:
    """Whether an operand has the rows of a batch where something depends on them, as an input of any model has."""
    (result, *_) = sample.op.result_types(sample.operands)
    shapes = [operand.shape for operand in sample.operands]
    return BatchExtent() in sum(shapes, ()) or not any(map(depends_on_batch, (*shapes, result.shape)))


def differentiable() -> list[Sample]:
    known = [sample for sample in SAMPLES if sample.op.name not in OF_THE_COMPILER and knows_the_rows(sample)]
    return [sample for sample in known if loss_of(sample) is not None]


def derivative(sample: Sample) -> Derivative | None:
    graph = loss_of(sample)
    assert graph is not None
    wanted = [entry.name for entry in graph.inputs if entry.value.type.dtype is DType.F32]
    ready = prepare_for_gradients(graph)
    slopes = gradients_of(
        GraphBuilder.extending(ready), ready.nodes, ready.output("loss").value, [ready.input(n).value for n in wanted]
    )
    reached = [name for name, slope in zip(wanted, slopes, strict=True) if slope is not None]
    root = Level("", "model", "Sample", None, None, ("",), ((),), tuple(graph.nodes))
    return derivative_of_graph(graph, reached, root) if reached else None


@pytest.mark.parametrize("sample", differentiable(), ids=name_of)
def test_the_text_of_an_op_is_its_gradient(sample: Sample) -> None:
    found = derivative(sample)
    if found is None:
        return  # no gradient flows through it
    graph = loss_of(sample)
    assert graph is not None
    wanted = [output.name for output in found.graph.outputs if output.name != "loss"]
    text = printed(found, "Sample", lambda name: name)
    assert differing(plainly_derived(graph, wanted), printed_graph(text), Options()) == (), text.text


def test_every_op_of_the_language_has_a_sample_here() -> None:
    reached = {sample.op.name for sample in differentiable()}
    without = {op.name for op in OPS} - reached - OF_THE_COMPILER
    sources = {"constant", "iota", "batch_size", "random_uniform"}
    from_f32_to_f32 = {"cast"}  # is no cast
    assert without == sources | from_f32_to_f32 | {"argmax", "and", "or", "not", "eq", "ne", "lt", "le"}


# Layers of the library


def loss_of_layer(case: LayerCase) -> Graph:
    """The sum of the squares of what a layer gives in training, in f32."""
    graph = to_dtype(applied(f"{case.call}(x)", {"x": case.x}, "layer", True), DType.F32)
    builder = GraphBuilder.extending(graph)
    result = graph.output("result").value
    square = builder.emit(Multiply(), result, result)
    builder.output("loss", Role.OUTPUT, builder.emit(Sum(tuple(range(result.type.rank))), square))
    return builder.build()


@pytest.mark.parametrize("case", [*LAYERS, *IMAGE_LAYERS], ids=lambda case: f"{case.call}:{case.x.ndim}")
def test_the_text_of_a_layer_is_its_gradient(case: LayerCase) -> None:
    graph = loss_of_layer(case)
    wanted = [
        e.name for e in graph.inputs if e.role is Role.PARAMETER or (e.name, e.value.type.dtype) == ("x", DType.F32)
    ]
    root = Level("", "model", "Layer", None, None, ("",), ((),), tuple(graph.nodes))
    found = derivative_of_graph(graph, wanted, root)
    derived = with_fixed_inputs(plainly_derived(graph, wanted), {}, found.draws)
    text = printed(found, "Layer", lambda name: name)
    assert differing(derived, printed_graph(text), Options()) == ()


# What a text says

MODEL = """\
model Net(hidden = 8, drop = 0.25) {
    input x: f32[batch, 6]
    for _ in 0..3 { x = x |> dense(6) |> relu }
    output logits = x |> dense(hidden) |> sigmoid |> dropout(drop) |> dense(3)
}

train Net {
    target label: i32[batch] in 0..3
    loss = cross_entropy(logits, label)
    optimizer = adam(lr = 0.1)
    batch = 8
}
"""


@pytest.fixture(scope="module")
def text() -> str:
    return gradient_text(program(MODEL)).text


def test_products_and_slopes_are_recognised(text: str) -> None:
    assert "dW = x.T @ dz" in text
    assert "dx = dz @ W.T" in text
    assert "db = sum(dz, axis = 0)" in text
    assert "where(0.0 < " in text  # the slope of relu
    assert "sigmoid(" in text


def test_equal_layers_share_a_function(text: str) -> None:
    assert text.count("fn dense_forward") == 3  # 6 to 6 three times, 6 to 8, 8 to 3
    assert text.count("= dense_forward(") == 3


def test_draws_are_arguments_and_settings_have_their_values(text: str) -> None:
    assert "fn backward(drop = 0.25, factor = 1 / (1 - 0.25))(" in text
    assert "logits_dropout_draw: f32[batch, 8]" in text


def test_the_text_is_a_file_without_mistakes(text: str) -> None:
    assert [d.name for d in modules(text)[0].declarations if isinstance(d, tree.Callable)][-1] == "backward"


def test_other_settings_take_the_place_of_those_of_the_text() -> None:
    found = program(MODEL, ("drop", "0.5"))
    assert difference(found) == ()
    assert "drop = 0.5" in gradient_text(found).text


def test_a_difference_would_be_found() -> None:
    found = program(MODEL)
    right = gradient_text(found)
    wrong = replace(right, text=right.text.replace("dx = dz @ W.T", "dx = dz @ W.T + 0.5"))
    assert wrong.text != right.text
    settings = {s.name: float(s.value) for s in found.settings if s.is_runtime and isinstance(s.value, int | float)}
    derived = with_fixed_inputs(derived_graph(found, Options()), settings, right.derivative.draws)
    assert "x.0.dense.W" in differing(derived, printed_graph(wrong), Options())


def test_each_update_has_its_functions_in_one_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Also where the name of an update is that of another with a layer behind it."""
    text = (ROOT / "examples/gan/model.dl").read_text().replace("update critic ", "update generator_dense ")
    (tmp_path / "model.dl").write_text(text.replace("critic.loss", "generator_dense.loss"))
    assert main(["show", str(tmp_path / "model.dl"), "--stage", "gradient"]) == 0
    shown = capsys.readouterr().out
    (tmp_path / "gradient.dl").write_text(shown)
    names = re.findall(r"^fn (\w+)", shown, re.MULTILINE)
    assert len(names) == len({*names})
    assert {"generator_forward", "generator_backward", "generator_dense_backward"} <= {*names}
    assert "loss of the update generator_dense of Gan" in shown
    assert main(["check", str(tmp_path / "gradient.dl")]) == 0


def test_a_step_that_draws_is_refused() -> None:
    source = MODEL.replace(
        "    output logits = x",
        "    c = scan i in 0..4 over 0 carry c = x { c = dropout(0.5)(c) }\n    output logits = c",
    )
    with pytest.raises(UsageError, match="each step of its `scan` draws"):
        gradient_text(program(source))


def test_a_model_without_a_loss_is_refused() -> None:
    with pytest.raises(UsageError, match="no loss"):
        gradient_text(program(MODEL[: MODEL.index("train Net")]))
