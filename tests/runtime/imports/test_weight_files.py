"""`dlc import` of weights: what it reads and writes, what it asks, and files that are damaged or were made to harm."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from torch_files import numbers, old_torch_file, state_dict, text, torch_file, view, zipped

from runtime.cli.main import main as dlc

MODEL = """
model Two() {
    input x: f32[batch, 3]
    output y = x |> dense(3) |> relu |> dense(2)
}
"""
RNG = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


TORCH = {"0.weight": random(3, 3), "0.bias": random(3), "2.weight": random(2, 3), "2.bias": random(2)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.dl"
    path.write_text(MODEL)
    return path


def run(model: Path, source: Path, *more: str) -> int:
    return dlc(["import", str(source), "--into", str(model), "-o", str(model.parent / "out"), *more])


def imported(model: Path) -> dict[str, np.ndarray]:
    return load_file(model.parent / "out" / "weights.safetensors")


@pytest.mark.parametrize("form", [torch_file, old_torch_file])
def test_torch_matrices_are_turned_even_square_ones(
    form: Callable[[Mapping[str, np.ndarray]], bytes], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = model.parent / "weights.pt"
    source.write_bytes(form(TORCH))
    assert run(model, source) == 0
    found = imported(model)
    assert np.array_equal(found["y.dense.W"], TORCH["0.weight"].T)
    assert np.array_equal(found["y.dense_2.W"], TORCH["2.weight"].T)
    assert np.array_equal(found["y.dense_2.b"], TORCH["2.bias"])
    said = capsys.readouterr()
    assert "y.dense.W = 0.weight transpose(1, 0)" in said.out
    assert "1 square matrices are taken as [out, in]" in said.err


def test_a_view_with_strides_is_read_as_it_is_seen(model: Path) -> None:
    source = model.parent / "weights.pt"
    turned = {**TORCH, "0.weight": np.asfortranarray(TORCH["0.weight"])}
    pickled = state_dict(turned)
    contents = {str(k): v.tobytes("A") for k, v in enumerate(turned.values())}
    source.write_bytes(zipped(pickled, contents))
    assert run(model, source) == 0
    assert np.array_equal(imported(model)["y.dense.W"], TORCH["0.weight"].T)


def test_narrow_and_wide_floats_become_f32_and_nan_is_told(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = model.parent / "weights.pt"
    bits = (TORCH["0.weight"].view(np.uint32) >> 16).astype(np.uint16)
    spoilt = TORCH["2.bias"].astype(np.float64)
    spoilt[0] = np.nan
    mixed = {
        "0.weight": bits,
        "0.bias": TORCH["0.bias"].astype(np.float16),
        "2.weight": TORCH["2.weight"],
        "2.bias": spoilt,
    }
    source.write_bytes(torch_file(mixed))
    assert run(model, source) == 0
    assert np.array_equal(imported(model)["y.dense.W"], (bits.astype(np.uint32) << 16).view(np.float32).T)
    said = capsys.readouterr().err
    for words in ("1 tensors of bf16", "1 tensors of f16", "1 tensors of f64", "not finite: `2.bias`"):
        assert words in said


def test_two_layers_of_one_shape_without_numbers_are_asked_about_and_the_table_answers(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.write_text(MODEL.replace("dense(2)", "dense(3)"))
    named = {"late.weight": random(3, 3), "late.bias": random(3), "early.weight": random(3, 3), "early.bias": random(3)}
    source, table = model.parent / "model.safetensors", model.parent / "names.table"
    save_file(named, source)
    assert run(model, source, "--table", str(table)) == 1
    assert "several tensors of the file fit" in capsys.readouterr().err
    assert not (model.parent / "out").exists()
    draft = table.read_text()
    assert "#   y.dense.W = early.weight transpose(1, 0)" in draft
    lines = [line.removeprefix("#").strip() for line in draft.splitlines() if " = " in line]
    chosen = [line for line in lines if line.startswith("y.dense.") == ("early" in line)]
    table.write_text("\n".join(chosen))
    assert run(model, source, "--table", str(table)) == 0
    assert np.array_equal(imported(model)["y.dense.W"], named["early.weight"].T)
    assert np.array_equal(imported(model)["y.dense_2.W"], named["late.weight"].T)


def test_the_order_of_a_torch_file_counts_where_names_say_nothing(model: Path) -> None:
    model.write_text(MODEL.replace("dense(2)", "dense(3)"))
    named = {"enter.weight": random(3, 3), "enter.bias": random(3), "and.weight": random(3, 3), "and.bias": random(3)}
    source = model.parent / "weights.pt"
    source.write_bytes(torch_file(named))
    assert run(model, source) == 0
    assert np.array_equal(imported(model)["y.dense.W"], named["enter.weight"].T)


def test_states_of_our_own_optimizers_are_left_out(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = {"y.dense.W": random(3, 3), "y.dense.b": random(3), "y.dense_2.W": random(3, 2), "y.dense_2.b": random(2)}
    states = {f"{name}:{state}": 0 * array for name, array in weights.items() for state in ("m", "v", "(average)")}
    source = model.parent / "checkpoint.safetensors"
    save_file({**weights, **states}, source)
    assert run(model, source) == 0
    said = capsys.readouterr()
    assert "note: states of the optimizer are left out: `y.dense.W:" in said.err
    assert "and 8 more" in said.err
    assert "ignore" not in said.out
    assert all(np.array_equal(array, weights[name]) for name, array in imported(model).items())
    table = model.parent / "table"
    table.write_text("y.dense.W = y.dense.W:m\nignore y.dense.W\n")  # a line of the user decides
    assert run(model, source, "--table", str(table), "--force") == 0
    assert not imported(model)["y.dense.W"].any()
    save_file(states, source)
    assert run(model, source, "--force") == 2
    assert "has states of an optimizer, such as `y.dense" in capsys.readouterr().err
    save_file({**weights, "stranger:m": random(3)}, source)
    assert run(model, source, "--force") == 1
    assert "`stranger:m` [3] of the file is not used by the model" in capsys.readouterr().err


def test_numbers_that_contradict_the_order_of_the_file_are_asked_about(model: Path) -> None:
    model.write_text(MODEL.replace("dense(2)", "dense(3)"))
    named = {"fc2.weight": random(3, 3), "fc2.bias": random(3), "fc1.weight": random(3, 3), "fc1.bias": random(3)}
    source = model.parent / "weights.pt"
    source.write_bytes(torch_file(named))
    assert run(model, source) == 1


def test_what_the_model_lacks_and_what_the_file_lacks_are_asked_about(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = model.parent / "model.safetensors"
    save_file({**TORCH, "extra.weight": random(5, 5)}, source)
    assert run(model, source) == 1
    assert "ignore extra.weight" in capsys.readouterr().err
    assert run(model, source, "--ignore", "extra.*") == 0
    save_file({name: values for name, values in TORCH.items() if name.startswith("0")}, source)
    assert run(model, source) == 1
    assert "`y.dense_2.W` [3, 2]: no tensor of the file fits" in capsys.readouterr().err
    assert run(model, source, "--fresh", "y.dense_2.*") == 0
    assert set(imported(model)) == {"y.dense.W", "y.dense.b"}


def test_patterns_and_rules_that_fit_nothing_are_misuse(model: Path) -> None:
    source = model.parent / "model.safetensors"
    save_file(TORCH, source)
    assert run(model, source, "--ignore", "none.*") == 2
    assert run(model, source, "--fresh", "none.*") == 2
    assert run(model, source, "--rename", "none.* -> *") == 1
    assert run(model, model) == 2
    assert run(model, model.parent / "absent.pt") == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("y.dense.W = 0.weight transpose(1, 1)", "does not fit the shape"),
        ("y.dense.W = 2.weight", "and the line makes [2, 3]"),
        ("y.dense.X = 0.weight", "the model has no tensor `y.dense.X`"),
        ("y.dense.W = 0.wieght", "did you mean"),
        ("y.dense.W = 0.weight turn(1)", "there is no step `turn`"),
        ("y.dense.W = 0.weight reshape(99999999999999999999, 9)", "whole numbers"),
        ('y.dense.W = "0.weight', "in quotes does not end"),
        ("y.dense.W 0.weight", "a line is"),
        ("y.dense.W = 0.weight +", "a tensor is missing behind"),
        ("y.dense.W = 0.weight\ny.dense.W = 0.weight", "has a line already"),
    ],
)
def test_a_wrong_line_of_the_table_is_told(
    line: str, words: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, table = model.parent / "model.safetensors", model.parent / "names.table"
    save_file(TORCH, source)
    table.write_text(line)
    assert run(model, source, "--table", str(table)) == 1
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_table_that_cannot_be_written_leaves_nothing(model: Path) -> None:
    source = model.parent / "model.safetensors"
    save_file({"W": np.zeros((3, 2), np.float32)}, source)
    text = "model M {\n    input x: f32[batch, 3]\n    param W: [3, 2] = zeros\n    output y = x @ W\n}\n"
    model.write_text(text)
    assert run(model, source, "--table", str(model.parent / "nowhere" / "t")) == 2
    assert not (model.parent / "out").exists()


def test_a_name_of_control_characters_is_quoted_in_the_table(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = model.parent / "model.safetensors"
    save_file({**{n: v for n, v in TORCH.items() if n != "2.bias"}, "\x1b[31m = \n2": TORCH["2.bias"]}, source)
    table = model.parent / "names.table"
    table.write_text('y.dense_2.W = 2.weight transpose(1, 0)\ny.dense_2.b = "\\u001b[31m = \\n2"')
    assert run(model, source, "--table", str(table)) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    kept = model.parent / "out" / "weights.table"
    assert run(model, source, "--table", str(kept)) == 0
    assert np.array_equal(imported(model)["y.dense_2.b"], TORCH["2.bias"])


def test_files_of_an_index_are_read_together_and_lie_beside_it(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model.parent / "hub"
    folder.mkdir()
    halves = [dict(list(TORCH.items())[:2]), dict(list(TORCH.items())[2:])]
    names: dict[str, str] = {}
    for number, half in enumerate(halves):
        save_file(half, folder / f"model-{number}.safetensors")
        names |= dict.fromkeys(half, f"model-{number}.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    assert run(model, folder) == 0
    assert np.array_equal(imported(model)["y.dense_2.b"], TORCH["2.bias"])
    index.write_text(json.dumps({"weight_map": {"a": "../model-0.safetensors"}}))
    assert run(model, index) == 1
    index.write_text(json.dumps({"weight_map": {**names, "more": "model-0.safetensors"}}))
    assert run(model, index) == 1
    assert "have no `more`" in capsys.readouterr().err


GRUESOME = b"\x80\x02cposix\nsystem\n" + text("touch harmed") + b"\x85R."
HUGE = b"\x80\x02}" + text("w") + view("FloatStorage", "0", 4, [1 << 62, 1 << 62], [0, 0]) + b"s."
NEGATIVE = HUGE.replace(numbers([1 << 62, 1 << 62]), b"(J\xff\xff\xff\xffJ\xff\xff\xff\xfft")
HOSTILE = {
    "empty": b"",
    "text": b"no weights at all",
    "a program": zipped(GRUESOME, {}),
    "a program, old": GRUESOME,
    "compressed": zipped(state_dict(TORCH), {}, zipfile.ZIP_DEFLATED),
    "half": torch_file(TORCH)[:300],
    "half, old": old_torch_file(TORCH)[:-20],
    "no storage": zipped(state_dict(TORCH), {}),
    "short storage": zipped(state_dict(TORCH), {str(k): b"\0" * 4 for k in range(4)}),
    "odd storage": zipped(state_dict(TORCH), {str(k): b"\0" * 7 for k in range(4)}),
    "huge": zipped(HUGE, {"0": b"\0" * 16}),
    "negative": zipped(NEGATIVE, {"0": b"\0" * 16}),
    "memory of a pickle": zipped(b"\x80\x02Nr\xff\xff\xff\x7f.", {}),
    "a lie of a length": zipped(b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f" + b".", {}),
    "a lie of a length, old": b"\x80\x04\x8d\0\0\0\0\0\0\x01\0" + b".",
    "a registry": zipped(b"\x80\x02\x82\x01.", {}),
    "itself": zipped(b"\x80\x02}q\x00" + text("a") + b"h\x00s.", {}),
    "nested": zipped(b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".", {}),
    "a number": zipped(b"\x80\x02K\x01.", {}),
    "tar": b"\0" * 257 + b"ustar" + b"\0" * 1000,
    "no pickle": zipped(b"", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_damaged_or_made_to_harm_is_refused_in_words(
    name: str, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    source = model.parent / "weights.pt"
    source.write_bytes(HOSTILE[name])
    assert run(model, source) == 1
    said = capsys.readouterr().err
    assert "this is a fault of dlc" not in said
    assert said.startswith("error: ")
    assert not (model.parent / "harmed").exists()


def test_keras_reads_gates_and_attention_and_says_what_eps_the_file_has(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    h5py = pytest.importorskip("h5py", reason="the extra `keras` is not installed")
    model.write_text(
        """
