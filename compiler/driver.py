"""The door of the compiler: files to programs, programs to executables, and the words in which both are said.

Whoever trains or runs a model takes everything from here, so that another compiler can stand in its place.
"""
# Nothing here is for this module itself.
# ruff: noqa: F401
# pyright: reportUnusedImport=false

from __future__ import annotations

from compiler.frontend.program import (
    AVERAGE,
    COMMAND_LINE,
    EPOCH_NUMBER,
    KEPT,
    SAMPLE_NUMBERS,
    SET,
    Cuts,
    DataQuestion,
    DataSource,
    DimensionsOf,
    EarlyStop,
    Generation,
    IndexLimit,
    InputSpec,
    ParameterSpec,
    Plateau,
    Program,
    Setting,
    SettingValue,
    StartWeights,
    TrainingPlan,
)
from compiler.interface import FUSIONS, Array, Decoding, Executable, Options, Results, Steps, Tensors
from compiler.programs.executables import OPTIMIZER_STATES, VALUES, allocate, compile_ahead, initialise, memory_needed
from compiler.programs.kinds import (
    attention_shapes,
    compile_attention,
    compile_augmentation,
    compile_decoding,
    compile_evaluation,
    compile_finishing,
    compile_following,
    compile_gradients,
    compile_prediction,
    compile_prompt,
    compile_schedule,
    compile_training,
    compile_window,
    finishing_kind,
)
from compiler.programs.load import check, complete, data_dimensions, load, load_text, options_of, resized
