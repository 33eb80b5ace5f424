"""Import ONNX's published tests of operators and compare results: how many pass, differ and are refused, by operator.

    python tests/stress/check_onnx_operators.py [--only test_relu] [--target native] [--list]

Those of the package `onnx` count whose model has operators of ONNX's own, not of its domains for classical machine
learning or training, and whose declared inputs and outputs are all tensors of element types that `.dl` has: float32,
int32, int64, uint8 and bool, and in a second count float64 too. Tests with texts, sequences or optional values as
inputs or outputs do not count, nor those with other element types (float16, bfloat16, 4-bit numbers, uint32, ...).

Nothing else is left out: tests count whose outputs NumPy's generator drew (Bernoulli, training Dropout), which no other
generator reproduces, those that decode pictures (ImageDecoder), and those whose outputs have no elements.

A test passes if all outputs have the recorded shape, element type and numbers, within the test's own tolerances or
1e-5. Recorded inputs that decide a shape are constants of the program, as `dlc import --sample` makes them; where these
are all inputs, nothing is left to compute and the outputs are constants: how many tests pass in this way is told.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

TYPES = {"float32", "int32", "int64", "uint8", "bool"}
CONSTANT = "a constant"


def cases(only: str) -> list[Any]:
    """The published tests that count."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        found = load_model_tests(kind="node")
    return [case for case in found if only in case.name and counts(case)]


def model_of(case: Any) -> Any:
    import onnx

    return case.model if case.model is not None else onnx.load(str(Path(case.model_dir) / "model.onnx"))


def counts(case: Any) -> bool:

    model = model_of(case)
    if any(node.domain not in ("", "ai.onnx") for node in model.graph.node):
        return False
    values = [*model.graph.input, *model.graph.output]
    if not all(value.type.HasField("tensor_type") for value in values):
        return False
    return kinds_of(model) <= TYPES | {"float64"}


def kinds_of(model: Any) -> set[str]:
    """The element types of inputs and outputs."""
    import onnx

    values = [*model.graph.input, *model.graph.output]
    return {onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type).name for v in values}


def data_of(case: Any, model: Any) -> tuple[dict[str, Any], list[Any]]:
    """The recorded inputs by name, and outputs."""
    import onnx

    if case.data_sets:
        inputs, outputs = case.data_sets[0]
    else:
        folder = Path(case.model_dir) / "test_data_set_0"

        def read(kind: str) -> list[Any]:
            files = sorted(folder.glob(f"{kind}_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
            return [onnx.numpy_helper.to_array(onnx.TensorProto.FromString(f.read_bytes())) for f in files]

        inputs, outputs = read("input"), read("output")
    names = [value.name for value in model.graph.input]
    return {name: array(a) for name, a in zip(names, inputs, strict=False)}, [array(o) for o in outputs]


def array(given: Any) -> Any:
    """The array of a tensor as the tests hold it: as itself, or in ONNX's own form."""
    import onnx

    return onnx.numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else np.asarray(given)


def outcome(case: Any, target: str, folder: Path) -> tuple[str, str]:
    """`passes`, `differs` or `refused`, with the reason."""
    import onnx

    from compiler.driver import Options
    from compiler.errors.diagnostics import DlcError
    from runtime.imports.onnx.importing import import_model, predicted

    model = model_of(case)
    inputs, expected = data_of(case, model)
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    try:
        options = Options(target=target, threads=1)
        imported = import_model(path, {}, inputs, options)
        found = predicted(imported, inputs, options)
    except DlcError as error:
        return "refused", str(error).splitlines()[0][:160]
    except Exception as error:  # a fault of ours, which the table shows
        return "fails", f"{type(error).__name__}: {error}".splitlines()[0][:160]
    for value, want in zip(model.graph.output, expected, strict=False):
        got = found[value.name]
        if got.shape != want.shape or got.dtype != want.dtype:
            return "differs", f"{got.dtype}{list(got.shape)} for {want.dtype}{list(want.shape)}"
        if not np.allclose(got, want, rtol=max(case.rtol, 1e-5), atol=max(case.atol, 1e-5), equal_nan=True):
            return "differs", f"by {np.abs(got.astype(float) - want.astype(float)).max():.3g}"
    return "passes", "" if depends(imported) else CONSTANT


def depends(imported: Any) -> bool:
    """Whether an output of a program depends on an input."""
    from compiler.graph.ir import Role, needed_by

    graph = imported.program.inference_graph
    _, needed = needed_by(graph.nodes, [output.value.index for output in graph.outputs])
    return any(one.role is Role.DATA and one.value.index in needed for one in graph.inputs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="tests whose name has this")
    parser.add_argument("--target", default="reference", help="native, or the NumPy reference")
    parser.add_argument("--list", action="store_true", help="print every test that does not pass")
    arguments = parser.parse_args()
    import tempfile

    chosen = cases(arguments.only)
    totals: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    by_operator: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in chosen:
            result, reason = outcome(case, arguments.target, Path(folder))
            operator = case.name.removeprefix("test_").split("_")[0]
            narrow = kinds_of(model_of(case)) <= TYPES
            for wide in (True, False) if narrow else (True,):
                totals[wide][result] += 1
                totals[wide][CONSTANT] += reason == CONSTANT
            by_operator.setdefault(operator, Counter())[result] += 1
            if result != "passes" and arguments.list:
                print(f"{result:8} {case.name}: {reason}", flush=True)
    for operator, found in sorted(by_operator.items()):
        if set(found) != {"passes"}:
            print(f"{operator:28} " + "  ".join(f"{kind} {n}" for kind, n in sorted(found.items())))
    print(summary("float32, integers and bool", totals[False]))
    print(summary("with float64", totals[True]))
    return 0


def summary(of: str, totals: Counter[str]) -> str:
    constants = totals.pop(CONSTANT, 0)
    count = totals.total()
    parts = ", ".join(f"{n} {kind}" for kind, n in sorted(totals.items()))
    share = 100 * totals["passes"] / max(count, 1)
    return f"{of}: {count} tests: {parts}; {share:.1f} %, {constants} of them constants"


if __name__ == "__main__":
    raise SystemExit(main())
