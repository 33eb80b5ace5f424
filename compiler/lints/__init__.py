"""The lints that look at an elaborated program. `LINTS` is the whole list; a file has those of one subject."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from compiler.errors.diagnostics import Diagnostic
from compiler.frontend.trace import Subject
from compiler.lints.channels import find_channels_last
from compiler.lints.loss_arguments import find_double_softmax, find_exchanged_arguments
from compiler.lints.opposed_losses import find_opposed_losses
from compiler.lints.parameters import find_shared_layers, find_start_values, find_unreached_parameters
from compiler.lints.possible_zero import find_possible_zero
from compiler.lints.probabilities import find_scores_for_probabilities
from compiler.lints.rows import find_mixed_rows, find_padded_reductions
from compiler.lints.train_keys import (
    find_frozen_to_the_end,
    find_lone_shard,
    find_moving_statistics,
    find_pairs_of_one_row,
    find_rows_of_shards,
    find_schedule_length,
)
from compiler.lints.views import find_equal_views, find_loss_of_equal_views

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
    find_scores_for_probabilities,
    find_opposed_losses,
    find_channels_last,
    find_rows_of_shards,
    find_lone_shard,
    find_pairs_of_one_row,
    find_equal_views,
    find_loss_of_equal_views,
)


def lint(subject: Subject) -> Iterator[Diagnostic]:
    """The findings of all lints."""
    for find in LINTS:
        yield from find(subject)
