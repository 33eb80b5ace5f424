"""What each pass over graphs makes of one: `PASS.graph` and `PASS-CASE.graph` in `tests/golden/passes` hold both.

A file begins with a comment that says what it shows, and the number of rows where the pass weighs memory. Behind the
line `# behind PASS` stands the graph that the pass makes, which `--update-golden` writes.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from comparisons import Array, assert_same
from golden import GOLDEN, Golden

from compiler.evaluate import evaluate
from compiler.graph.ir import Graph
from compiler.graph.printer import print_graph
from compiler.graph.reader import read_graph
from compiler.graph.verify import verify
from compiler.inspection.passes import passes_by_name
from compiler.interface import Options
from compiler.ops import OPS
from compiler.schedule.numerics.internal_ops import INTERNAL_OPS
from compiler.types import at_batch, numpy_dtype

CASES = sorted((GOLDEN / "passes").glob("*.graph"))
ROWS, USUAL_ROWS = 3, 32


def pass_of(case: Path) -> str:
    return case.stem.split("-")[0]


def before(case: Path) -> str:
    """The comment and the graph before the pass."""
    return case.read_text().split("\n# behind ")[0].rstrip("\n")


def behind(case: Path) -> tuple[Graph, Graph]:
    """The graph before the pass and the one behind it, both verified."""
    text = before(case)
    rows = re.search(r"(\d+) rows", text.split("\n")[0])
    graph = read_graph(text, OPS, case.name)
    verify(graph, case.name)
    result = passes_by_name(Options(batch=int(rows[1]) if rows else USUAL_ROWS))[pass_of(case)].run(graph)
    assert isinstance(result, Graph)
    verify(result, pass_of(case))
    return graph, result


def outputs_of(graph: Graph) -> dict[str, Array]:
    """What the reference gives for random numbers, which have the same values in every float type."""
    random = np.random.default_rng(0)
    given: dict[str, Array] = {}
    for entry in graph.inputs:
        shape = at_batch(entry.value.type.shape, ROWS)
        is_float = entry.value.type.dtype.is_float
        drawn = random.uniform(-1.5, 1.5, shape).astype("f4") if is_float else random.integers(0, 3, shape)
        given[entry.name] = np.asarray(drawn).astype(numpy_dtype(entry.value.type.dtype))
    return evaluate(graph, given, ROWS)


def test_every_pass_has_a_case() -> None:
    cases = {pass_of(case) for case in (GOLDEN / "passes").iterdir()}
    assert cases == set(passes_by_name(Options(batch=USUAL_ROWS)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_pass_makes_the_graph_of_its_case(case: Path, golden: Golden) -> None:
    graph, result = behind(case)
    assert print_graph(result) != print_graph(graph), "the pass changes nothing"
    golden(f"passes/{case.name}", f"{before(case)}\n\n# behind {pass_of(case)}\n{print_graph(result)}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_graph_of_a_case_means_the_same(case: Path) -> None:
    graph, result = behind(case)
    wanted, found = outputs_of(graph), outputs_of(result)
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert_same(name, found[name].astype(array.dtype), array)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_graph_of_a_case_reads_back(case: Path) -> None:
    result = behind(case)[1]
    text = print_graph(result)
    assert print_graph(read_graph(text, (*OPS, *INTERNAL_OPS))) == text
