"""The models of the catalogue in JAX: name -> initialisation and forward function."""

from __future__ import annotations

from jax_zoo import convolutional, mlp, recurrent, transformer
from jax_zoo.model import Model

MODELS: dict[str, Model] = {
    "mlp": mlp.perceptrons(784, 512, 512, 10),
    "mlp_small": mlp.perceptrons(64, 32, 10),
    "lenet5": convolutional.lenet5(),
    "resnet20": convolutional.resnet20(),
    "lstm": recurrent.character_model(),
    "gpt_mini": transformer.language_model(4, 4, 128, 64),
    "gpt_small_block": transformer.language_model(6, 6, 384, 256),
    "transformer_ed": transformer.encoder_decoder(),
    "vit": transformer.vision_transformer(),
}
