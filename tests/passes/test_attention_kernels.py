"""What the training step of a block of a Transformer computes and keeps: no copies of heads, few large tensors."""

from __future__ import annotations

from collections import Counter
from functools import cache

from elaboration import program
from native import host

from compiler.interface import Options
from compiler.programs.kinds import TRAINING
from compiler.programs.stages import graph_of, prepared, scheduled
from compiler.schedule.ir import Schedule
from compiler.types import BatchExtent

TIME, WIDTH, HEADS, HIDDEN, WORDS = 24, 20, 2, 28, 50
TEXT = f"""
model M {{
    input tokens: i32[batch, {TIME}] in 0..{WORDS}
    embed = embedding({WORDS}, {WIDTH})
    x = embed(tokens) |> encoder_block(
        {HEADS}, {HIDDEN}, causal = true, pre_norm = true, activation = gelu(approximate = true), drop = 0
    )
    output logits = embed(x)
}}

train M {{
    target next: i32[batch, {TIME}] in 0..{WORDS}
    loss = cross_entropy(logits, next)
    optimizer = gradient_descent(lr = 0.1)
    batch = 4
}}
"""


@cache
def step() -> Schedule:
    options = Options(batch=4)
    return scheduled(prepared(graph_of(program(TEXT), TRAINING), options), options, host())


def written() -> Counter[int]:
    """How many tensors of the batch are stored, by their elements for each row."""
    stored = {index for instance in step().instances for index in instance.writes}
    extents = [step().buffers[index].elements for index in stored]
    return Counter(extent.multiple for extent in extents if isinstance(extent, BatchExtent))


def test_heads_are_read_where_the_dense_layers_wrote_them() -> None:
    names = [instance.kernel.name for instance in step().instances if "copy" in instance.kernel.name]
    assert len(names) == 1, names  # the rate, which is a result


def test_scores_and_weights_are_stored_and_what_comes_back_to_them() -> None:
    assert written()[HEADS * TIME * TIME] == 4


def test_of_gelu_its_result_and_its_slope_are_stored() -> None:
    # The third is the gradient that arrives.
    assert written()[TIME * HIDDEN] == 3


def test_the_likelihood_of_each_word_is_made_where_its_row_is() -> None:
    # Logits, their exponentials, and the gradient of the logits.
    assert written()[TIME * WORDS] == 3
