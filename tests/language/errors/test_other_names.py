"""Names of PyTorch, Keras and NumPy: what is said of them, and that it is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.errors.diagnostics import Diagnostic, Source
from compiler.errors.other_names import FORMS, LINES, OTHER_NAMES, OtherNames
from compiler.errors.suggestions import nearest
from compiler.frontend import elaborate
from compiler.frontend.builtins.functions import BUILTINS
from compiler.frontend.library import library_modules, library_scope
from compiler.frontend.scope import Namespace
from compiler.support.train_keys import KEYS
from compiler.syntax.modules import load_modules
from compiler.syntax.tree import Callable
from runtime.cli.main import main

MODEL = """fn f(x) = 2 * x
fn g(x) = x + 1

model M(low = 0, high = 1, n = 3) {{
    input x: f32[batch, 4]
    input y: f32[batch, 4]
    output z = {}
}}
"""
TRAIN = """model M {{
    input x: f32[batch, 4]
    hidden = x |> dense(5)
    output logits = hidden |> dense(3)
}}

train M {{
    target ring: i32[batch] in 0..3
    optimizer = adam
    epochs = 2
    batch = 4
    {}
}}
"""


def found(text: str) -> tuple[Diagnostic, ...]:
    return elaborate.check(load_modules(Source("model.dl", text), None))


def hint_of(text: str) -> str:
    first, *_ = [diagnostic for diagnostic in found(text) if diagnostic.severity == "error"]
    return next((note.message for note in first.notes if note.kind == "hint"), "")


def in_model(expression: str) -> str:
    return f"model M {{\n    input x: f32[batch, 4]\n    output y = {expression}\n}}\n"


def known_names() -> set[str]:
    """Names of every kind that a program can write, and options of the command line."""
    declared = [d for module in library_modules() for d in module.declarations if isinstance(d, Callable)]
    settings = {parameter.name for d in declared for group in d.groups for parameter in group}
    names = {name for namespace in Namespace for name in library_scope().names(namespace)}
    builtin = {parameter.name for one in BUILTINS.values() for parameter in one.parameters}
    options = {"--batch", "--epochs", "--threads", "--resume", "--init-from", "--seed", "--out", "--data"}
    return names | settings | builtin | {*BUILTINS} | {*KEYS} | options


def test_what_is_suggested_exists() -> None:
    known = known_names()
    assert [row.here for row in OTHER_NAMES if row.here not in known] == []


@pytest.mark.parametrize("row", OTHER_NAMES, ids=lambda row: row.here)
def test_each_name_leads_to_what_stands_for_it(row: OtherNames) -> None:
    for name in row.names:
        assert nearest(name, [row.here, "linear", "tanh", "round", "precision"]) == row.here
        assert nearest(name.upper(), [row.here]) == row.here


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_legal(form: str) -> None:
    operands = {"x @ y": "x[:, None] @ y[:, :, None]", "x // y": "x + (y - y) * (7 // n)"}
    code = operands.get(form, form)
    assert [d for d in found(MODEL.format(code)) if d.severity == "error"] == []


@pytest.mark.parametrize("name", LINES)
def test_a_line_is_legal(name: str) -> None:
    """Of operands that suit it: images for layers of two dimensions, sequences, scores or numbers."""
    shapes = {"conv2d": "3, 8, 8", "max_pool": "3, 8, 8", "avg_pool": "3, 8, 8", "global_average_pool": "3, 8, 8"}
    shapes |= {"conv1d": "8, 3", "transpose": "4, 2", "reshape": "8"}
    shape, line = shapes.get(name, "4"), LINES[name]
    has_two = " = " in line.partition("(")[0]
    label = "f32[batch, 4]" if name.startswith("binary") else "i32[batch] in 0..4"
    dtype = "i32" if name == "one_hot" else "f32"
    text = f"""model M {{
    input x: {dtype}[batch, {shape}]
    input y: f32[batch, {shape}]
    input label: {label}
    {line if has_two else "result = " + line}
    output z = x
}}
"""
    assert [d for d in found(text) if d.severity == "error"] == []
    assert name in line


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("Linear(10)(x)", "did you mean `dense`? Write `x |> dense(128)`"),
        ("nn.Linear(4, 10)(x)", "did you mean `dense`? Write `x |> dense(128)`"),
        ("torch.nn.functional.relu(x)", "it stands by itself: `relu`"),
        ("np.zzz(x)", "functions and layers stand by themselves"),
        ("Linaer(10)(x)", "did you mean `linear`?"),
        ("median(x)", "`sort(x)` puts elements in their order"),
        ("topk(x, 3)", "did you mean `top_k`? Write `values, places = top_k(3)(x)`"),
        ("detach(x)", "did you mean `stop_gradient`?"),
        ("x.detach()", "functions take the tensor first: `stop_gradient(x)`"),
        ("x.view(2, 2)", "functions take the tensor first: `reshape(x, batch, 8)`"),
        ("x.unsqueeze(1)", "write `x[:, None]`"),
        ("x.shape", "`extent(x, axis)` is the size of an axis"),
        ("x.t()", "did you mean `.T`?"),
        ("relu(dense(3))", "apply it first"),
        ("gru(3, where = x)", "write `gru(3)(x, where = x)`"),
        ("x |> bidirectional(gru(3), where = x)", "write `bidirectional(gru(3))(x, where = x)`"),
        ("sum(x, dim = 1)", "did you mean `axis`?"),
        ("dense(in_features = 4, units = 3)(x)", "the size of the input is known"),
        ("dense(3, activation = 1)(x)", "an activation is a function of its own"),
        ("dense(3, weights = xavier_uniform_)(x)", "did you mean `glorot_uniform`?"),
        ("stack(x, x)", "write `concat(x[:, None]"),
        ("BatchNorm2d(4)(x)", "did you mean `batch_norm`?"),
        ("self.fc(x)", "a layer sees its settings"),
        ("add_loss(x)", "a layer has `loss balance = …`"),
    ],
)
def test_hints_in_a_model(expression: str, said: str) -> None:
    assert said in hint_of(in_model(expression))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("loss = CrossEntropyLoss(logits, ring)", "did you mean `cross_entropy`?"),
        ("loss = cross_entropy(logits, rings)", "did you mean `ring`?"),
        ("loss = cross_entropy(logits, position)", "there are x, logits, ring"),
        ("loss = cross_entropy(hidden, ring)", "write `output hidden = …` there"),
        ("loss = mean(hidden(logits, ring))", "write `loss NAME = hidden(…)` there, with an `input` for labels"),
        ("loss = cross_entropy(ring, logits)", "exchange the two: `cross_entropy(logits, label)`"),
        ("loss = mse(logits[:, 0], cast(ring, f32))\n    metrics = [accuracy(ring, logits)]", "exchange the two"),
        ("criterion = 1", "did you mean `loss`?"),
        ("learning_rate = 1e-3", "it is a setting of the optimizer"),
        ("batch_size = 3", "did you mean `batch`?"),
        ("loss = cross_entropy(logits, ring)\n    schedule = StepLR(10)", "did you mean `step`?"),
        ("loss = cross_entropy(logits, ring)\n    clip = clip_grad_norm_(1.0)", "did you mean `global_norm`?"),
    ],
)
def test_hints_in_a_training(line: str, said: str) -> None:
    assert said in hint_of(TRAIN.format(line))


def test_one_mistake_of_a_framework_is_told_once() -> None:
    assert len(found(in_model("nn.Linear(4, 10)(x) + nn.Linear(4, 10)(x)"))) == 1


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--gpu", "--target gpu"),
        ("--lr=0.1", "write --set optimizer.lr=0.001"),
        ("--batch-size", "did you mean `--batch`?"),
        ("--num-workers", "did you mean `--threads`?"),
        ("--checkpoint", "did you mean `--resume`?"),
        ("--epoch", "did you mean `--epochs`?"),
    ],
)
def test_hints_for_options(option: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model.dl", option]) == 2
    assert said in capsys.readouterr().err


def test_a_loss_that_applies_softmax_is_not_said_to_apply_sigmoid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.dl"
    for function, message in (("sigmoid", "through `sigmoid`"), ("softmax", "through `softmax` already")):
        file.write_text(TRAIN.format(f"loss = cross_entropy({function}(logits), ring)"))
        assert main(["check", str(file)]) == 0
        first = capsys.readouterr().out.splitlines()[0]
        assert first.endswith(f"wants logits and applies `softmax` itself, but these went {message}")
