"""What fusion and each pass over the fused graph do: `tests/golden/passes/PASS.fused` holds the text before and behind.

A file begins with a comment that says what it shows. Behind the line `# behind PASS` stands the fused graph that the
pass makes, which `--update-golden` writes.
"""

from __future__ import annotations

import pytest
from golden import GOLDEN, Golden

from compiler.graph.reader import read_graph
from compiler.ops import OPS
from compiler.schedule.build import fixed
from compiler.schedule.fusion.fuse import fuse
from compiler.schedule.fusion.ir import FusedGraph
from compiler.schedule.fusion.passes import FUSED_PASSES
from compiler.schedule.fusion.printer import print_fused
from compiler.schedule.fusion.reader import read_fused
from compiler.schedule.fusion.verify import verify_fused
from compiler.schedule.numerics.internal_ops import INTERNAL_OPS

PASSES = {fused_pass.__name__: fused_pass for fused_pass, _ in FUSED_PASSES}
ALL_OPS = (*OPS, *INTERNAL_OPS)


def before(name: str) -> str:
    """The comment and the text before the pass."""
    return (GOLDEN / "passes" / f"{name}.fused").read_text().split("\n# behind ")[0].rstrip("\n")


def read(name: str) -> FusedGraph:
    comment, _, text = before(name).partition("\n")
    assert comment.startswith("# ")
    fused = read_fused(text, ALL_OPS)
    assert print_fused(fused) == text + "\n"
    verify_fused(fused)
    return fused


def test_fusion_makes_the_groups_of_its_case(golden: Golden) -> None:
    graph = read_graph(before("fuse"), OPS)
    fused = fuse(fixed(graph, (), 32))
    verify_fused(fused)
    golden("passes/fuse.fused", f"{before('fuse')}\n\n# behind fuse\n{print_fused(fused)}")


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_makes_the_fused_graph_of_its_case(name: str, golden: Golden) -> None:
    given = read(name)
    result = PASSES[name](given)
    verify_fused(result, name)
    assert result != given, "the pass changes nothing"
    golden(f"passes/{name}.fused", f"{before(name)}\n\n# behind {name}\n{print_fused(result)}")


def test_there_is_one_case_for_each_pass() -> None:
    assert {path.stem for path in (GOLDEN / "passes").glob("*.fused")} == {"fuse", *PASSES}
