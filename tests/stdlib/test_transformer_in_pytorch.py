"""Attention and the blocks of Transformers against those of PyTorch: outputs and all gradients, reference and native.

Skipped where PyTorch is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pytest
from differentiation import gradient_graph
from native import compiled
from standard_library import applied

from compiler.evaluate import evaluate
from compiler.graph.ir import Role
from compiler.pipeline import optimise_graph
from compiler.targets.memory import TensorStore

torch = pytest.importorskip("torch")

Array: TypeAlias = np.ndarray[Any, Any]

BATCH, QUERIES, KEYS, WIDTH, OTHER, HIDDEN = 3, 4, 5, 8, 6, 10
HEADS = 2
_RANDOM = np.random.default_rng(8)
X = _RANDOM.normal(size=(BATCH, QUERIES, WIDTH))
MEMORY = _RANDOM.normal(size=(BATCH, KEYS, WIDTH))
OTHERS = _RANDOM.normal(size=(BATCH, KEYS, OTHER))
# Every query sees a key, in causal attention too: PyTorch makes NaN of one that sees none.
QUERY_MASK = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [1, 0, 0, 0]], bool)
KEY_MASK = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [1, 0, 0, 0, 0]], bool)


@dataclass(frozen=True)
class Case:
    """`call` is a layer of the library over `operands`; `apply` gives what `module` makes of the same operands.

    `order` names the parts of `module` in the order in which the layer makes their parameters.
    """

    call: str
    operands: Mapping[str, Array]
    module: Callable[[], Any]
    apply: Callable[..., Any]
    order: tuple[str, ...] = ("",)


def ignored(mask: Any) -> Any:
    """As PyTorch wants masks: true for what is not seen."""
    return None if mask is None else ~mask


def later(length: int) -> Any:
    """The keys that a causal query does not see."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


def attention(**options: Any) -> Callable[[], Any]:
    return lambda: torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, **options)


def block(kind: str, **options: Any) -> Callable[[], Any]:
    made = getattr(torch.nn, f"Transformer{kind}Layer")
    return lambda: made(WIDTH, HEADS, HIDDEN, dropout=0.0, batch_first=True, **options)


def attended(causal: bool = False) -> Callable[..., Any]:
    def apply(m: Any, q: Any, k: Any = None, where: Any = None) -> Any:
        k = q if k is None else k
        return m(q, k, k, ignored(where), need_weights=False, attn_mask=later(q.shape[1]) if causal else None)[0]

    return apply


def encoded(causal: bool) -> Callable[..., Any]:
    def apply(m: Any, x: Any, where: Any = None) -> Any:
        return m(x, src_mask=later(x.shape[1]) if causal else None, src_key_padding_mask=ignored(where))

    return apply


def decoded(m: Any, x: Any, memory: Any, where: Any = None, memory_where: Any = None) -> Any:
    masks = {"tgt_key_padding_mask": ignored(where), "memory_key_padding_mask": ignored(memory_where)}
    return m(x, memory, tgt_mask=later(x.shape[1]), **masks)


def _attention_cases() -> dict[str, Case]:
    x, keep = {"x": X}, {"keep": QUERY_MASK}
    wide, own = {"x": X, "m": OTHERS}, attention(kdim=OTHER, vdim=OTHER)
    return {
        "self": Case("attention(2)(x, x, x)", x, attention(), attended()),
        "self, masked": Case(
            "attention(2)(x, x, x, where = keep)",
            x | keep,
            attention(),
            lambda m, x, keep: attended()(m, x, None, keep),
        ),
        "self, without bias": Case("attention(2, bias = false)(x, x, x)", x, attention(bias=False), attended()),
        "causal": Case("attention(2, causal = true)(x, x, x)", x, attention(), attended(True)),
        "causal, masked": Case(
            "attention(2, causal = true)(x, x, x, where = keep)",
            x | keep,
            attention(),
            lambda m, x, keep: attended(True)(m, x, None, keep),
        ),
        "cross": Case("attention(2)(x, m, m)", {"x": X, "m": MEMORY}, attention(), attended()),
        "cross, of another width": Case("attention(2)(x, m, m)", wide, own, attended()),
        "cross, masked": Case("attention(2)(x, m, m, where = keep)", wide | {"keep": KEY_MASK}, own, attended()),
    }


