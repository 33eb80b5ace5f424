"""The public interface of the compiler: files to programs, programs to executables, and the types of both.

Whoever trains or runs a model takes everything from here, so that another compiler can stand in its place.
"""
# Nothing here is for this module itself.
# ruff: noqa: F401
# pyright: reportUnusedImport=false

from compiler.frontend.data_parts import Cut, Cuts, DataSource, Fold, PartSource, SettingValue, class_in, rows_of_class
from compiler.frontend.program import (
    COMMAND_LINE,
    EPOCH_NUMBER,
    KEPT,
    ROW_NUMBERS,
    SAMPLE_NUMBERS,
    SET,
    DataQuestion,
    DimensionsOf,
    Generation,
    IndexLimit,
    InputSpec,
    ParameterSpec,
    Program,
    Sampler,
    Setting,
    StartWeights,
    Stored,
    TrainingPlan,
)
from compiler.frontend.update_rules import AVERAGE, EarlyStop, Plateau
from compiler.interface import (
    ALONE,
    FUSIONS,
    Alone,
    Array,
    Decoding,
    Executable,
    Options,
    Peers,
    Results,
    Steps,
    Tensors,
)
from compiler.programs.executables import (
    OPTIMIZER_STATES,
    VALUES,
    allocate,
    attention_shapes,
    compile_ahead,
    compile_decoding,
    compile_program,
    finishing_kind,
    initialise,
    initialise_states,
    memory_needed,
    owned_states,
    predicts_row_by_row,
)
from compiler.programs.exported import exported_library, generates_alone, independent_settings, without_teachers
from compiler.programs.kinds import (
    BATCH_EVALUATION,
    EVALUATION,
    INITIALISATION,
    POSITIONS_OF_A_WINDOW,
    PREDICTION,
    STEP_OF_MODE,
    TRAINING,
    GraphKind,
    Purpose,
    with_products,
)
from compiler.programs.load import (
    check,
    complete,
    data_dimensions,
    load,
    load_text,
    options_of,
    resized,
    subjects,
    with_wide_inputs,
)
from compiler.programs.owned_states import OwnedStates
from compiler.programs.shard_tree import rows_of_process
from compiler.targets.manifest import InputSlot
from compiler.targets.target import (
    ExportedLibrary,
    LibraryMember,
    LibraryMemory,
    LibrarySignature,
    LibraryTensors,
    Pieces,
)
