"""`dlc sample`: rows of a run, the same however they are asked for; pictures in a grid; mistakes in a call."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from runtime.cli.main import main

_MODEL = """
model Auto(width = 16, code = 2) {
    input image: f32[batch, 8, 8]
    h = image |> flatten |> dense(width) |> relu
    mean = h |> dense(code)
    decode = dense(64)
    output restored = mean + 0.1 * normal_like(mean) |> decode
}

train Auto {
    data = npz("images.npz")
    loss = mse(restored, flatten(image))
    optimizer = adam(lr = 0.01)
    steps = 30
    batch = 16
}

sample prior(scale = 1.0, steps = 3) from Auto {
    z = scale * normal_like(zeros(batch, code))
    walk, z = scan i in 0..steps over 1 carry z = z {
        z = z + 0.1 * normal_like(z)
        emit z
    }
    output image = Auto.decode(z) |> reshape(batch, 8, 8)
    output walk = reshape(walk, batch, steps * code)
    output row = row
}

sample colours from Auto {
    x = random(batch, 3, 4, 5)
    output picture = cast(256 * x, u8)
    output other = x[:, 0]
}

sample broken from Auto {
    output x = log(random(batch, 2, 2) - 0.5)
}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("auto")
    np.savez(folder / "images.npz", image=np.random.default_rng(0).random((64, 8, 8), np.float32))
    (folder / "model.dl").write_text(_MODEL)
    place = folder / "run"
    assert main(["train", str(folder / "model.dl"), "--out", str(place)]) == 0
    return place


@pytest.mark.parametrize("command", ["plan", "profile"])
def test_a_sampler_is_planned_and_profiled(run: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    place = [str(run.parent / "model.dl"), "--sampler", "prior", "--batch", "8", "--json"]
    seconds = ["--seconds", "0.1"] if command == "profile" else []
    capsys.readouterr()
    assert main([command, *place, *seconds]) == 0
    few = json.loads(capsys.readouterr().out)
    assert few["batch"] == 8
    assert few["sampler" if command == "plan" else "mode"] in ("prior", "sample prior")
    if command == "plan":
        assert [row["path"] for row in few["layers"]] == ["decode", "(model)"]
        assert main([command, *place, "--set", "prior.steps=30"]) == 0
        assert json.loads(capsys.readouterr().out)["flops_step"] > few["flops_step"]
    else:
        assert "decode" in {row["path"] for row in few["layers"]}
    assert main([command, str(run.parent / "model.dl"), "--sampler", "prir"]) == 2
    assert "did you mean `prior`?" in capsys.readouterr().err


def test_a_plan_of_a_sampler_has_no_shards(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(run.parent / "model.dl"), "--sampler", "prior", "--processes", "2"]) == 2
    assert "a `sample` has no shards" in capsys.readouterr().err


def test_a_report_says_that_it_has_no_samples(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run), "--out", str(tmp_path / "r.html"), "--rows", "8"]) == 0
    assert "no rows of the sampler `prior`: `dlc sample` makes them" in capsys.readouterr().err.replace("\n", " ")


def _arrays(run: Path, place: Path, *options: str) -> dict[str, Any]:
    assert main(["sample", str(run), "--sampler", "prior", "--out", str(place), *options]) == 0
    with np.load(place) as found:
        return dict(found)


