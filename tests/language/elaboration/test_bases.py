"""`train B: A { … }` with an experiment A: its lines, but for those that differ."""

from __future__ import annotations

from editor_questions import document_of
from elaboration import codes, mistakes, modules, program

from compiler.editing.completion import completions
from compiler.editing.renaming import places_of
from compiler.editing.symbols import Kind
from compiler.errors.diagnostics import Source
from compiler.frontend.elaborate import elaborate
from compiler.frontend.program import Program
from compiler.graph.ir import Role

TEXT = """\
model M(hidden = 4) {
    input x: f32[batch, 6]
    output y = x |> dense(hidden) |> relu |> dense(3)
}

train A: M {
    target label: i32[batch] in 0..3
    gap = mean(y)
    loss = cross_entropy(y, label) + 0 * gap
    metrics = [accuracy(y, label)]
    augment { x = x + random_like(x) }
    optimizer = adam(lr = 1e-2)
    schedule = cosine(T = 100)
    epochs = 2
    batch = 16
}

train B: A(hidden = 8) {
    optimizer = gradient_descent(lr = 1e-1)
    schedule = none
}

train C: B {
    steps = 5
    metrics = [cross_entropy(y, label), gap]
}
"""


def experiment(name: str, text: str = TEXT) -> Program:
    return elaborate(modules(text), name)


def settings(found: Program) -> dict[str, object]:
    return {setting.name: setting.value for setting in found.settings}


def test_what_differs_stands_in_place_of_the_base() -> None:
    first, second, third = map(experiment, "ABC")
    assert (settings(first)["hidden"], settings(second)["hidden"], settings(third)["hidden"]) == (4, 8, 8)
    assert settings(second)["optimizer.lr"] == 0.1
    plans = [found.plan for found in (first, second, third)]
    assert plans[0] is not None
    assert plans[1] is not None
    assert plans[2] is not None
    assert plans[0].schedule is not None
    assert plans[1].schedule is None
    assert (plans[1].epochs, plans[1].steps) == (2, None)
    assert (plans[2].epochs, plans[2].steps) == (None, 5)
    assert plans[1].metrics == ("accuracy",)
    assert plans[2].metrics == ("cross_entropy", "gap")
    assert all(found.augmentation is not None for found in (first, second, third))
    assert [found.name for found in (first, second, third)] == ["A", "B", "C"]


def test_a_base_written_out_gives_the_same_program() -> None:
    written = TEXT.replace("train B: A(hidden = 8) {", "train B: M(hidden = 8) {").replace("    schedule = none\n", "")
    begin = TEXT.index("    target label")
    shared = "".join(
        line + "\n"
        for line in TEXT[begin : TEXT.index("}\n\ntrain B")].splitlines()
        if not line.startswith(("    optimizer", "    schedule"))
    )
    written = written.replace("train B: M(hidden = 8) {\n", f"train B: M(hidden = 8) {{\n{shared}")
    one, other = experiment("B"), experiment("B", written)
    assert str(one.training_graph.nodes) != ""
    assert [node.op for node in one.training_graph.nodes] == [node.op for node in other.training_graph.nodes]
    assert settings(one) == settings(other)


def test_targets_augment_and_updates_are_replaced_by_name() -> None:
    text = TEXT.replace(
        "    schedule = none\n",
        "    schedule = none\n    target label: i32[batch] in 0..2\n    augment { x = 2 * x }\n",
    )
    found = experiment("B", text)
    assert [spec.high for spec in found.inputs if spec.is_target] == [2]
    assert found.augmentation is not None
    assert all(entry.role is Role.DATA for entry in found.augmentation.inputs)  # it draws nothing


def test_a_base_may_stand_behind() -> None:
    begin = TEXT.index("train A")
    middle = TEXT.index("train B")
    assert settings(experiment("B", TEXT[:begin] + TEXT[middle:] + "\n" + TEXT[begin:middle]))["hidden"] == 8


def test_mistakes_of_a_base_are_told_once() -> None:
    found = mistakes(TEXT.replace("cross_entropy(y, label) +", "cross_entropy(y, lable) +"))
    assert codes(found) == ["E0201"]


def test_circles_and_unknown_bases() -> None:
    assert codes(mistakes(TEXT.replace("train A: M", "train A: C"))) == ["E0625"] * 3
    assert codes(mistakes(TEXT.replace("train A: M", "train A: A"))) == ["E0625"]
    (unknown,) = mistakes(TEXT.replace("train C: B", "train C: Bb"))
    assert unknown.message == "there is no model or experiment `Bb`"
    assert unknown.notes[0].message == "did you mean `B`?"
    (unnamed,) = mistakes(TEXT.replace("train C: B", "train B"))
    assert unnamed.code == "E0625"
    alone = TEXT.split("train B")[0].replace("train A: M", "train M")
    (nameless,) = mistakes(f"{alone}train B: A {{ steps = 2 }}\n")
    assert nameless.message == "there is no model `A`"
    assert nameless.notes[0].message.endswith("`train A: M { … }` in place of `train M { … }`")


