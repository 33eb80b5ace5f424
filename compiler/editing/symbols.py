"""The names of a text: the meaning of each, its declaration, and its occurrences."""

from __future__ import annotations

import os.path
from enum import Enum
from typing import TypeAlias

from compiler.errors.diagnostics import Span
from compiler.frontend.builtins.table import Builtin
from compiler.support.record import record
from compiler.syntax import tree


class Kind(Enum):
    """The kind of a name; the value is the word for it."""

    CONST = "constant"
    FN = "function"
    LAYER = "layer"
    INIT = "initialiser"
    OPTIMIZER = "optimizer"
    SCHEDULE = "schedule"
    MODEL = "model"
    TRAIN = "experiment"
    TEST = "test"
    SAMPLE = "sampler"
    SETTING = "setting"
    TENSOR = "tensor"
    DIMENSION = "dimension"
    VARIABLE = "name"
    LOOP = "loop variable"
    PARAM = "parameter"
    STATE = "state"
    INPUT = "input"
    TARGET = "target"
    OUTPUT = "output"
    LOSS = "loss"
    BUILTIN = "built-in function"
    CONSTANT = "built-in constant"
    TYPE = "type"
    KEY = "key"
    FORMAT = "data format"
    OPTION = "option"
    ATTRIBUTE = "attribute"
    UNKNOWN = "unknown name"


DECLARED = {
    "fn": Kind.FN,
    "layer": Kind.LAYER,
    "init": Kind.INIT,
    "optimizer": Kind.OPTIMIZER,
    "schedule": Kind.SCHEDULE,
}
LOCAL = frozenset(
    (
        Kind.SETTING,
        Kind.TENSOR,
        Kind.DIMENSION,
        Kind.VARIABLE,
        Kind.LOOP,
        Kind.PARAM,
        Kind.STATE,
        Kind.INPUT,
        Kind.TARGET,
        Kind.OUTPUT,
        Kind.LOSS,
    )
)
"""Names that belong to one declaration."""

Meant: TypeAlias = (
    "tree.Declaration | tree.Parameter | tree.Statement | tree.Entry | tree.Update | tree.Scan | Builtin | None"
)


@record(eq=False)
class Symbol:
    """What a name stands for: `place` is that of the name where it is declared, None for what the compiler provides.

    `node` is the syntax that declares it, and `owner` the declaration in which a local name stands.
    """

    kind: Kind
    name: str
    place: Span | None = None
    node: Meant = None
    owner: str = ""

    @property
    def key(self) -> tuple[str, int, int, str]:
        """Equal for two readings of the same text."""
        if self.place is None:
            return (self.kind.value, 0, 0, self.name)
        return (os.path.normpath(self.place.source.name), self.place.line, self.place.column, self.name)

    @property
    def is_library(self) -> bool:
        return self.place is None or self.place.source.is_library


@record(eq=False)
class Occurrence:
    """A name in the text. `is_written` where it is declared or given a value; `symbol` is None where it means nothing
    that is declared."""

    place: Span
    kind: Kind
    symbol: Symbol | None = None
    is_written: bool = False