def _block_cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    feed = ("linear1", "linear2")
    for is_before, name in ((False, "post-norm"), (True, "pre-norm")):
        given = f"{HEADS}, {HIDDEN}, pre_norm = {str(is_before).lower()}, drop = 0"
        order = ("norm1", "self_attn", "norm2", *feed) if is_before else ("self_attn", "norm1", *feed, "norm2")
        encoder = block("Encoder", norm_first=is_before)
        for causal in (False, True):
            kind = "causal encoder" if causal else "encoder"
            call = f"encoder_block({given}, causal = {str(causal).lower()})"
            operands = {"x": X}
            found[f"{kind}, {name}"] = Case(f"{call}(x)", operands, encoder, encoded(causal), order)
            found[f"{kind}, {name}, masked"] = Case(
                f"{call}(x, where = keep)", operands | {"keep": QUERY_MASK}, encoder, encoded(causal), order
            )
        smooth = block("Encoder", norm_first=is_before, activation="gelu")
        found[f"encoder, {name}, gelu"] = Case(
            f"encoder_block({given}, activation = gelu)(x)", {"x": X}, smooth, encoded(False), order
        )
        parts = (("norm1", "self_attn"), ("norm2", "multihead_attn"), ("norm3", *feed))
        order = tuple(p for part in parts for p in (part if is_before else (*part[1:], part[0])))
        both = {"x": X, "m": MEMORY}
        call = f"decoder_block({given})"
        decoder = block("Decoder", norm_first=is_before)
        found[f"decoder, {name}"] = Case(f"{call}(x, m)", both, decoder, decoded, order)
        found[f"decoder, {name}, masked"] = Case(
            f"{call}(x, m, where = xs, memory_where = ms)",
            both | {"xs": QUERY_MASK, "ms": KEY_MASK},
            decoder,
            decoded,
            order,
        )
    return found


CASES = _attention_cases() | _block_cases()


def arrays_of(part: Any, of: Callable[[Any], Any]) -> list[Array]:
    """Values or gradients, as `of` takes them from a parameter, of a part of PyTorch in the order of the library's."""
    if isinstance(part, torch.nn.MultiheadAttention):
        if part.in_proj_weight is None:
            weights = [of(part.q_proj_weight), of(part.k_proj_weight), of(part.v_proj_weight)]
        else:
            weights = list(of(part.in_proj_weight).chunk(3))
        weights.append(of(part.out_proj.weight))
        if part.in_proj_bias is None:
            return [weight.numpy().T for weight in weights]
        biases = [*of(part.in_proj_bias).chunk(3), of(part.out_proj.bias)]
        return [a for weight, bias in zip(weights, biases, strict=True) for a in (weight.numpy().T, bias.numpy())]
    return [of(part.weight).numpy().T, of(part.bias).numpy()]


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_equal_those_of_pytorch(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(5)
    module = case.module().double()
    for parameter in module.parameters():  # PyTorch starts biases at 0 and scales at 1
        torch.nn.init.uniform_(parameter, -0.7, 0.9)
    moving = [operand for operand, array in case.operands.items() if array.dtype != bool]
    theirs = {operand: torch.tensor(array) for operand, array in case.operands.items()}
    for operand in moving:
        theirs[operand].requires_grad_()
    y = case.apply(module, *theirs.values())
    cotangent = np.random.default_rng(9).normal(size=y.shape)
    y.backward(torch.tensor(cotangent))

    parts = [module.get_submodule(part) for part in case.order]
    values = [array for part in parts for array in arrays_of(part, lambda p: p.detach())]
    slopes = [array for part in parts for array in arrays_of(part, lambda p: p.grad)]
    expected = [y.detach().numpy(), *(theirs[operand].grad.numpy() for operand in moving), *slopes]
    for is_double, room in ((True, 1e-9), (False, 1e-4)):
        for found, other in zip(computed(case, values, moving, cotangent, is_double), expected, strict=True):
            np.testing.assert_allclose(found, other, rtol=room, atol=room)


def computed(case: Case, values: list[Array], moving: list[str], cotangent: Array, is_double: bool) -> list[Array]:
    """The output and the gradients: in f64 by the definition, in f32 by native code."""
    graph = applied(case.call, case.operands, "layer", training=True, is_double=is_double)
    paths = [entry.name for entry in graph.inputs if entry.role is Role.PARAMETER]
    wanted = [*moving, *paths]
    graph = gradient_graph(graph, "result", wanted)
    arrays = {**case.operands, **dict(zip(paths, values, strict=True)), "cotangent": cotangent}
    if is_double:
        results = evaluate(graph, arrays, 1)
    else:
        narrow = {name: a if a.dtype == bool else a.astype(np.float32) for name, a in arrays.items()}
        executable = compiled(optimise_graph(graph)).executable()
        tensors = TensorStore(executable.manifest.tensors)
        for path in paths:
            tensors.write(path, narrow[path])
        results = executable.call(narrow, 1, tensors)
    return [results["result"], *(results[f"d {name}"] for name in wanted)]
