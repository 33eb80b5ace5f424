"""`view a, b = column` in `augment`: training draws inputs of one column, each anew; elsewhere they are the column."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

import dlc
from compiler import driver
from compiler.driver import FUSIONS, Options
from compiler.errors.diagnostics import SourceError
from compiler.interface import Steps
from compiler.programs.kinds import GraphKind, Purpose
from runtime.cli.main import main
from runtime.data.part import Part, at_epoch, numbered

Array: TypeAlias = np.ndarray[Any, Any]

TEXT = """
model Pair(width = 3) {
    input a: f32[batch, 6]
    input b: f32[batch, 6]
    encode = dense(width)
    output y = encode(a)
    output z = encode(b)
}

train Pair {
    data = npz("data.npz")
    augment { view a, b = image + 0.5 * random_like(image) }
    loss = mse(y, z) - mean(variance(y, axis = 0))
    optimizer = adam(lr = 1e-2)
    epochs = 2
    batch = 8
}
"""
DRAWN = "view a, b = image + 0.5 * random_like(image)"
RANDOM = np.random.default_rng(3)
ARRAYS: dict[str, Any] = {"image": RANDOM.random((29, 6), dtype=np.float32)}


def with_changes(changes: str, text: str = TEXT) -> str:
    assert DRAWN in text
    return text.replace(f"{{ {DRAWN} }}", f"{{\n        {changes}\n    }}")


def seen(
    rows: Array, epoch: int = 0, batch: int = 8, seed: int = 0, text: str = TEXT, **options: Any
) -> dict[str, Array]:
    """The views that training sees of these rows."""
    program = driver.load_text(text, "pair.dl")
    chosen = Options(**options)
    arrays = at_epoch(numbered(program, Part(ARRAYS, rows)).arrays, epoch)
    executable = driver.compile_program(program, GraphKind(Purpose.AUGMENTATION), chosen)
    found = executable.run(Steps(driver.allocate(program, chosen), arrays, rows, batch, seed=seed)).arrays
    return dict(found)


def test_each_view_is_drawn_anew() -> None:
    rows = np.arange(29)
    views = seen(rows)
    drawn = [2 * (views[name] - ARRAYS["image"]) for name in ("a", "b")]
    for draws in drawn:
        assert draws.min() >= -1e-6
        assert draws.max() <= 1 + 1e-6
        assert abs(draws.mean() - 0.5) < 0.1
    assert abs(np.corrcoef(drawn[0].ravel(), drawn[1].ravel())[0, 1]) < 0.2


def test_views_are_the_same_in_any_batch_and_order() -> None:
    rows = np.arange(29)
    views = seen(rows)
    backwards = rows[::-1].copy()
    for found in (seen(backwards, batch=5, threads=2), seen(backwards, batch=29, without=tuple(FUSIONS))):
        for name, view in views.items():
            np.testing.assert_array_equal(found[name][::-1], view)
    assert not np.array_equal(seen(rows, epoch=1)["a"], views["a"])
    assert not np.array_equal(seen(rows, seed=1)["a"], views["a"])


def test_a_view_is_drawn_by_its_name_whatever_else_is_drawn() -> None:
    rows = np.arange(29)
    alone = seen(rows)
    others = f"label = 0.1 * random(batch)\n        {DRAWN}".replace("label", "c")
    np.testing.assert_array_equal(seen(rows, text=with_changes(others))["b"], alone["b"])
    exchanged = seen(rows, text=with_changes(DRAWN.replace("a, b", "b, a")))
    np.testing.assert_array_equal(exchanged["b"], alone["b"])


def test_the_column_of_the_data_takes_the_place_of_its_views() -> None:
    model = dlc.loads(TEXT)
    assert [spec.name for spec in model._program.inputs] == ["image"]  # pyright: ignore[reportPrivateUsage]
    model.train(ARRAYS)
    found = model.predict(ARRAYS)
    np.testing.assert_array_equal(found["y"], found["z"])
    expected = ARRAYS["image"] @ model.parameters["encode.W"] + model.parameters["encode.b"]
    np.testing.assert_allclose(found["y"], expected, atol=1e-5)
    assert np.isclose(model.evaluate(ARRAYS)["loss"], -found["y"].var(axis=0).mean(), atol=1e-5)


def test_training_is_that_of_a_model_which_is_given_the_views() -> None:
    model = dlc.loads(TEXT, epochs=1)
    model.train(ARRAYS)
    plain = TEXT.replace(f"    augment {{ {DRAWN} }}\n", "")
    given = dlc.loads(plain, epochs=1)
    given.train(seen(np.arange(29)))
    for name, values in given.parameters.items():
        np.testing.assert_array_equal(model.parameters[name], values)


def test_a_column_may_be_an_input_and_a_view_of_itself() -> None:
    text = with_changes("view a, b = a + 0.5 * random_like(a)")
    program = driver.load_text(text, "pair.dl")
    assert [spec.name for spec in program.inputs] == ["a"]
    arrays = at_epoch(numbered(program, Part({"a": ARRAYS["image"]}, np.arange(29))).arrays, 0)
    run = driver.compile_program(program, GraphKind(Purpose.AUGMENTATION), Options()).run
    found = run(Steps(driver.allocate(program, Options()), arrays, np.arange(29), 8)).arrays
    for name, view in seen(np.arange(29)).items():
        np.testing.assert_array_equal(found[name], view)


def test_a_view_of_a_view_shows_the_same_column() -> None:
    text = with_changes("view a = image + 0.5 * random_like(image)\n        view b = a + random_like(a)")
    assert [spec.name for spec in driver.load_text(text, "pair.dl").inputs] == ["image"]
    views = seen(np.arange(29), text=text)
    assert (views["b"] >= views["a"]).all()
    model = dlc.loads(text)
    found = model.predict(ARRAYS)
    np.testing.assert_array_equal(found["y"], found["z"])


def test_an_input_declared_behind_its_view_is_what_augment_makes_of_it() -> None:
    text = with_changes("image = image + 1\n        view a = image + 0.5 * random_like(image)")
    text = text.replace("    input b: f32[batch, 6]\n", "    input image: f32[batch, 6]\n").replace("(b)", "(image)")
    views = seen(np.arange(29), text=text)
    np.testing.assert_allclose(views["image"], ARRAYS["image"] + 1, rtol=1e-6)
    assert ((views["a"] >= views["image"]) & (views["a"] <= views["image"] + 0.5001)).all()


def test_views_may_be_changed_further() -> None:
    further = seen(np.arange(29), text=with_changes(f"{DRAWN}\n        b = -b"))
    plain = seen(np.arange(29))
    np.testing.assert_array_equal(further["b"], -plain["b"])
    np.testing.assert_array_equal(further["a"], plain["a"])


def test_sums_of_several_batches_and_views() -> None:
    """`accumulate` draws each sample as one batch of all rows does."""
    loss = ("loss = mse(y, z) - mean(variance(y, axis = 0))", "loss = mse(y, z)")
    whole = TEXT.replace(*loss).replace("epochs = 2", "epochs = 1")
    parts = whole.replace("batch = 8", "batch = 4\n    accumulate = 2")
    trained: list[Any] = []
    for text in (whole, parts):
        model = dlc.loads(text)
        model.train({"image": ARRAYS["image"][:24]})
        trained.append(model.parameters)
    for name, values in trained[0].items():
        np.testing.assert_allclose(trained[1][name], values, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ("view a, b, c = image", "E0201", "no input of the model `c`"),
        ("view a, a, b = image", "E0202", "a view already"),
        ("view a, b = image |> unknown", "E0201", "unknown"),
        ("view a, b = width * image", "E0613", "`width` is none"),
        ("view a, b = 2 * image", "E0613", "begins with a column"),
        ("view a, b = relu()", "E0613", "begins with a column"),
        ("view a, b = label", "E0613", "`label` is none"),
        ("x = 1\n view a, b = x + image", "E0613", "`x` is none"),
        ("view a, b = image[:, 0:3]", "E0613", "f32[batch, 3]"),
        ("if width > 2 { view a, b = image }", "E0205", "no `if`"),
        ("view y, b = image", "E0201", "no input of the model `y`"),
        ("a = image\n view a, b = image", "E0201", "image"),
        ("view a = b + 1\n view b = image", "E0613", "`b` is none"),
    ],
)
def test_mistakes(changes: str, code: str, told: str) -> None:
    text = with_changes(changes).replace(
        "    loss =", "    target label: f32[batch, 6]\n    loss = mse(y, label[:, 0:3]) +"
    )
    with pytest.raises(SourceError) as caught:
        driver.load_text(text, "pair.dl")
    messages = [f"{d.code} {d.message}" for d in caught.value.diagnostics]
    assert any(code in message and told in message for message in messages), messages


def test_views_of_a_column_have_one_type() -> None:
    with pytest.raises(SourceError, match="another view of the column `image` is f32") as caught:
        driver.load_text(TEXT.replace("input b: f32[batch, 6]", "input b: f32[batch, 5]"), "pair.dl")
    assert {d.code for d in caught.value.diagnostics} == {"E0613"}


CROPS = """
model Crops(width = 3) {
    input image: f32[batch, 8, 7]
    input a: f32[batch, 8, 7]
    input small: f32[batch, 5, 4]
    output y = a |> flatten |> dense(width)
    output z = small |> flatten |> dense(width)
    output part = small
}