model Two() {
    input x: f32[batch, 5, 3]
    output y = x |> gru(4, reset = "after", output = "last") |> layer_norm |> dense(2)
}
"""
    )
    layers = {
        "layers/dense/vars/0": random(4, 2), "layers/dense/vars/1": random(2),
        "layers/gru/cell/vars/0": random(3, 12), "layers/gru/cell/vars/1": random(4, 12),
        "layers/gru/cell/vars/2": random(2, 12),
        "layers/layer_normalization/vars/0": random(4), "layers/layer_normalization/vars/1": random(4),
    }  # fmt: skip
    stored = io.BytesIO()
    with h5py.File(stored, "w") as file:
        for place, values in layers.items():
            file[place] = values
    listed = [("GRU", "reader"), ("LayerNormalization", "norm"), ("Dense", "head")]
    config = {
        "class_name": "Sequential",
        "config": {"layers": [{"class_name": kind, "config": {"name": name}} for kind, name in listed]},
    }
    source = model.parent / "model.keras"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", stored.getvalue())
    assert run(model, source) == 0
    found = imported(model)
    kernel = layers["layers/gru/cell/vars/0"]
    assert np.array_equal(found["y.gru.cell.W"], np.concatenate([kernel[:, 4:8], kernel[:, :4], kernel[:, 8:]], 1))
    bias = layers["layers/gru/cell/vars/2"][1]
    assert np.array_equal(found["y.gru.cell.d"], np.concatenate([bias[4:8], bias[:4], bias[8:]]))
    assert np.array_equal(found["y.dense.W"], layers["layers/dense/vars/0"])
    said = " ".join(capsys.readouterr().err.split())
    assert "`norm` normalises with eps = 0.001" in said


def test_keras_files_with_links_or_no_variables_are_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    h5py = pytest.importorskip("h5py", reason="the extra `keras` is not installed")
    source = model.parent / "model.weights.h5"
    with h5py.File(source, "w") as file:
        file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/passwd", "/x")
    assert run(model, source) == 1
    assert "a link to another place" in " ".join(capsys.readouterr().err.split())
    with h5py.File(source, "w"):
        pass
    assert run(model, source) == 1
    for content in (b"", b"no file", source.read_bytes()[:100]):
        source.write_bytes(content)
        assert run(model, source) == 1
    assert "this is a fault of dlc" not in capsys.readouterr().err


def test_rows_behind_a_flattened_image_of_keras_are_asked_about(model: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="the extra `keras` is not installed")
    model.write_text(
        """
