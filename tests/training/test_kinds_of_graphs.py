"""Each kind of graph of a program can be built, and has a name of its own."""

import numpy as np
import pytest

from compiler import driver
from compiler.driver import Options
from compiler.graph.verify import verify
from compiler.programs import executables
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

sample lines from Words {
    first = cast(12 * random(batch, 8), i32)
    output scores = Words(first)[:, -1]
}
"""


def test_every_purpose_has_a_graph() -> None:
    assert set(GRAPHS) == set(Purpose)


def test_names_tell_kinds_apart() -> None:
    kinds = [GraphKind(purpose) for purpose in Purpose]
    kinds += [GraphKind(Purpose.TRAINING, phase=2), GraphKind(Purpose.POSITION, rows=2)]
    kinds += [GraphKind(Purpose.SAMPLING, sampler="prior")]
    assert len({str(kind) for kind in kinds}) == len(kinds)
    assert [str(kind) for kind in kinds[-3:]] == ["training 2", "position 2", "sampling prior"]
    assert [str(kind) for kind in STEP_OF_MODE.values()] == ["training", "prediction"]


@pytest.mark.parametrize(
    "kind",
    [
        *map(GraphKind, (Purpose.INITIALISATION, Purpose.STATES, Purpose.TRAINING, Purpose.EVALUATION)),
        *map(GraphKind, (Purpose.PREDICTION, Purpose.GRADIENTS, Purpose.SCHEDULE, Purpose.FINISHING, Purpose.WINDOW)),
        *(GraphKind(purpose, rows=3) for purpose in (Purpose.PROMPT, Purpose.POSITION)),
        GraphKind(Purpose.SAMPLING, sampler="lines"),
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
    assert graphs_of_step(whole, TRAINING, Options()) == [TRAINING]
    found = graphs_of_step(several, TRAINING, Options())
    assert {kind.purpose for kind in found} <= set(ACCUMULATION)
    assert len(found) >= 2
    assert graphs_of_step(several, GraphKind(Purpose.EVALUATION), Options()) == [GraphKind(Purpose.EVALUATION)]


DRAWN = """\
optimizer drifting(lr = 0.1)(p, g, t) {
    state place = normal(std = 0.5)
    state count = ones
    place = 0.9 * place + g
    count = count + 1
    p - lr * place
}
"""


def test_states_alone_are_those_of_a_whole_initialisation() -> None:
    text = DRAWN + WORDS.replace("adam(", "drifting(").split("generate")[0]
    program, options = driver.load_text(text, "words.dl"), driver.Options()
    whole, alone = driver.allocate(program, options), driver.allocate(program, options)
    driver.initialise(program, whole, 7, options)
    driver.initialise_states(program, alone, 7, options)
    states = [name for name in whole.names() if name.endswith((":place", ":count"))]
    assert len(states) == 6
    for name in whole.names():
        np.testing.assert_array_equal(alone[name], whole[name] if name in states else np.zeros_like(whole[name]))
    assert all(len(np.unique(whole[name])) > 1 for name in states if name.endswith(":place"))


def test_states_of_zeros_are_not_written_into_new_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are where the memory has been used."""
    program, options = driver.load_text(WORDS, "words.dl"), driver.Options()
    used, new = driver.allocate(program, options), driver.allocate(program, options)
    assert program.plan is not None
    states = [*program.plan.optimizer_states]
    assert len(states) > 2
    for name in states:
        used.write(name, np.full_like(used[name], -0.0))
    driver.initialise_states(program, used, 7, options)
    for name in states:
        assert not used[name].reshape(-1).view(np.uint8).any()
    monkeypatch.setattr(executables, "compile_program", lambda *_: pytest.fail("a program was compiled"))
    driver.initialise_states(program, new, 7, options)


@pytest.mark.parametrize(("initializer", "is_zero"), [("zeros", True), ("constant(-0.0)", False), ("ones", False)])
def test_states_that_begin_with_zeros_are_known(initializer: str, is_zero: bool) -> None:
    text = DRAWN.replace("normal(std = 0.5)", initializer) + WORDS.replace("adam(", "drifting(").split("generate")[0]
    program = driver.load_text(text, "words.dl")
    assert program.plan is not None
    states = program.plan.optimizer_states
    assert {state.is_zero for name, state in states.items() if name.endswith(":place")} == {is_zero}
    assert not any(state.is_zero for name, state in states.items() if name.endswith(":count"))