@pytest.mark.parametrize(
    "options",
    [("--n", "5"), ("--threads", "1"), ("--threads", "3"), ("--no-fuse",), ("--target", "generic"), ("--n", "200")],
    ids=" ".join,
)
def test_a_row_is_of_the_seed_and_its_number(run: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    count = () if "--n" in options else ("--n", "90")
    expected = _arrays(run, tmp_path / "a.npz", "--n", "90")
    found = _arrays(run, tmp_path / "b.npz", *count, *options)
    rows = min(90, len(found["row"]))
    assert found["row"].tolist() == list(range(len(found["row"])))
    for name, array in expected.items():
        assert np.array_equal(found[name][:rows], array[:rows]), name
    other = _arrays(run, tmp_path / "c.npz", "--n", "4", "--seed", "1")
    assert not np.isin(other["walk"], expected["walk"]).any()


def test_the_reference_agrees(run: Path, tmp_path: Path) -> None:
    expected, found = (
        _arrays(run, tmp_path / f"{target}.npz", "--n", "9", "--target", target) for target in ("reference", "native")
    )
    assert np.array_equal(found["row"], expected["row"])
    for name in ("walk", "image"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_settings_of_the_run_and_of_the_command_line(run: Path, tmp_path: Path) -> None:
    wide = _arrays(run, tmp_path / "a.npz", "--n", "50", "--set", "prior.scale=100.0", "--set", "prior.steps=7")
    assert wide["walk"].shape == (50, 14)
    assert 50 < wide["walk"].std() < 200


def test_rows_are_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["sample", str(run), "--sampler", "prior", "--n", "3"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["row"] for line in lines] == [0, 1, 2]
    assert np.array(lines[0]["image"]).shape == (8, 8)


def test_python_gives_the_same_rows(run: Path, tmp_path: Path) -> None:
    model = dlc.load(run)
    found = model.sample(5, seed=3, sampler="prior", steps=4, scale=0.5)
    settings = ("--set", "prior.steps=4", "--set", "prior.scale=0.5")
    expected = _arrays(run, tmp_path / "a.npz", "--n", "5", "--seed", "3", *settings)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    with pytest.raises(dlc.UsageError, match="3 samplers"):
        model.sample(2)
    with pytest.raises(dlc.UsageError, match="1 row or more"):
        model.sample(0, sampler="prior")
    with pytest.raises(dlc.SourceError, match=r"no setting `prior\.step`"):
        model.sample(2, sampler="prior", step=3)


def _picture(path: Path) -> Any:
    """A png file without filters as bytes [height, width, channels]."""
    content = path.read_bytes()
    width, height, _, kind = struct.unpack(">IIBB", content[16:26])
    size = struct.unpack(">I", content[33:37])[0]
    lines = np.frombuffer(zlib.decompress(content[41 : 41 + size]), np.uint8)
    channels = 1 if kind == 0 else 3
    return lines.reshape(height, 1 + width * channels)[:, 1:].reshape(height, width, channels)


def test_a_grid_of_pictures(run: Path, tmp_path: Path) -> None:
    place = tmp_path / "grid.png"
    assert main(["sample", str(run), "--sampler", "prior", "--n", "5", "--range", "-1", "2", "--out", str(place)]) == 0
    images = _arrays(run, tmp_path / "a.npz", "--n", "5")["image"]
    grid = _picture(place)
    assert grid.shape == (2 * 32 + 2, 3 * 32 + 2 * 2, 1)  # 8 pixels are enlarged 4 times; two rows of three
    expected = np.round((np.clip(images, -1, 2) + 1) / 3 * 255)
    assert np.array_equal(grid[34::4, :32:4, 0], expected[3])
    assert np.array_equal(grid[:32:4, 68::4, 0], expected[2])
    assert not grid[:, 32:34].any()
    assert not grid[34:, 68:].any()  # nothing stands in the last place


def test_bytes_of_three_channels_need_no_range(run: Path, tmp_path: Path) -> None:
    place = tmp_path / "grid.png"
    options = ["--sampler", "colours", "--n", "1", "--picture", "picture", "--out", str(place)]
    assert main(["sample", str(run), *options]) == 0
    assert _picture(place).shape == (24, 30, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "name one: prior, colours, broken"),
        (["--sampler", "piror"], "did you mean `prior`?"),
        (["--sampler", "prior", "--out", "x.jpg"], "the format of x.jpg is not known"),
        (["--sampler", "prior", "--out", "x.png"], "give it, as --range 0 1"),
        (["--sampler", "prior", "--range", "0", "1"], "--range and --picture are about pictures"),
        (["--sampler", "prior", "--out", "x.png", "--range", "1", "0"], "the value that is black first"),
        (["--sampler", "prior", "--out", "x.png", "--range", "0", "1", "--picture", "walk"], "walk has no pictures"),
        (["--sampler", "prior", "--out", "x.png", "--range", "0", "1", "--picture", "imag"], "did you mean `image`?"),
        (["--sampler", "colours", "--out", "x.png"], "name one with --picture: picture, other"),
        (["--sampler", "prior", "--out", "x.png", "--range", "one", "2"], "wants a number, not `one`"),
        (["--sampler", "prior", "--n", "0"], "wants a whole number of at least 1"),
        (["--sampler", "prior", "--set", "prior.steps=0.5"], "a range runs between whole numbers"),
        (["--sampler", "prior", "--set", "steps=2"], "the setting of prior is --set prior.steps=2"),
        (["--sampler", "prior", "--set", "epochs=7"], "--set epochs is about the training, and changes nothing"),
        (["--sampler", "prior", "--set", "optimizer.lr=0.1"], "is about the training, and changes nothing"),
        (["--sampler", "prior", "--set", "seed=7"], "draws follow --seed 7"),
        (["--sampler", "colours", "--set", "prior.scale=7"], "is about another way to make rows"),
        (["--sampler", "prior", "--set", "precision=bf16"], "--set precision=bf16 is about the training, and changes"),
        (["--sampler", "prior", "--set", "precision=f64"], "a run cannot change its element type, f32"),
        (["--sampler", "prior", "--set", "prior.scale=1e400"], "the number 1e400 is too large"),
        (["--sampler", "prior", "--n", "10000000000"], "available: image 4.7 TB, walk"),
        (["--sampler", "prior", "--n", "10000000000"], "hint: give a smaller --n"),
    ],
)
def test_what_is_wrong_with_a_call(
    run: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    capsys.readouterr()
    assert main(["sample", str(run), *options]) in (1, 2)
    assert said in " ".join(capsys.readouterr().err.split())


def test_rows_that_are_not_finite_are_told_of(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["sample", str(run), "--sampler", "broken", "--n", "40"]) == 0
    assert "rows of x have values that are not finite" in capsys.readouterr().err


def test_a_model_without_a_sampler(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = dlc.loads("model M {\n    input x: f32[batch, 2]\n    output y = x |> dense(2)\n}\n")
    with pytest.raises(dlc.UsageError, match="nothing says how to sample from M"):
        model.sample(2)


def test_an_export_says_that_it_has_no_samplers(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["export", str(run), "--to", "c", "-o", str(tmp_path / "library")]) == 0
    assert "the sampler `prior` is no part of an export" in capsys.readouterr().err


def test_the_stages_of_a_sampler_are_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = str(run.parent / "model.dl")
    for stage, said in (("graph", "threefry"), ("fused", "decode"), ("loops", "for ")):
        capsys.readouterr()
        assert main(["show", text, "--sampler", "prior", "--stage", stage]) == 0
        assert said in capsys.readouterr().out
    line = _MODEL.split("\n").index("    output image = Auto.decode(z) |> reshape(batch, 8, 8)") + 1
    assert main(["show", f"{text}:{line}", "--sampler", "prior", "--stage", "graph"]) == 0
    assert "decode.W" in capsys.readouterr().out
    assert main(["show", text, "--sampler", "priro"]) == 2
    assert "did you mean `prior`?" in capsys.readouterr().err
    assert main(["show", text, "--sampler", "prior", "--stage", "gradient"]) == 2
    assert main(["show", text, "--sampler", "prior", "--format", "svg"]) == 0
    assert "<svg" in capsys.readouterr().out


def test_training_says_how_to_sample(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    text = str(run.parent / "model.dl")
    assert main(["train", text, "--out", str(tmp_path / "run"), "--set", "steps=1"]) == 0
    assert "--sampler prior" in capsys.readouterr().err
