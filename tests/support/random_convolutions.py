"""Random bodies of models with convolutions and views of the sizes at which kernels take whole vectors and blocks."""

from __future__ import annotations

from math import prod

from model_writer import WEIGHTS
from random_images import ImageWriter

_MANY = (16, 16, 32, 48)  # channels that fill vectors
_FEW = (1, 2, 3, 4, 6, 8)
_LINES = (4, 4, 7, 8, 8, 12)
_PIXELS = (4, 5, 6, 7, 8, 8, 9, 10, 14, 14)
_LONG = (13, 15, 16, 28, 30, 31, 32, 45)  # lines that pixels fill vectors of
_SIDES = (1, 2, 5, 16, 17, 24, 32, 33)  # of matrices that are turned


class ConvolutionWriter(ImageWriter):
    """Images of many channels, and matrices whose axes change places."""

    def of_many_channels(self) -> None:
        """Depthwise convolutions, behind what needs their gradients or not."""
        self.largest = 6000
        self.image(self.pick(_MANY) if self.chance(0.3) else 3, self.pick(_LINES), self.pick(_PIXELS))
        if self.shape[0] not in _MANY or self.chance(0.4):
            self.widened()
        others = (self.activation, self.expression, self.norm, self.frozen_norm, self.widened)
        joined = lambda: self.around(self.by_channel)  # noqa: E731
        self.stages((*[self.by_channel] * 4, *others, joined), self.number(1, 3))
        self.stages((self.by_channel,), 1)
        self.ended()

    def of_long_lines(self) -> None:
        """Convolutions of many channels into few, and of few into many behind what needs the image's gradient."""
        self.largest = 6000
        self.image(self.pick((*_FEW, 16, 20)), self.number(1, 5), self.pick(_LONG))
        others = (self.activation, self.norm, self.frozen_norm, self.expression)
        for channels in self.pick(((20, 3), (3, 17, 6), (16, 8), (24, 2), (6, 16, 6), (16, 4, 4), (32, 6, 3))):
            self.stages((lambda c=channels: self.slid_over(c),), 1)
            self.stages(others, self.number(0, 1))
        self.ended()

    def of_matrices(self) -> None:
        """The same elements by rows and by columns."""
        self.largest = 5000
        shape = [self.pick(_SIDES) for _ in range(2)] + [self.pick((2, 3, 16))] * self.chance(0.3)
        self.inputs.append(f"input field: f32[batch, {', '.join(map(str, shape))}]")
        self.write("x = field", *shape)
        others = (self.expression, self.activation, self.multiplied, self.cut, self.framed, self.scaled, self.summed)
        joined = lambda: self.around(self.turned, self.turned_back, self.expression)  # noqa: E731
        self.stages((*[self.turned] * 3, self.turned_back, joined, *others), self.number(2, 6))
        self.then("flatten", prod(self.shape))

    def image(self, c: int, h: int, w: int) -> None:
        self.inputs.append(f"input image: f32[batch, {c}, {h}, {w}]")
        self.write("x = image", c, h, w)

    def ended(self) -> None:
        if self.chance(0.5) or prod(self.shape) > 1500:
            self.then("global_average_pool", self.shape[0])
        else:
            self.then("flatten", prod(self.shape))

    def widened(self) -> None:
        channels = self.pick(_MANY)
        self.then(f"conv2d({channels}, 1, weights = {self.pick(WEIGHTS)})", channels, *self.shape[1:])

    def framing(self, sizes: list[int], dilation: int) -> tuple[str, list[int]]:
        """A padding with its mode, and how many pixels it adds along each axis."""
        spans = [dilation * (size - 1) for size in sizes]
        kind = self.pick(("same", "same", "same", "all", "none", "reflect", "replicate"))
        narrow = any(span // 2 >= n for span, n in zip(spans, self.shape[1:], strict=True))
        if kind == "none" or (kind == "reflect" and narrow):
            return "0", [0, 0]
        if kind == "all":
            return "1", [2, 2]
        half = [span // 2 for span in spans]
        mode = f', mode = "{kind}"' if kind != "same" else ""
        return f"{half}{mode}", [2 * n for n in half]

    def windowed(self) -> tuple[str, list[int]]:
        """Settings of a convolution, and the extents that it leaves."""
        sizes = [*self.pick(((3, 3), (3, 3), (3, 3), (1, 3), (3, 1), (2, 2), (5, 5), (3, 2), (4, 4)))]
        strides, dilation = self.pick(((1, 1), (1, 1), (1, 1), (2, 1), (2, 2), (1, 2))), self.pick((1, 1, 1, 2))
        padding, added = self.framing(sizes, dilation)
        each = zip(self.shape[1:], added, sizes, strides, strict=True)
        after = [(n + more - dilation * (size - 1) - 1) // stride + 1 for n, more, size, stride in each]
        return f"{sizes}, stride = {[*strides]}, padding = {padding}, dilation = {dilation}", after

    def by_channel(self) -> None:
        settings, after = self.windowed()
        times = self.pick((1, 1, 1, 2))
        rest = f"multiplier = {times}, bias = {self.truth()}, weights = {self.pick(WEIGHTS)}"
        self.then(f"depthwise_conv2d({settings}, {rest})", times * self.shape[0], *after)

    def slid_over(self, channels: int) -> None:
        _, h, w = self.shape
        if self.chance(0.2):
            k, s, p = self.number(1, 4), self.pick((1, 1, 2)), self.number(0, 1)
            after = [(n - 1) * s + k - 2 * p for n in (h, w)]
            self.then(f"conv_transpose2d({channels}, {k}, {s}, {p}, bias = {self.truth()})", channels, *after)
        else:
            settings, after = self.windowed()
            self.then(f"conv2d({channels}, {settings}, weights = {self.pick(WEIGHTS)})", channels, *after)

    def turned_back(self) -> None:
        """Beside the matrix that lies across."""
        if len(self.shape) > 1 and self.shape[0] == self.shape[1]:
            names = ("b i j", "b j i") if len(self.shape) == 2 else ("b i j k", "b j i k")
            join = self.pick(("x + tanh(z)", "x * z", "max(x, 0.5 * z)", "z - x * x"))
            self.write(f'z = x |> rearrange("{names[0]} -> {names[1]}")')
            self.write(f"x = {join}")
