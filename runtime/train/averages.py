"""Averaged weights (`ema` in `train`): beside each trained parameter, an average that the step moves.

While training, parameters hold the weights that the optimizer moves. Whenever the model is measured or saved, averages
stand in their place: a checkpoint holds the average as the weight, and the weight in the place of the average.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from compiler import driver
from compiler.driver import Program, Tensors


def averages_of(program: Program) -> Mapping[str, str]:
    """The name of the average of each parameter that has one."""
    if program.plan is None or program.plan.ema is None:
        return {}
    return {rule.parameter: f"{rule.parameter}:{driver.AVERAGE}" for rule in program.plan.every_rule}


def exchanged_names(averages: Mapping[str, str]) -> dict[str, str]:
    """Each parameter by its average, and each average by its parameter."""
    return {**averages, **{average: path for path, average in averages.items()}}


def begin_averages(tensors: Tensors, averages: Mapping[str, str]) -> None:
    """Averages begin with the weights."""
    for path, average in averages.items():
        tensors.write(average, tensors[path])


def take_averages(tensors: Tensors, averages: Mapping[str, str]) -> None:
    """Parameters become their averages."""
    for path, average in averages.items():
        tensors.write(path, tensors[average])


def exchange(tensors: Tensors, averages: Mapping[str, str]) -> None:
    """Parameters and averages take each other's content."""
    for path, average in averages.items():
        content = tensors[path].copy()
        tensors.write(path, tensors[average])
        tensors.write(average, content)


@contextmanager
def averaged(tensors: Tensors, averages: Mapping[str, str]) -> Generator[None, None, None]:
    """Averages stand in the place of the parameters, for a measurement."""
    exchange(tensors, averages)
    try:
        yield
    finally:
        exchange(tensors, averages)
