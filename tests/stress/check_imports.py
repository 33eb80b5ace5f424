"""Compares imported weights with the frameworks that made them: outputs of torchvision, timm, Hugging Face and Keras.

    python tests/stress/check_imports.py --cases resnet18,gpt2 --keys tests/runtime/imports/names

Each case makes a model with random weights, saves it, imports it with `dlc import` into a model file of this
repository, and compares `dlc predict` with the framework on the same rows: the largest difference, relative to the
largest output, is at most 1e-5.
`--keys` writes the names and shapes of the tensors, which tests of the suite match.
The packages (torch, torchvision, timm, transformers, keras) are no extra; cases of absent ones are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT), str(_ROOT / "tests" / "support")]
os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np  # noqa: E402
from import_cases import IMPORT_CASES  # noqa: E402

from runtime.cli.main import main as dlc  # noqa: E402
from runtime.inference.prediction import npz_bytes  # noqa: E402

MOST = 1e-5
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


@dataclass(frozen=True)
class Case:
    """`make` gives the framework's model, `inputs` rows for it, and `outputs` its answers."""

    make: Callable[[], Any]
    inputs: Callable[[np.random.Generator], dict[str, np.ndarray]]
    outputs: Callable[[Any, Mapping[str, np.ndarray]], np.ndarray]


def pictures(rng: np.random.Generator, name: str = "image") -> dict[str, np.ndarray]:
    return {name: rng.integers(0, 256, (2, 3, 224, 224)).astype(np.uint8)}


