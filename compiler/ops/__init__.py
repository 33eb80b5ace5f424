"""The primitives. `OPS` is the whole list; everything else of the language is written in it."""

from compiler.graph.op import Op
from compiler.ops.contraction import Contraction
from compiler.ops.control import CustomGradient, StopGradient
from compiler.ops.elementwise import (
    Abs,
    Add,
    And,
    Cast,
    Divide,
    Equal,
    Floor,
    FloorDivide,
    FusedMultiplyAdd,
    Less,
    LessEqual,
    Maximum,
    Minimum,
    Modulo,
    Multiply,
    Negate,
    Not,
    NotEqual,
    Or,
    Subtract,
    Where,
)
from compiler.ops.indexing import Gather, Put, ScatterAdd
from compiler.ops.mathematics import FUNCTIONS, Power
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments, Sum
from compiler.ops.scan import Scan
from compiler.ops.sources import BatchSize, Constant, Iota, RandomUniform, Threefry
from compiler.ops.window import Fold, Window

OPS: tuple[type[Op], ...] = (
    # sources
    Constant,
    Iota,
    BatchSize,
    RandomUniform,
    # elementwise
    Negate,
    *FUNCTIONS,
    Floor,
    Abs,
    Not,
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Maximum,
    Minimum,
    FloorDivide,
    Modulo,
    And,
    Or,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Where,
    FusedMultiplyAdd,
    Cast,
    Threefry,
    # reductions
    Sum,
    Max,
    Min,
    ArgMax,
    CumulativeSum,
    Moments,
    # movement
    Reshape,
    Transpose,
    Broadcast,
    Slice,
    Pad,
    Concat,
    Reverse,
    Window,
    Fold,
    # products, indexing, control
    Contraction,
    Gather,
    ScatterAdd,
    Put,
    StopGradient,
    CustomGradient,
    Scan,
)
