"""The primitives. `OPS` is the whole list; everything else of the language is written in it."""

from compiler.graph.op import Op
from compiler.ops.contraction import Contraction
from compiler.ops.control import CustomGradient, StopGradient
from compiler.ops.elementwise import BINARY, COMPARISONS, UNARY, Cast, FusedMultiplyAdd, Where
from compiler.ops.indexing import Gather, Put, ScatterAdd
from compiler.ops.mathematics import MATHEMATICS
from compiler.ops.movement import MOVEMENTS
from compiler.ops.reduction import REDUCTIONS
from compiler.ops.scan import Scan
from compiler.ops.sources import SOURCES, Threefry
from compiler.ops.window import Fold, Window

OPS: tuple[type[Op], ...] = (
    *SOURCES,
    *(*UNARY, *BINARY, *COMPARISONS, *MATHEMATICS, Where, FusedMultiplyAdd, Cast, Threefry),
    *REDUCTIONS,
    *(*MOVEMENTS, Window, Fold),
    *(Contraction, Gather, ScatterAdd, Put),
    *(StopGradient, CustomGradient, Scan),
)
