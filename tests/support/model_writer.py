"""The writer of a random model: draws, and stages that it appends to the body line by line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from random import Random
from typing import Any

ACTIVATIONS = (
    *("relu", "relu", "tanh", "sigmoid", "leaky_relu(0.2)", "elu", "selu", "gelu", "gelu(approximate = true)", "swish"),
    *("softplus", "mish", "softsign", "hard_sigmoid", "hard_tanh", "hard_swish", "linear", "wave"),
)
_OF_CONSTANTS = (
    *(
        "0.7 * (x / 4.0)",
        "(x / 3.0 * 0.3 + 0.1) * 1.7",
        "cast(x * 3, i32) * 0.1 * x",
        "abs(x % 2 - 1)",
        "x - 0.1 * 0.2",
    ),
    *("exp(tanh(x) * 0.3) - 1", "log(1 - 0.9 * sigmoid(x))", "x * (1 + 1e-9)", "celu(0.5)(x)", "clamp(-1, 1)(x)"),
    *("where(x > 0.1 * 3, x, 0.7 * 0.7 * x)", "(x + 0.1) * 0.7 * 0.3 - (x - 0.2) / 7.0", "1 - exp(-0.7 * abs(x))"),
)
WEIGHTS = (
    *("glorot_uniform", "glorot_normal", "he_normal", "he_uniform", "lecun_normal", "normal(std = 0.3)", "orthogonal"),
    *("truncated_normal(std = 0.2)", "uniform(low = -0.4, high = 0.4)"),
)


class ModelWriter:
    """`shape` is that of the value `x` so far, without the batch."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.inputs: list[str] = []
        self.body: list[str] = []
        self.augment: list[str] = []
        self.mask = ""  # the argument that names it, where rows are padded
        self.shape: tuple[int, ...] = ()
        self.largest = 1500  # elements of a row of the batch behind a stage
        self.frozen: list[str] = []  # patterns of parameters and states that may be frozen
        self.vocabulary = 0  # of the embedding `embed`, where there is one

    # Draws

    def pick(self, options: Sequence[Any]) -> Any:
        return self.random.choice(options)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def number(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def width(self) -> int:
        return self.pick((1, 2, 3, 4, 5, 6, 8, 8, 12, 16, 16, 17, 24, 32, 33, 48, 70))

    def channels(self) -> int:
        return self.pick((1, 2, 3, 4, 4, 6, 8, 8, 9, 16, 17))

    def truth(self) -> str:
        return self.pick(("true", "false"))

    def divisor(self, *numbers: int) -> int:
        return self.pick([d for d in range(1, min(numbers) + 1) if not any(n % d for n in numbers)])

    # Writing

    def then(self, stage: str, *shape: int) -> None:
        self.write(f"x = x |> {stage}", *shape)

    def write(self, line: str, *shape: int) -> None:
        self.body.append(line)
        self.shape = shape or self.shape

    def stages(self, options: Sequence[Callable[[], object]], count: int) -> None:
        """So many of the stages; one that does not fit, or makes too much, leaves no trace."""
        for _ in range(count):
            lines, shape, frozen = len(self.body), self.shape, len(self.frozen)
            self.pick(options)()
            if min(self.shape) < 1 or prod(self.shape) > max(self.largest, prod(shape)):
                del self.body[lines:], self.frozen[frozen:]
                self.shape = shape

    def activation(self) -> None:
        self.then(self.pick(ACTIVATIONS))

    def of_constants(self) -> None:
        """Arithmetic with constants, of which some can be computed before a run, in the digits of the program."""
        self.write(f"x = {self.pick(_OF_CONSTANTS)}")

    def around(self, *stages: Callable[[], None]) -> None:
        """A stage of which the result is joined with its operand where they have one shape."""
        shape, name = self.shape, f"s{len(self.body)}"
        self.write(f"{name} = x")
        self.pick(stages)()
        if self.shape == shape:
            joins = ("x + {}", "{} + 0.5 * x", "{} * sigmoid(x)", "x - {}", "max(x, {})", "where({} > 0.1, x, 0.3 * x)")
            self.write(f"x = {self.pick(joins).format(name)}")
        elif len(self.shape) == len(shape) and self.shape[1:] == shape[1:]:
            self.write(f"x = concat({name}, x, axis = 1)", shape[0] + self.shape[0], *shape[1:])
        elif self.shape[:-1] == shape[:-1]:
            self.write(f"x = concat({name}, x)", *shape[:-1], shape[-1] + self.shape[-1])
        else:
            self.write(f"x = x * reshape(mean({name}, axis = except(0)), batch{', 1' * len(self.shape)})")

    def expression(self) -> None:
        """Each element, and what others of an axis come to, or one that another place of the axis holds."""
        axis = self.number(1, len(self.shape))
        n, skip, whole = self.shape[axis - 1], ":, " * axis, f"axis = {axis}, keepdims = true"
        totals = (f"mean(x, {whole})", f"max(x, {whole})", f"min(x, {whole})", f"variance(x, {whole})")
        sums = (f"log(sum(exp(x - max(x, {whole})), {whole}))", f"sqrt(sum(x * x, {whole}) + 0.1)")
        taps = f"sum(windows(pad(x, 2, 2, axis = {axis}), 3, dilation = 2, axis = {axis}), axis = -1)"
        moved = (
            f"concat(x[{skip}1:], x[{skip}:1], axis = {axis})",
            f"pad(x[{skip}1:], 0, 1, axis = {axis})",
            f"pad(x[{skip}::2], 0, {n - (n + 1) // 2}, axis = {axis})",
            f"x[{skip}(arange({n}) * 2) % {n}]",
            f"cumsum(x, axis = {axis}, reverse = true) / {n}",
            f"reverse(x, {axis})",
            f"softmax(x, axis = {axis})",
        )
        joins = (
            "x + {}",
            "x - {}",
            "x * {}",
            "x / (1 + abs({}))",
            "max(x, {})",
            "where(x > {}, x, 0.2 * x)",
            "x + {} ^ 2",
        )
        joined = self.pick(joins).format(
            self.pick((*totals, *sums, *moved, taps, f"stop_gradient({self.pick(moved)})"))
        )
        self.write(f"x = {joined}")
