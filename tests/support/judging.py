"""What is wrong with a program or with a graph, as the kind of its fault: what a smaller one must have, too.

It is judged by the compiler that the module path has, which may be that of another commit.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

_RELATIVE = 1e-3  # of the largest element: a wrong number is far beyond what rounding explains
_AMPLIFIED = 30  # times the effect of rounding to f32
_BATCH, _NOMINAL = 5, (32, 1_000_000)  # rows, and those for which kernels are made: at the second, threads pay


def kind_of_fault(text: str, is_graph: bool, seed: int | None, batch: int = _BATCH) -> str | None:
    """The kind of the first fault, without figures and names; None where there is none, or the text means nothing.

    With a `seed`, a program is checked as by `check_networks.py` for this seed. Otherwise each of its graphs is
    compiled as it is, and compared with the reference in f64 on `batch` rows.
    """
    from compiler.errors.diagnostics import DlcError

    try:
        if is_graph:
            return _of_graph(_read(text), batch)
        return _of_program(text, batch) if seed is None else _of_network(text, seed)
    except DlcError:
        return None
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        file = Path(place.filename)
        if "compiler" not in file.parts and type(error).__name__ != "CompilerBug":
            raise  # the check itself is at fault
        return f"{type(error).__name__} in {file.name}, {place.name}"


def _of_network(text: str, seed: int) -> str | None:
    from network_checks import Network

    fault = next(iter(Network(text, seed).faults()), None)
    if fault is None:
        return None
    what = "other bits" if "other bits" in fault else "differs from the reference"
    return f"{re.split('[,:]', fault)[0]}: {what}"


def _of_program(text: str, batch: int) -> str | None:
    from compiler import driver
    from compiler.programs import stages
    from compiler.programs.kinds import EVALUATION, INITIALISATION, PREDICTION, TRAINING

    program = driver.load_text(text, "program.dl")
    for kind in (*((TRAINING, EVALUATION) if program.plan is not None else ()), PREDICTION, INITIALISATION):
        fault = _of_graph(stages.graph_of(program, kind), batch)
        if fault is not None:
            return f"{kind}: {fault}"
    return None


def _read(text: str) -> Any:
    from compiler.errors.diagnostics import CompilerBug, UsageError
    from compiler.graph.reader import read_graph
    from compiler.graph.verify import verify
    from compiler.ops import OPS

    try:
        graph = read_graph(text, OPS)
        verify(graph)
    except (CompilerBug, AssertionError, LookupError, TypeError, ValueError) as error:
        raise UsageError(f"the text is no graph: {error}") from None
    return graph


def _of_graph(graph: Any, batch: int) -> str | None:
    import numpy as np
    from native import compiled

    from compiler.graph.verify import verify
    from compiler.graph_passes.convert_dtype import to_dtype
    from compiler.pipeline import optimise_graph
    from compiler.types import DType

    graph = _of_data(graph)
    given = _inputs(graph, batch)
    wide = {name: a.astype("f8") if a.dtype.kind == "f" else a for name, a in given.items()}
    evaluate = _found("evaluate", "compiler.evaluate", "compiler.targets.reference.evaluate")
    expected, rounded = evaluate(to_dtype(graph, DType.F64), wide, batch), evaluate(graph, given, batch)
    ready = optimise_graph(graph)
    verify(ready)
    for nominal in _NOMINAL:
        native = compiled(ready, batch=nominal)
        first = native.executable(1).call(given, batch)
        for name, wanted in expected.items():
            if not _is_near(*(np.asarray(array, "f8") for array in (first[name], wanted, rounded[name]))):
                return "differs from the reference"
        for threads in (2, 3):
            found = native.executable(threads).call(given, batch)
            if any(found[name].tobytes() != first[name].tobytes() for name in first):
                return "other bits with several threads"
    return None


def _found(name: str, *homes: str) -> Callable[..., Any]:
    """A function of the compiler, which had other homes in earlier commits."""
    for home in homes:
        with suppress(ModuleNotFoundError, AttributeError):
            return getattr(import_module(home), name)
    raise ModuleNotFoundError(f"no {name} in {', '.join(homes)}")


def _of_data(graph: Any) -> Any:
    """The graph with all of its inputs given as arrays, and no tensor updated in place."""
    from compiler.graph.ir import Role

    inputs = tuple(replace(entry, role=Role.DATA) for entry in graph.inputs)
    outputs = tuple(replace(entry, role=Role.OUTPUT, updates=None) for entry in graph.outputs)
    return replace(graph, inputs=inputs, outputs=outputs)


def _is_near(found: Any, wanted: Any, rounded: Any) -> bool:
    """Whether each finite element is near; one that is not finite says nothing.

    `rounded` is what the reference gives in f32: where that is far, as behind the first step of Adam, nothing is said.
    """
    import numpy as np

    is_finite = np.isfinite(wanted) & (np.abs(wanted) < 1e30)
    scale = max(float(np.abs(wanted[is_finite]).max(initial=0.0)), 1e-3)
    allowed = _RELATIVE * scale + _AMPLIFIED * np.abs(rounded - wanted).max(where=is_finite, initial=0.0)
    return bool(np.all(np.abs(found - wanted)[is_finite] <= allowed))


def _inputs(graph: Any, batch: int) -> dict[str, Any]:
    """Numbers between 0.1 and 0.9 for floats, so that roots and logarithms have them; 0 and 1 for integers."""
    import numpy as np

    from compiler.types import at_batch

    numpy_dtype = _found("numpy_dtype", "compiler.types", "compiler.ops.rules")
    random = np.random.default_rng(0)
    given: dict[str, Any] = {}
    for entry in graph.inputs:
        shape, dtype = at_batch(entry.value.type.shape, batch), numpy_dtype(entry.value.type.dtype)
        drawn = random.uniform(0.1, 0.9, shape) if entry.value.type.dtype.is_float else random.integers(0, 2, shape)
        given[entry.name] = np.asarray(drawn).astype(dtype)
    return given
