"""`examples/simclr` and `examples/clip`: their data, and what they learn from pairs of rows."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import dlc

EXAMPLES = Path(__file__).parents[3] / "examples"


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"clip_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_views_teach_the_encoder() -> None:
    path, few = EXAMPLES / "simclr" / "model.dl", 30
    still: dict[str, Any] = {"optimizer.lr": 0.0}
    trained = dlc.load(path, epochs=few).train().test["accuracy"]
    start = dlc.load(path, epochs=few, **still).train().test["accuracy"]
    assert trained > 0.8
    assert trained > start


def test_the_classifier_has_no_influence_on_the_encoder(tmp_path: Path) -> None:
    text = (EXAMPLES / "simclr" / "model.dl").read_text()
    text = text.replace("../digits", str(EXAMPLES / "digits"))
    weights: list[dict[str, np.ndarray]] = []
    for loss in ("contrast + cross_entropy", "contrast + 0 * cross_entropy"):
        path = tmp_path / f"{len(weights)}.dl"
        path.write_text(text.replace("contrast + cross_entropy", loss))
        model = dlc.load(path, epochs=1)
        model.train()
        weights.append({name: np.array(array) for name, array in model.parameters.items()})
    same = {name for name in weights[0] if np.array_equal(weights[0][name], weights[1][name])}
    assert any(name.startswith("encode.") for name in same)
    assert {name for name in weights[0] if not name.startswith("logits.")} <= same
    assert "logits.dense.W" not in same


def test_the_pairs_are_those_of_the_script() -> None:
    made = module_of(EXAMPLES / "clip" / "make_data.py")
    random = np.random.default_rng(0)
    known = [caption for caption in made.CAPTIONS if not made.is_new(caption)]
    assert len(made.CAPTIONS) - len(known) == 32
    for name, expected in (
        ("pairs", made.pairs(known, made.EACH, random)),
        ("test", made.pairs(list(made.CAPTIONS), 1, random)),
    ):
        with np.load(EXAMPLES / "clip" / f"{name}.npz") as file:
            for field, array in expected.items():
                np.testing.assert_array_equal(file[field], array)


def test_drawings_find_their_captions() -> None:
    model = dlc.load(EXAMPLES / "clip" / "model.dl", epochs=20)
    model.train()
    with np.load(EXAMPLES / "clip" / "test.npz") as file:
        test = dict(file)
    found = model.predict(test)
    shares = module_of(EXAMPLES / "clip" / "retrieval.py").retrieval(found["picture"], found["text"], test["caption"])
    assert shares["captions of drawings"] > 0.6
    assert shares["drawings of captions"] > 0.6
    assert shares["captions of drawings, new ones"] > 0.3
