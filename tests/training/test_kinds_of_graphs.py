"""Each kind of graph of a program can be built, and has a name of its own."""

import pytest

from compiler import driver
from compiler.graph.verify import verify
from compiler.programs.executables import graphs_of_step
from compiler.programs.kinds import ACCUMULATION, STEP_OF_MODE, TRAINING, GraphKind, Purpose
from compiler.programs.stages import GRAPHS, graph_of

WORDS = """\
model Words(vocab: int = 12) {
    input tokens: i32[batch, 8] in 0..vocab
    output logits = tokens |> embedding(vocab, 4) |> dense(vocab)
}

train Words {
    target next: i32[batch, 8] in 0..vocab
    loss = cross_entropy(logits, next)
    optimizer = adam(lr = 0.1)
    batch = 4
    metrics = accuracy(logits, next)
}

generate Words {
    feed tokens from logits
    length = 8
}
"""


def test_every_purpose_has_a_graph() -> None:
    assert set(GRAPHS) == set(Purpose)


def test_names_tell_kinds_apart() -> None:
    kinds = [GraphKind(purpose) for purpose in Purpose]
    kinds += [GraphKind(Purpose.TRAINING, phase=2), GraphKind(Purpose.POSITION, rows=2)]
    assert len({str(kind) for kind in kinds}) == len(kinds)
    assert [str(kind) for kind in kinds[-2:]] == ["training 2", "position 2"]
    assert [str(kind) for kind in STEP_OF_MODE.values()] == ["training", "prediction"]


@pytest.mark.parametrize(
    "kind",
    [
        *map(GraphKind, (Purpose.INITIALISATION, Purpose.TRAINING, Purpose.EVALUATION, Purpose.PREDICTION)),
        *map(GraphKind, (Purpose.GRADIENTS, Purpose.SCHEDULE, Purpose.FINISHING, Purpose.WINDOW)),
        *(GraphKind(purpose, rows=3) for purpose in (Purpose.PROMPT, Purpose.POSITION)),
    ],
    ids=str,
)
def test_graphs_of_kinds(kind: GraphKind) -> None:
    graph = graph_of(driver.load_text(WORDS, "words.dl"), kind)
    verify(graph)
    assert graph.outputs


def test_a_step_that_accumulates_is_of_several_kinds() -> None:
    text = WORDS.replace("batch = 4", "batch = 4\n    accumulate = 2")
    whole, several = (driver.load_text(one, "words.dl") for one in (WORDS, text))
    assert graphs_of_step(whole, TRAINING) == [TRAINING]
    found = graphs_of_step(several, TRAINING)
    assert {kind.purpose for kind in found} <= set(ACCUMULATION)
    assert len(found) >= 2
    assert graphs_of_step(several, GraphKind(Purpose.EVALUATION)) == [GraphKind(Purpose.EVALUATION)]
