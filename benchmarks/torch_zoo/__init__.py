"""The models of the catalogue in PyTorch: name -> the builder of the module."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from torch_zoo import convolutional, mlp, recurrent, transformer

MODULES: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: mlp.perceptrons(784, 512, 512, 10),
    "mlp_small": lambda: mlp.perceptrons(64, 32, 10),
    "lenet5": convolutional.lenet5,
    "resnet20": convolutional.resnet20,
    "lstm": recurrent.CharacterModel,
    "gpt_mini": lambda: transformer.LanguageModel(4, 4, 128, 64),
    "gpt_small_block": lambda: transformer.LanguageModel(6, 6, 384, 256),
    "transformer_ed": transformer.EncoderDecoder,
    "vit": transformer.VisionTransformer,
}