def seen(model: Any, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """The logits of a model of PyTorch for normalised pictures."""
    return _forward(model, ((inputs["image"].astype(np.float32) / 255) - _MEAN) / _DEVIATION)


def _forward(model: Any, values: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        found = model.eval()(torch.from_numpy(np.ascontiguousarray(values)))
    return (found if isinstance(found, torch.Tensor) else found.logits).numpy()


def tokens(rng: np.random.Generator, length: int) -> dict[str, np.ndarray]:
    return {"tokens": rng.integers(0, 65, (2, length)).astype(np.int32)}


def said(model: Any, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    return _forward(model, inputs["tokens"].astype(np.int64))


def _vision(name: str) -> Callable[[], Any]:
    def make() -> Any:
        import torchvision

        return getattr(torchvision.models, name)()

    return make


def _timm(name: str) -> Callable[[], Any]:
    def make() -> Any:
        import timm

        return timm.create_model(name)

    return make


def _timm_vit(**sizes: int) -> Callable[[], Any]:
    def make() -> Any:
        import torch
        from timm.models.vision_transformer import VisionTransformer

        return VisionTransformer(num_classes=10, norm_layer=partial(torch.nn.LayerNorm, eps=1e-5), **sizes)

    return make


def _hugging_face(kind: str, **sizes: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        config = getattr(transformers, _CONFIGS[kind])(**sizes)
        return getattr(transformers, kind)(config)

    return make


_CONFIGS = {
    "GPT2LMHeadModel": "GPT2Config",
    "BertForMaskedLM": "BertConfig",
    "ResNetForImageClassification": "ResNetConfig",
}
_GPT2 = _hugging_face(
    "GPT2LMHeadModel", vocab_size=65, n_positions=32, n_embd=48, n_head=4, n_layer=2, bos_token_id=0, eos_token_id=0
)
_BERT = _hugging_face(
    "BertForMaskedLM", vocab_size=65, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
    intermediate_size=192, max_position_embeddings=16,
)  # fmt: skip


def _digits(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"pixels": rng.integers(0, 17, (3, 64)).astype(np.float32)}


def _of_digits(model: Any, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    return _forward(model, (inputs["pixels"] / 16).reshape(-1, 1, 8, 8))


def _cifar(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"picture": rng.standard_normal((2, 3, 32, 32)).astype(np.float32)}


CASES = {
    "torchvision_resnet18": Case(_vision("resnet18"), pictures, seen),
    "torchvision_resnet50": Case(_vision("resnet50"), pictures, seen),
    "torchvision_vgg16": Case(_vision("vgg16"), pictures, seen),
    "torchvision_efficientnet_b0": Case(_vision("efficientnet_b0"), pictures, seen),
    "timm_resnet50": Case(_timm("resnet50"), pictures, seen),
    "timm_vgg16": Case(_timm("vgg16"), pictures, seen),
    "timm_efficientnet_b0": Case(_timm("efficientnet_b0"), pictures, seen),
    "timm_vit_digits": Case(
        _timm_vit(img_size=8, patch_size=2, in_chans=1, embed_dim=64, depth=4, num_heads=4, mlp_ratio=2),
        _digits, _of_digits,
    ),
    "timm_vit_zoo": Case(
        _timm_vit(img_size=32, patch_size=4, in_chans=3, embed_dim=192, depth=6, num_heads=3, mlp_ratio=4),
        _cifar, lambda model, inputs: _forward(model, inputs["picture"]),
    ),
    "huggingface_gpt2": Case(_GPT2, partial(tokens, length=32), said),
    "huggingface_bert": Case(_BERT, partial(tokens, length=16), said),
    "huggingface_resnet50": Case(
        _hugging_face("ResNetForImageClassification", num_labels=1000), pictures, seen
    ),
}  # fmt: skip


def disturbed(model: Any) -> None:
    """Other vectors than ones and zeros, so that each place is told from each."""
    import torch

    torch.manual_seed(1)
    with torch.no_grad():
        for name, values in model.state_dict().items():
            if not values.dtype.is_floating_point or values.ndim > 1:
                continue
            if name.endswith("running_var"):
                values.uniform_(0.5, 1.5)
            else:
                values.add_(0.1 * torch.randn_like(values))


def saved(model: Any, path: Path) -> dict[str, list[int]]:
    """Save the tensors, and give their names and shapes."""
    import torch
    from safetensors.torch import save_file

    if path.suffix == ".pt":
        torch.save(model.state_dict(), path)
        return {name: list(values.shape) for name, values in model.state_dict().items()}
    shared: dict[int, torch.Tensor] = {}
    entries: dict[str, torch.Tensor] = {}
    for name, values in model.state_dict().items():  # as Hugging Face saves: a tensor that two layers share, once
        if shared.setdefault(values.data_ptr(), values) is values or values.numel() == 0:
            entries[name] = values.contiguous()
    save_file(entries, path)
    return {name: list(values.shape) for name, values in entries.items()}


def difference(case: Case, folder: Path, keys: Path | None, name: str) -> float:
    """The largest difference of the outputs, relative to the largest output."""
    import torch

    torch.manual_seed(0)
    model = case.make()
    disturbed(model)
    taken = IMPORT_CASES[name]
    source = folder / ("model.pt" if taken.is_ordered else "model.safetensors")
    shapes = saved(model, source)
    if keys is not None:
        (keys / f"{name}.json").write_text(json.dumps(shapes, separators=(",", ":")) + "\n")
    settings = [word for key, value in taken.settings for word in ("--set", f"{key}={value}")]
    table: list[str] = []
    if taken.answers:
        (folder / "given.table").write_text("\n".join(taken.answers) + "\n")
        table = ["--table", str(folder / "given.table")]
    file = str(_ROOT / taken.model)
    code = dlc(["import", str(source), "--into", file, "-o", str(folder / "out"), *table, *settings])
    if code != 0:
        raise SystemExit(f"{name}: dlc import gave exit code {code}")
    inputs = case.inputs(np.random.default_rng(0))
    (folder / "in.npz").write_bytes(npz_bytes(inputs))
    weights = str(folder / "out" / "weights.safetensors")
    rows, made = str(folder / "in.npz"), folder / "out.npz"
    if dlc(["predict", file, "--weights", weights, "--input", rows, "-o", str(made), *settings]) != 0:
        raise SystemExit(f"{name}: dlc predict failed")
    expected = case.outputs(model, inputs)
    return float(np.abs(np.load(made)["logits"] - expected).max() / np.abs(expected).max())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="", help="parts of names of cases, with commas between them (default: all)")
    parser.add_argument("--keys", type=Path, help="the folder in which to write names and shapes")
    chosen = parser.parse_args(arguments)
    worst = 0.0
    for name, case in CASES.items():
        if not any(part in name for part in chosen.cases.split(",")):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = difference(case, Path(folder), chosen.keys, name)
            except ImportError as error:
                print(f"{name}: left out ({error})", file=sys.stderr)
                continue
        worst = max(worst, found)
        print(f"{name}: {found:.1e}", file=sys.stderr, flush=True)
    return 1 if worst > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
