"""Random bodies of models that see the same elements along ever other axes."""

from __future__ import annotations

from math import prod

from model_writer import ModelWriter

_AXES = "abcdefg"
_MOST_AXES = 4  # beside the batch


class ViewWriter(ModelWriter):
    """Stages of `x`, [batch, …] with any number of axes."""

    def of_views(self) -> None:
        shape = [self.pick((1, 2, 3, 4, 6, 8, 12, 16, 17)) for _ in range(self.number(1, 3))]
        self.inputs.append(f"input field: f32[batch, {', '.join(map(str, shape))}]")
        self.write("x = field", *shape)
        views = (self.turned, self.refolded, self.refolded, self.repeated, self.cut, self.framed, self.slid, self.tiled)
        others = (self.expression, self.expression, self.activation, self.summed, self.multiplied, self.outer)
        joined = lambda: self.around(*views, self.expression, self.multiplied)  # noqa: E731
        self.stages((*views, *others, joined, joined, self.scaled), self.number(3, 8))
        self.then("flatten", prod(self.shape))

    def axis(self) -> int:
        """One of them, counted with the batch."""
        return self.number(1, len(self.shape))

    def with_extent(self, axis: int, *extents: int) -> tuple[int, ...]:
        """The shape with others in place of an axis."""
        return (*self.shape[: axis - 1], *extents, *self.shape[axis:])

    def turned(self) -> None:
        """Axes in another order."""
        names = list(_AXES[: len(self.shape)])
        order = self.random.sample(names, len(names))
        after = [self.shape[names.index(name)] for name in order]
        self.then(f'rearrange("n {" ".join(names)} -> n {" ".join(order)}")', *after)

    def refolded(self) -> None:
        """The same elements in rows of other lengths."""
        left, after = prod(self.shape), list[int]()
        while left > 1 and len(after) < _MOST_AXES - 1:
            after.append(self.divisor(left))
            left //= after[-1]
        after.append(left)
        self.then(f"reshape(batch, {', '.join(map(str, after))})", *after)

    def repeated(self) -> None:
        axis, times = self.axis(), self.number(2, 4)
        self.then(f"repeated({times}, {axis})", *self.with_extent(axis, times * self.shape[axis - 1]))

    def tiled(self) -> None:
        axis, times = self.axis(), self.number(2, 3)
        copies = ", ".join(["x"] * times)
        self.write(f"x = concat({copies}, axis = {axis})", *self.with_extent(axis, times * self.shape[axis - 1]))

    def cut(self) -> None:
        axis = self.axis()
        n, start, step = self.shape[axis - 1], self.number(0, 1), self.pick((1, 1, 2, 3))
        self.write(
            f"x = x[{':, ' * axis}{start}::{step}]", *self.with_extent(axis, max(0, n - start + step - 1) // step)
        )

    def framed(self) -> None:
        axis, low, high = self.axis(), self.number(0, 2), self.number(0, 2)
        value = self.pick((0, 0, 0.5))
        self.then(
            f"pad({low}, {high}, axis = {axis}, value = {value})",
            *self.with_extent(axis, self.shape[axis - 1] + low + high),
        )

    def slid(self) -> None:
        """Windows of an axis, which become a new one, or are reduced or joined again."""
        axis, size, stride, dilation = self.axis(), self.number(1, 3), self.pick((1, 1, 2)), self.pick((1, 1, 2))
        n, span = self.shape[axis - 1], dilation * (size - 1) + 1
        if n < span:
            return
        count = (n - span) // stride + 1
        taps = f"windows(x, {size}, stride = {stride}, dilation = {dilation}, axis = {axis})"
        shape = self.with_extent(axis, count)
        if len(self.shape) < _MOST_AXES and self.chance(0.4):
            self.write(f"x = {taps}", *shape, size)
        elif self.chance(0.3):
            self.write(
                f"x = overlap_add({taps}, {stride}, {dilation}, extent = {n}, axis = {axis - len(self.shape) - 1})"
            )
        else:
            self.write(f"x = {self.pick(('sum', 'max', 'mean'))}({taps}, axis = -1)", *shape)

    def summed(self) -> None:
        axis = self.axis()
        if len(self.shape) > 1:
            self.then(f"{self.pick(('sum', 'mean', 'max', 'variance'))}(axis = {axis})", *self.with_extent(axis))

    def multiplied(self) -> None:
        """A product over one axis, or two."""
        units = self.pick((1, 2, 3, 5, 8, 16, 20))
        if len(self.shape) > 1 and self.chance(0.3):
            self.then(f"reshape(batch, {', '.join(map(str, self.shape[:-2]))}{', ' * (len(self.shape) > 2)}-1)")
            self.then(f"dense({units})", *self.shape[:-2], units)
        else:
            self.then(f"dense({units}, {self.truth()})", *self.shape[:-1], units)

    def outer(self) -> None:
        """Products of all elements of the last axis with each other, or with those of another view."""
        names = " ".join(_AXES[: len(self.shape) - 1])
        last = self.shape[-1]
        if self.chance(0.5) and len(self.shape) < _MOST_AXES:
            self.write(f'x = einsum("n {names} y, n {names} z -> n {names} y z", x, tanh(x))', *self.shape, last)
        elif len(self.shape) > 1:
            self.write(f'x = einsum("n {names} y, n {names} y -> n {names}", x, sigmoid(x))', *self.shape[:-1])

    def scaled(self) -> None:
        """A factor for each element of an axis, learnt or given."""
        axis = self.axis()
        n, ones = self.shape[axis - 1], ", 1" * (len(self.shape) - axis)
        given = (f"(arange({n}) % 3 + 1)", f"cos(arange({n}) * 0.7)", f"where(arange({n}) % 2 == 0, 1.0, -0.5)")
        self.write(f"x = x * reshape({self.pick(given)}, {n}{ones})")
