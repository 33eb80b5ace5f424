"""The fused graph: its text reads back for real models, and its verifier refuses each kind of broken one."""

from __future__ import annotations

import pytest
from repository import ROOT

from compiler.driver import load
from compiler.errors.diagnostics import CompilerBug, DataError
from compiler.interface import FUSIONS, Options
from compiler.ops import OPS
from compiler.programs.kinds import TRAINING
from compiler.programs.stages import graph_of, prepared
from compiler.schedule.build import fused_graph
from compiler.schedule.fusion.printer import print_fused
from compiler.schedule.fusion.reader import read_fused
from compiler.schedule.fusion.verify import verify_fused
from compiler.schedule.numerics.internal_ops import INTERNAL_OPS

ALL_OPS = (*OPS, *INTERNAL_OPS)
MODELS = [
    *(f"benchmarks/zoo/{name}.dl" for name in ("mlp_small", "lenet5", "lstm", "resnet20", "gpt_mini")),
    *(f"examples/{name}/model.dl" for name in ("iris", "digits", "wine", "strokes")),
]
RIGHT = """\
fused "example" batch 32 ordered
  input "x" data %0: f32[batch, 8]
  input "w" parameter %1: f32[8, 300]
  2: %4: f32[batch, 300] = broadcast(%3) shape=[batch, 300] axes=[0]
  group 0 product 300*batch
    0: %2: f32[batch, 300] = contraction(%0, %1) lhs=[0, 1] rhs=[1, 2] out=[0, 2]
        full %0[e//8, e mod 8], %1[e//300, e mod 300]
  group 1 elements 300*batch by rows batch x 300
    1: %3: f32[batch] = sum(%2) axes=[1]
        full %2[e//300, e mod 300]
    3: %5: f32[batch, 300] = sub(%2, %4)
        full %2[e//300, e mod 300], %3[e//300]
    4: %6: f32[batch, 300] = exp(%5)
        full %5[e//300, e mod 300]
  group 2 elements 2400
    5: %7: f32[8, 300] = mul(%1, %1)
        full %1[e//300, e mod 300], %1[e//300, e mod 300]
  output "y" output %6
  output "w'" parameter %7 updates "w"
  %6 lies in %2
  %7 lies in %1
  0 before 2
end
"""
DIFFERENCE = """\
    3: %5: f32[batch, 300] = sub(%2, %4)
        full %2[e//300, e mod 300], %3[e//300]
"""
EXPONENTIAL = """\
    4: %6: f32[batch, 300] = exp(%5)
        full %5[e//300, e mod 300]
"""
BROKEN = {
    "a value defined twice": ("= exp(%5)", ", %6: f32[batch, 300] = exp(%5)", "%6 is defined 2 times"),
    "a number given twice": ("group 2 elements", "group 1 elements", "2 groups have the number 1"),
    "an output that nothing computes": ('"y" output %6', '"y" output %4', "no group computes %4"),
    "a product of no contraction": ("group 2 elements", "group 2 product", "group 2 is no group of kind product"),
    "a contraction among elements": ("group 0 product", "group 0 elements", "group 0 is no group of kind elements"),
    "a node that is not alone": ("group 2 elements", "group 2 alone", "group 2 is no group of kind alone"),
    "a domain of another size": ("group 2 elements 2400", "group 2 elements 2399", "%7 has 2400 elements"),
    "a member in another space": ("full %5[e//300, e mod 300]", "row %5[e//300, e mod 300]", "the space row"),
    "a split of another reduction": ("by rows batch x 300", "by rows 300*batch x 1", "%3 reduces other rows"),
    "rows that do not divide": (
        "%2[e//300, e mod 300], %3",
        "%2[e//300, e//2 mod 7], %3",
        "do not divide an address of %5",
    ),
    "a source that is a view": ("%3[e//300]\n", "%4[e//300, e mod 300]\n", "%5 reads %4, which is no input"),
    "an address behind its source": ("%0[e//8, e mod 8]", "%0[e//8, e mod 8 + 1]", "%2 reads outside of %0"),
    "an address before its source": ("%0[e//8, e mod 8]", "%0[e//8, e mod 8 + -1]", "%2 reads outside of %0"),
    "a source of another place": ("full %5[e//300, e mod 300]", "full %5[0, e mod 300]", "%6 reads elements of %5"),
    "groups that wait for each other": ("  0 before 2", "  1 before 0", "groups wait for each other"),
    "an order that is not kept": ("  0 before 2", "  2 before 0", "group 0 stands before group 2"),
    "a promise about no group": ("  0 before 2", "  0 before 7", "one of them does not exist"),
    "a value in two places": ("  %7 lies in %1", "  %6 lies in %1", "a value lies in two places"),
    "memory of another size": ("  %6 lies in %2", "  %6 lies in %0", "%6 has not the size of %0"),
    "a value that lies in itself": ("  %6 lies in %2", "  %6 lies in %5\n  %5 lies in %6", "lies in itself"),
    "memory that is read too late": ("  0 before 2\n", "", "group 0 may read %1 after group 2 has overwritten it"),
    "a view that lies somewhere": ("  %7 lies in %1", "  %4 lies in %2", "no group computes %4"),
    "members in another order": (DIFFERENCE + EXPONENTIAL, EXPONENTIAL + DIFFERENCE, "%6 stands before %5"),
}


def test_the_example_is_right_and_reads_back() -> None:
    fused = read_fused(RIGHT, ALL_OPS)
    verify_fused(fused)
    assert print_fused(fused) == RIGHT


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_one_is_refused(broken: str) -> None:
    old, new, message = BROKEN[broken]
    assert old in RIGHT
    with pytest.raises(CompilerBug) as caught:
        verify_fused(read_fused(RIGHT.replace(old, new, 1), ALL_OPS))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fused", "fuse", "does not begin"),
        ('  output "y"', '  outputs "y"', "unexpected line"),
        ("group 0 product", "group 0 matrix", "matrix is no kind of group"),
        ("rows batch x 300", "columns batch x 300", "a split into columns has 2 extents"),
        ("rows batch x 300", "rows batches x 300", "'batches' is no extent"),
        ("full %0[e//8, e mod 8]", "full %0[e//8]", "%0 is read along 1 axes and has 2"),
        ("full %0[e//8, e mod 8]", "full %0[e//8, f]", "'f' is no term of an index"),
        ("        full %5[e//300, e mod 300]\n", "", "the node at 4 does not name its operands"),
        ("%7 lies in %1", "%7 lies in %11", "nothing defines %11"),
    ],
)
def test_a_text_that_is_no_fused_graph_is_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_fused(RIGHT.replace(old, new, 1), ALL_OPS)


@pytest.mark.parametrize("path", MODELS)
def test_models_are_right_after_each_pass_and_read_back(path: str) -> None:
    program, options = load(ROOT / path), Options()
    graph = prepared(graph_of(program, TRAINING, options), options)
    for without in ((), tuple(FUSIONS)):
        fused = fused_graph(graph, without, options.batch, verify=True)
        text = print_fused(fused)
        again = read_fused(text, ALL_OPS)
        assert print_fused(again) == text
        verify_fused(again)