model Two() {
    input x: f32[batch, 1, 4, 4]
    output y = x |> conv2d(5, 3) |> flatten |> dense(2)
}
"""
    )
    source, table = model.parent / "model.weights.h5", model.parent / "names.table"
    kernel = random(20, 2)
    with h5py.File(source, "w") as file:
        file["layers/conv2d/vars/0"], file["layers/conv2d/vars/1"] = random(3, 3, 1, 5), random(5)
        file["layers/dense/vars/0"], file["layers/dense/vars/1"] = kernel, random(2)
    assert run(model, source, "--table", str(table)) == 1
    line = "y.dense.W = dense/kernel reshape(4, 5, 2) transpose(1, 0, 2) reshape(20, 2)"
    assert line in table.read_text()
    table.write_text(line)
    assert run(model, source, "--table", str(table)) == 0
    assert np.array_equal(imported(model)["y.dense.W"], kernel.reshape(4, 5, 2).transpose(1, 0, 2).reshape(20, 2))


def test_a_matrix_of_the_models_own_that_is_square_is_asked_about(model: Path) -> None:
    model.write_text(
        """
model Own() {
    input x: f32[batch, 3]
    param W: [3, 3] = zeros
    output y = x @ W
}
"""
    )
    source, table = model.parent / "weights.pt", model.parent / "names.table"
    source.write_bytes(torch_file({"fc.weight": TORCH["0.weight"]}))
    assert run(model, source, "--table", str(table)) == 1
    draft = table.read_text()
    assert "W = fc.weight\n" in draft
    assert "W = fc.weight transpose(1, 0)\n" in draft
