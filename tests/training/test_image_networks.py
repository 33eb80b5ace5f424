"""Networks of images: the training step means natively what its graph means, with the same bits fused or not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pytest
from comparisons import assert_same
from native import EVERY_KERNEL_PARALLEL, compiled

from compiler.errors.diagnostics import Source
from compiler.evaluate import evaluate
from compiler.frontend.elaborate import elaborate
from compiler.graph.ir import Graph, Role
from compiler.pipeline import optimise_graph
from compiler.programs.steps.training_step import evaluation_graph, training_step
from compiler.syntax.modules import load_modules
from compiler.types import DType, at_batch

Array: TypeAlias = np.ndarray[Any, Any]

BATCH = 3
TRAINED = """
    data = npz("images.npz")
    target label: u8[batch] in 0..classes
    loss = cross_entropy(logits, label)
    metrics = [accuracy(logits, label)]
    batch = 3
"""
LENET = f"""
model Net(classes = 10) {{
    input image: u8[batch, 28, 28]
    output logits = reshape(image / 255, batch, 1, 28, 28)
        |> conv2d(6, 5, padding = 2) |> relu |> max_pool(2)
        |> conv2d(16, 5) |> relu |> max_pool(2)
        |> flatten |> dense(120) |> relu |> dense(84) |> relu |> dense(classes)
}}

train Net {{{TRAINED}
    optimizer = adam(lr = 1e-3)
    schedule = cosine(T = total_steps)
    epochs = 10
    early_stop = patience(5)
    clip = norm(1.0)
    penalty = l2(1e-4, on = "*.W")
}}
"""
# Blocks of one's own, as a reader of the papers writes them.
OWN_BLOCKS = f"""
layer batch_norm(momentum = 0.9, eps = 1e-5)(x: [batch, c, ...]) {{
    param gamma: [c] = ones
    param beta: [c] = zeros
    state running_mean: [c] = zeros
    state running_var: [c] = ones
    if training {{
        mu = mean(x, axis = except(c))
        var = variance(x, axis = except(c))
        running_mean <- momentum * running_mean + (1 - momentum) * mu
        running_var <- momentum * running_var + (1 - momentum) * var
    }} else {{
        mu = running_mean
        var = running_var
    }}
    return align(gamma, x) * (x - align(mu, x)) / sqrt(align(var, x) + eps) + align(beta, x)
}}

layer residual(channels: int, stride = 1)(x: [batch, c, h, w]) {{
    y = x |> conv2d(channels, 3, stride, padding = "same", bias = false) |> batch_norm |> relu
          |> conv2d(channels, 3, padding = "same", bias = false) |> batch_norm
    short = x
    if stride != 1 or c != channels {{
        short = x |> conv2d(channels, 1, stride, bias = false) |> batch_norm
    }}
    return relu(y + short)
}}

model Net(classes = 4) {{
    input image: f32[batch, 3, 9, 8]
    output logits = image |> conv2d(5, 3, padding = 1, bias = false) |> batch_norm |> relu
        |> residual(5) |> residual(8, 2) |> global_average_pool |> dense(classes)
}}

train Net {{{TRAINED}
    optimizer = momentum(lr = 0.1)
}}
"""
BLOCKS = f"""
model Net(classes = 4) {{
    input image: f32[batch, 3, 11, 10]
    x = image |> conv_norm(4, 3, stride = 2) |> max_pool(3, 2, 1, ceil = true)
    x = x |> inception(2, 2, 3, 1, 2, 1) |> mbconv(8, 5) |> bottleneck(3, 2, expansion = 2)
    x = x |> upsample(2, "linear") |> separable_conv2d(6, 3, padding = "same", mode = "replicate")
    x = x |> conv_transpose2d(5, 3, 2) |> avg_pool(3, 2, 1, true, false) |> conv2d(6, 2, groups = 1, dilation = 2)
    x = x |> residual(8, projection = false) |> adaptive_average_pool([2, 1])
    output logits = x |> flatten |> dense(classes)
}}

train Net {{{TRAINED}
    optimizer = momentum(lr = 0.1)
}}
"""
SEQUENCE = f"""
model Net(classes = 4) {{
    input image: f32[batch, 3, 20]
    output logits = image |> conv1d(6, 3, padding = [[2, 0]]) |> relu |> max_pool(2)
        |> conv1d(4, 3, 2, 1, groups = 2, mode = "reflect") |> relu |> upsample(2) |> conv_transpose1d(4, 4, 2, "same")
        |> avg_pool(3) |> conv1d(5, 2, padding = "same", dilation = 2) |> global_max_pool |> dense(classes)
}}

train Net {{{TRAINED}
    optimizer = momentum(lr = 0.1)
}}
"""
PROGRAMS = {"lenet": LENET, "own blocks": OWN_BLOCKS, "blocks": BLOCKS, "sequence": SEQUENCE}


@cache
def graphs_of(name: str) -> tuple[Graph, Graph]:
    """The training step and the evaluation."""
    program = elaborate(load_modules(Source("net.dl", PROGRAMS[name].lstrip()), None))
    return as_function(training_step(program)), as_function(evaluation_graph(program))


def as_function(graph: Graph) -> Graph:
    """The graph with nothing that lasts from call to call."""
    inputs = tuple(replace(entry, role=Role.DATA) for entry in graph.inputs)
    return replace(
        graph, inputs=inputs, outputs=tuple(replace(o, role=Role.OUTPUT, updates=None) for o in graph.outputs)
    )


def inputs_of(graph: Graph) -> dict[str, Array]:
    """Images and labels, small weights, and positive numbers for everything of one sign: variances, moments, rates."""
    random = np.random.default_rng(6)
    inputs: dict[str, Array] = {}
    for entry in graph.inputs:
        shape = at_batch(entry.value.type.shape, BATCH)
        if entry.value.type.dtype is DType.U8:
            inputs[entry.name] = random.integers(0, 4 if entry.name == "label" else 256, shape).astype(np.uint8)
        elif entry.value.type.dtype is DType.I64:
            inputs[entry.name] = np.array(3)
        elif entry.name == "image" or entry.name.endswith((".W", ".b")):
            inputs[entry.name] = random.normal(0, 0.5, shape).astype(np.float32)
        else:
            inputs[entry.name] = random.uniform(0.5, 0.9, shape).astype(np.float32)
    return inputs


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_step_is_what_its_graph_means(name: str) -> None:
    graph = graphs_of(name)[0]
    inputs = inputs_of(graph)
    expected = evaluate(graph, inputs, BATCH)
    native = compiled(optimise_graph(graph, verify=True), batch=EVERY_KERNEL_PARALLEL)
    found, others = (native.executable(threads).call(inputs, BATCH) for threads in (1, 2))
    for output, value in expected.items():
        assert_same(output, found[output], value)
        assert np.array_equal(found[output], others[output]), output


def test_fusion_changes_no_bit() -> None:
    graph = optimise_graph(graphs_of("own blocks")[1])
    inputs = inputs_of(graph)
    fused, plain = (compiled(graph, fuse=fuse).executable().call(inputs, BATCH) for fuse in (True, False))
    for output, value in plain.items():
        assert np.array_equal(fused[output], value), output


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_window_is_left_to_be_gathered_or_scattered(name: str) -> None:
    graph = optimise_graph(graphs_of(name)[0])
    assert not {node.op.name for node in graph.nodes} & {"fold", "scatter_add", "gather"}
