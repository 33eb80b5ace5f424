"""The executables of one program: a step of training, an evaluation, a prediction, and their companions."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.frontend.program import Program
from compiler.interface import Decoding, Executable, Options, Tensors
from compiler.programs.executables import decoding, program_executable, training_executable
from compiler.programs.load import complete
from compiler.types import Shape


def compile_training(program: Program, options: Options, phase: int = 0) -> Executable:
    """One step of training: forward, loss, gradients, update, metrics. Later phases have less frozen.

    It takes `rows` of the plan: with `accumulate`, those of several batches.
    """
    return training_executable(program, options, phase)


def compile_augmentation(program: Program, options: Options) -> Executable:
    """The inputs and targets that `augment` changes, as training sees them."""
    return program_executable(program, "augmentation", options)


def compile_evaluation(program: Program, options: Options) -> Executable:
    """Loss and metrics, without an update."""
    return program_executable(program, "evaluation", options)


def compile_prediction(program: Program, options: Options) -> Executable:
    """The model's outputs."""
    return program_executable(program, "prediction", options)


def compile_attention(program: Program, options: Options) -> Executable:
    """The attention weights by the paths of their layers, the batch first, the keys last. Raises UsageError."""
    return program_executable(program, "attention", options)


def attention_shapes(program: Program) -> Mapping[str, Shape]:
    """The shapes of the attention weights by the paths of their layers, the batch first. Raises UsageError."""
    from compiler.programs.steps.attention_weights import (
        attention_graph,  # the graphs, which a cached program does without
    )

    graph = attention_graph(complete(program))
    return {output.name: output.value.type.shape for output in graph.outputs}


def compile_window(program: Program, options: Options) -> Executable:
    """The outputs of the sampler of `generate`, for any number of sequences, from whole windows.

    The feed is filled from the left up to the place `first_step`; where that is beyond the window, it has slid.
    """
    return program_executable(program, "window", options)


def compile_decoding(program: Program, tensors: Tensors, rows: int, options: Options) -> Decoding:
    """The same for `rows` sequences, from the last token of each at the place `first_step`, and states.

    The tensors stay shared with the caller.
    """
    return decoding(program, tensors, rows, options)


def compile_prompt(program: Program, rows: int, options: Options) -> Executable:
    """The same from whole windows of `rows` sequences; it fills the states of `compile_decoding`."""
    return program_executable(program, f"prompt {rows}", options)


def compile_gradients(program: Program, options: Options) -> Executable:
    """The mean square of each parameter's gradient, by its path, in a step that updates nothing."""
    return program_executable(program, "gradients", options)


def compile_schedule(program: Program, options: Options) -> Executable:
    """The rate of each step, `lr`, with the arithmetic of the training step and without the rest of it."""
    return program_executable(program, "schedule", options)


def compile_following(program: Program, options: Options) -> Executable:
    """What the schedule keeps of an epoch: the new values of the run-time settings that are its states."""
    return program_executable(program, "following", options)


def compile_finishing(program: Program, options: Options, of_training: bool) -> Executable:
    """The metrics of rows or of an epoch of training, and a loss that is a mean, from what was gathered of them."""
    return program_executable(program, finishing_kind(program, of_training), options)


def finishing_kind(program: Program, of_training: bool) -> str:
    """What `compile_ahead` calls the program of `compile_finishing`."""
    is_another = of_training and program.plan is not None and not program.plan.finishes_alike
    return "finishing_epoch" if is_another else "finishing"