def test_a_loss_is_not_left_out() -> None:
    text = TEXT.split("train B")[0].replace("    gap = mean(y)\n", "")
    (found,) = mistakes(text.replace("loss = cross_entropy(y, label) + 0 * gap", "loss = none"))
    assert (found.code, found.message) == ("E0604", "a training has a loss, so it cannot be `none`")
    (found,) = mistakes(f"{GAME}\ntrain Other: Both {{ loss = none }}\n")
    assert (found.code, found.notes[1].message) == ("E0620", "leave `loss = none` out")
    (found,) = mistakes(f"{GAME}\ntrain Other: Both {{ update one = none }}\n")
    assert found.notes[0].message.endswith("write `one = none`")


def test_a_model_goes_before_an_experiment_of_its_name() -> None:
    text = TEXT.replace("train C: B {", "model B {\n    input x: f32[batch, 6]\n    output y = x\n}\n\ntrain C: B {")
    assert "E0602" in codes(mistakes(text))


def test_an_editor_finds_the_base_and_the_names_of_its_model() -> None:
    found = document_of(Source("model.dl", TEXT))
    base = found.occurrences[18, 10]
    assert base.kind is Kind.TRAIN
    assert base.symbol is not None
    assert [(o.place.line, o.place.column) for o in places_of(found, base.symbol)] == [(6, 7), (18, 10)]
    hidden = found.occurrences[18, 12].symbol
    assert hidden is not None
    assert hidden.kind is Kind.SETTING
    output = found.occurrences[25, 30].symbol
    assert output is not None
    assert output.kind is Kind.OUTPUT
    offered = {c.name for c in completions(document_of(Source("model.dl", TEXT + "\ntrain D: ")), 28, 10)}
    assert {"M", "A", "B", "C"} <= offered


def test_the_command_line_stands_over_the_base() -> None:
    found = program(TEXT, ("hidden", "5"), experiment="B")
    assert settings(found)["hidden"] == 5


GAME = """\
layer net(units: int)(x: [batch, n]) -> [batch, units] = x |> dense(units)

model Game {
    input x: f32[batch, 2]
    left = net(2)
    right = net(1)
    output y = x |> left |> right
}

train Both: Game {
    target wanted: f32[batch, 1]
    augment { x = x + random_like(x) }
    batch = 4
    update one {
        parameters = "left.*"
        loss = mean(y ^ 2)
        optimizer = adam(lr = 1e-2)
        schedule = cosine(T = 100)
    }
    update two {
        parameters = "right.*"
        loss = mse(y, wanted)
        optimizer = adam(lr = 1e-3)
        times = 2
    }
}
"""


def _of_game(name: str, text: str) -> Program:
    return experiment(name, GAME + "\n" + text)


def test_an_update_repeats_only_the_keys_that_differ() -> None:
    found = _of_game(
        "Slow", "train Slow: Both {\n    update one {\n        schedule = none\n        every = 3\n    }\n}\n"
    )
    assert found.plan is not None
    one, two = found.plan.updates
    assert (one.name, one.every, one.schedule) == ("one", 3, None)
    assert (two.name, two.times) == ("two", 2)
    assert settings(found)["one.optimizer.lr"] == 0.01


def test_an_update_is_left_out_and_another_added() -> None:
    text = """\
train Half: Both {
    one = none
    update three {
        parameters = "left.*"
        loss = mean(y)
        optimizer = adam()
    }
}

train Single: Both {
    one = none
    two = none
    augment = none
    loss = mean(y ^ 2)
    optimizer = adam()
}

train Bare: Single { wanted = none }
"""
    half, single, bare = (_of_game(name, text) for name in ("Half", "Single", "Bare"))
    assert half.plan is not None
    assert [block.name for block in half.plan.updates] == ["two", "three"]
    assert half.augmentation is not None
    assert single.plan is not None
    assert single.plan.updates == ()
    assert single.augmentation is None
    assert [[spec.name for spec in found.inputs] for found in (single, bare)] == [["x", "wanted"], ["x"]]


def test_what_is_left_out_must_be_there_and_must_not_be_read() -> None:
    assert codes(mistakes(f"{GAME}\ntrain Other: Both {{ three = none }}\n")) == ["E0601"]
    assert codes(mistakes(f"{GAME}\ntrain Other: Both {{ wanted = none }}\n")) == ["E0201"]
    again = "one = none\n    update one { times = 2 }"
    assert codes(mistakes(f"{GAME}\ntrain Other: Both {{\n    {again}\n}}\n")) == ["E0601"]
    assert codes(mistakes(f"{GAME}\ntrain Other: Both {{ update one {{ loss = none }} }}\n")) == ["E0602"]


def test_weights_of_stated_losses_are_joined_by_name() -> None:
    text = """\
model M {
    input x: f32[batch, 2]
    output y = x |> dense(2)
    loss one = mean(y)
    loss two = mean(y ^ 2)
}

train A: M {
    loss = mean(y ^ 2)
    auxiliary = {one: 0.5, two: 0.25}
    optimizer = adam()
    batch = 4
}

train B: A { auxiliary = {two: 2.0} }
"""
    found = settings(experiment("B", text))
    assert (found["auxiliary.one"], found["auxiliary.two"]) == (0.5, 2.0)
