"""Models of PyTorch and the model files here that take their weights, by the names of `names/NAME.json`."""

from __future__ import annotations

from dataclasses import dataclass

_RESNET = "examples/resnet/model.dl"
_EFFICIENT = "examples/efficientnet/model.dl"
_OWN = "tests/runtime/imports"


@dataclass(frozen=True)
class ImportCase:
    """`answers` are lines of the table for what names and shapes leave open; `is_ordered` of a file of torch.save."""

    model: str
    settings: tuple[tuple[str, str], ...] = ()
    answers: tuple[str, ...] = ()
    is_ordered: bool = True


_50 = (("depth", "50"),)
IMPORT_CASES = {
    "torchvision_resnet18": ImportCase(_RESNET),
    "torchvision_resnet50": ImportCase(_RESNET, _50),
    "torchvision_vgg16": ImportCase("examples/vgg/model.dl"),
    "torchvision_efficientnet_b0": ImportCase(_EFFICIENT),
    "timm_resnet50": ImportCase(_RESNET, _50, is_ordered=False),
    "timm_vgg16": ImportCase(
        "examples/vgg/model.dl",
        answers=("logits.dense.W = pre_logits.fc1.weight reshape(4096, 25088) transpose(1, 0)",),
    ),
    "timm_efficientnet_b0": ImportCase(_EFFICIENT, is_ordered=False),
    "timm_vit_digits": ImportCase("examples/vision_transformer/model.dl", is_ordered=False),
    "timm_vit_zoo": ImportCase(
        "benchmarks/zoo/vit.dl", answers=("x.dense.W = patch_embed.proj.weight transpose(2, 3, 1, 0) reshape(48, 192)",)
    ),
    "huggingface_gpt2": ImportCase(f"{_OWN}/gpt2.dl", is_ordered=False),
    "huggingface_bert": ImportCase(f"{_OWN}/bert.dl", is_ordered=False),
    "huggingface_resnet50": ImportCase(_RESNET, _50, is_ordered=False),
}
