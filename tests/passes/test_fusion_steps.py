"""The fusions that made each kernel, in their order, as the page shows them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from repository import ROOT

from compiler.driver import load, options_of
from compiler.inspection.forms import forms_of
from compiler.inspection.fusion_steps import fusion_steps
from compiler.inspection.plan import Compiled, compiled
from compiler.interface import FUSIONS, Options
from compiler.schedule.build import fused_graph


@cache
def of_example(name: str, without: tuple[str, ...] = ()) -> Compiled:
    program = load(ROOT / "examples" / name / "model.dl")
    options = options_of(program, Options(batch=16, without=without, machine="avx2"))
    return compiled(forms_of(program, options))


def steps_of(found: Compiled, without: tuple[str, ...] = ()):
    return fusion_steps(found.code, replace(found.forms.options, without=without), found.machine)


@pytest.mark.parametrize("name", ["lenet", "digits"])
def test_every_kernel_has_as_many_joined_operations_as_its_group(name: str):
    found = of_example(name)
    steps = steps_of(found)
    groups = fused_graph(found.code, (), 16, machine=found.machine).groups
    by_number = {int(kernel.split("_")[0].removeprefix("k")): own for kernel, own in steps.items()}
    assert by_number.keys() == set(range(len(groups)))
    for number, group in enumerate(groups):
        merges = [step for step in by_number[number] if step.fusion != "rematerialise_cheap"]
        assert len(merges) <= len(group.members) - 1
        assert bool(by_number[number]) == (len(group.members) > 1), number
        assert all(step.fusion in FUSIONS and step.reason == FUSIONS[step.fusion] for step in by_number[number])
    assert sum(map(len, by_number.values())) > 10


def test_a_layer_is_a_product_with_a_bias_and_an_activation():
    steps = steps_of(of_example("lenet"))
    (kernel,) = [own for name, own in steps.items() if name.startswith("k8_contraction_add_maximum")]
    assert [(step.fusion, step.first, step.second) for step in kernel] == [
        ("bias", ("contraction",), ("add",)),
        ("activation", ("contraction", "add"), ("maximum",)),
        ("slopes", ("contraction", "add", "maximum"), ("lt",)),
    ]
    assert {origin.user_span.line for origin in kernel[0].origins} == {6}


def test_a_fusion_that_is_left_out_is_no_step():
    without = ("bias", "siblings")
    steps = steps_of(of_example("lenet", without), without)
    assert not {step.fusion for own in steps.values() for step in own} & {*without}


def test_reductions_of_the_same_values_are_joined_as_siblings():
    assert "siblings" in {step.fusion for own in steps_of(of_example("digits")).values() for step in own}
