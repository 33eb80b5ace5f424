"""The lints that look at an elaborated program. `LINTS` is the whole list; each is a function of its own file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from compiler.errors.diagnostics import Diagnostic
from compiler.frontend.trace import Subject
from compiler.lints.double_softmax import find_double_softmax
from compiler.lints.exchanged_arguments import find_exchanged_arguments
from compiler.lints.frozen_to_the_end import find_frozen_to_the_end
from compiler.lints.mixed_rows import find_mixed_rows
from compiler.lints.moving_statistics import find_moving_statistics
from compiler.lints.opposed_losses import find_opposed_losses
from compiler.lints.padded_reductions import find_padded_reductions
from compiler.lints.possible_zero import find_possible_zero
from compiler.lints.schedule_length import find_schedule_length
from compiler.lints.shared_layers import find_shared_layers
from compiler.lints.start_values import find_start_values
from compiler.lints.unreached_parameters import find_unreached_parameters

LINTS: tuple[Callable[[Subject], Iterator[Diagnostic]], ...] = (
    find_double_softmax,
    find_unreached_parameters,
    find_possible_zero,
    find_start_values,
    find_schedule_length,
    find_moving_statistics,
    find_frozen_to_the_end,
    find_mixed_rows,
    find_shared_layers,
    find_padded_reductions,
    find_exchanged_arguments,
    find_opposed_losses,
)


def lint(subject: Subject) -> Iterator[Diagnostic]:
    """What all lints find."""
    for find in LINTS:
        yield from find(subject)
