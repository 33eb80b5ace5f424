"""Text from `gpt_small_block`, token by token, beside PyTorch with a cache of keys and values: tokens per second.

    python benchmarks/generation.py [--threads 2] [--tokens 256] [--rounds 5]

Both have the same weights and take the likeliest token; that the tokens are the same is checked. Samples of both
alternate, and the best of each counts: others on the machine can only slow one down.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from compiler import driver
from loss_curve import weights_of
from runtime.inference.decoding import Decoder
from runtime.inference.generation import sampled
from torch_zoo import MODULES
from torch_zoo.transformer import LanguageBlock, LanguageModel

ZOO = Path(__file__).parent / "zoo"
_GENERATE = "\ngenerate GptMini {\n    feed tokens from logits\n}\n"


class CachedModel:
    """The language model on one position at a time; keys and values of those before lie in tensors of full length."""

    def __init__(self, model: LanguageModel, context: int) -> None:
        self.model = model.eval()
        blocks = [block for block in model.blocks if isinstance(block, LanguageBlock)]
        self.blocks = [(block, *self._caches(block, context)) for block in blocks]

    def _caches(self, block: LanguageBlock, context: int) -> tuple[torch.Tensor, torch.Tensor]:
        heads, width = block.attend.queries.heads, block.attend.joined.in_features
        shape = (1, heads, context, width // heads)
        return torch.zeros(shape), torch.zeros(shape)

    def next(self, token: torch.Tensor, place: int) -> torch.Tensor:
        """The likeliest token after `token` [1, 1] at a place."""
        model = self.model
        x = model.embed(token) + model.positions.weight[place]
        for block, keys, values in self.blocks:
            q, k, v = block.attend.queries.split(block.norm1(x))
            keys[:, :, place : place + 1] = k
            values[:, :, place : place + 1] = v
            y = functional.scaled_dot_product_attention(q, keys[:, :, : place + 1], values[:, :, : place + 1])
            x = x + block.attend.joined(y.transpose(1, 2).flatten(2))
            x = x + block.narrow(functional.gelu(block.widen(block.norm2(x)), approximate="tanh"))
        return functional.linear(model.norm(x), model.embed.weight).argmax(-1)


def torch_tokens(model: LanguageModel, context: int, count: int) -> Callable[[], list[int]]:
    cached = CachedModel(model, context)

    @torch.inference_mode()
    def tokens() -> list[int]:
        token = torch.zeros((1, 1), dtype=torch.int64)
        found: list[int] = []
        for place in range(count):
            token = cached.next(token, place)
            found.append(int(token))
        return found

    return tokens


def dlc_tokens(model: LanguageModel, count: int, threads: int) -> Callable[[], list[int]]:
    file = ZOO / "gpt_small_block.dl"
    program = driver.load_text(file.read_text() + _GENERATE, str(file))
    options = driver.Options(threads=threads)
    tensors = driver.allocate(program, options)
    for spec, weights in zip(program.parameters, weights_of(model), strict=True):
        tensors.write(spec.path, weights)
    decoder = Decoder(program, tensors, options)

    def tokens() -> list[int]:
        steps = sampled(decoder, np.zeros((1, 1), np.int64), count, ())
        return [token for (token,) in steps if token is not None]

    return tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=256, help="at most the context of 256")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = MODULES["gpt_small_block"]()
    assert isinstance(model, LanguageModel)
    programs = {
        "dlc": dlc_tokens(model, arguments.tokens, arguments.threads),
        "PyTorch": torch_tokens(model, 256, arguments.tokens),
    }
    first = {name: tokens() for name, tokens in programs.items()}
    assert first["dlc"] == first["PyTorch"], "the programs disagree about the likeliest tokens"
    best = dict.fromkeys(programs, float("inf"))
    for _ in range(arguments.rounds):
        for name, tokens in programs.items():
            begin = time.perf_counter()
            tokens()
            best[name] = min(best[name], time.perf_counter() - begin)
    for name, seconds in best.items():
        print(f"{name:8} {arguments.tokens / seconds:8.1f} tokens/s  {best['PyTorch'] / seconds:5.2f} x PyTorch")


if __name__ == "__main__":
    main()