train Crops {
    data = npz("data.npz")
    augment {
        view a = image |> random_flip
        view small = image |> random_crop(size = [5, 4])
    }
    loss = mse(y, z)
    optimizer = adam(lr = 1e-2)
    restore = false
    epochs = 2
    batch = 8
}
"""
IMAGES = RANDOM.random((29, 8, 7), dtype=np.float32)


def test_a_view_of_another_size_is_drawn_in_training_and_the_middle_elsewhere() -> None:
    program = driver.load_text(CROPS, "crops.dl")
    arrays = at_epoch(numbered(program, Part({"image": IMAGES}, np.arange(29))).arrays, 0)
    run = driver.compile_program(program, GraphKind(Purpose.AUGMENTATION), Options()).run
    found = run(Steps(driver.allocate(program, Options()), arrays, np.arange(29), 8)).arrays["small"]
    windows = np.lib.stride_tricks.sliding_window_view(IMAGES, (5, 4), axis=(1, 2))
    places = [np.argwhere((w == s).all(axis=(2, 3))) for w, s in zip(windows, found, strict=True)]
    assert all(len(place) == 1 for place in places)
    assert len({tuple(place[0]) for place in places}) > 6
    model = dlc.loads(CROPS)
    model.train({"image": IMAGES})
    given = model.predict({"image": IMAGES})
    np.testing.assert_array_equal(given["part"], IMAGES[:, 1:6, 1:5])
    flat = IMAGES.reshape(29, -1)
    weights = model.parameters
    np.testing.assert_allclose(given["y"], flat @ weights["y.dense.W"] + weights["y.dense.b"], rtol=1e-4, atol=1e-5)
    assert model.evaluate({"image": IMAGES})["loss"] == pytest.approx(np.mean((given["y"] - given["z"]) ** 2), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("small: f32[batch, 5, 4]", "small: f32[batch, 9, 4]"), "is no part of the column `image`"),
        (("small: f32[batch, 5, 4]", "small: f32[batch, 20]"), "is no part of the column `image`"),
        (("small: f32[batch, 5, 4]", "small: i32[batch, 5, 4]"), "is no part of the column `image`"),
        (
            ("small: f32[batch, 5, 4]", "small: f32[batch, 5, 5]"),
            "`augment` makes f32[batch, 5, 4] of the input `small",
        ),
        (("    input image: f32[batch, 8, 7]\n", ""), "another view of the column `image` is f32[batch, 8, 7]"),
        (("size = [5, 4]", "size = [9, 4]"), "cuts 9 x 4 pixels out of 8 x 7"),
    ],
)
def test_a_part_fits_its_column(change: tuple[str, str], told: str) -> None:
    with pytest.raises(SourceError) as caught:
        driver.load_text(CROPS.replace(*change), "crops.dl")
    assert any(told in d.message for d in caught.value.diagnostics), [d.message for d in caught.value.diagnostics]


def test_a_view_stands_in_augment_alone() -> None:
    with pytest.raises(SourceError) as caught:
        driver.load_text("fn f(x) {\n    view y = x\n    return y\n}\n" + TEXT, "pair.dl")
    assert "E0205" in [d.code for d in caught.value.diagnostics]


def warned(text: str) -> list[str]:
    return [w.message for w in driver.load_text(text, "pair.dl").warnings if w.code == "W0122"]


def test_equal_views_are_told() -> None:
    assert warned(TEXT) == []
    assert warned(with_changes("view a, b = 2 * 1 * image".replace("2 * 1 * image", "image * 2"))) == [
        "`a` and `b` are equal: nothing is drawn"
    ]


def test_epochs_compared_by_a_loss_of_equal_views_are_told() -> None:
    validated = TEXT.replace("    epochs", "    validation = 0.2\n    epochs")
    (message,) = warned(validated)
    assert "`val_loss`" in message
    assert warned(validated.replace("    epochs", "    restore = false\n    epochs")) == []
    supervised = validated.replace("    loss =", "    target t: f32[batch]\n    loss = mse(y[:, 0], t) +")
    assert warned(supervised) == []


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "data.npz", **ARRAYS)
    file = tmp_path / "pair.dl"
    file.write_text(TEXT)
    run = tmp_path / "run"
    assert main(["check", str(file)]) == 0
    assert main(["train", str(file), "--out", str(run), "--epochs", "1"]) == 0
    assert main(["train", "--resume", str(run), "--epochs", "2"]) == 0
    straight = tmp_path / "straight"
    assert main(["train", str(file), "--out", str(straight)]) == 0
    first, second = (dlc.load(str(place)) for place in (run, straight))
    for name, values in first.parameters.items():
        np.testing.assert_array_equal(second.parameters[name], values)
    capsys.readouterr()
    assert main(["data", "preview", str(file), "--json"]) == 0
    preview = capsys.readouterr().out
    assert all(f'"{name}"' in preview for name in ("image", "a", "b"))
    assert main(["replay", str(run), "--step", "3", "--show", "encode.W:gradient"]) == 0
    assert main(["eval", str(run)]) == 0
    assert main(["plan", str(file)]) == 0
    assert main(["export", str(run), "--to", "c", "-o", str(tmp_path / "c")]) == 0
    assert "const float *image" in (tmp_path / "c" / "model.h").read_text()
