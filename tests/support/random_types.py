"""Random bodies of models with columns of every element type, which become floats by what is computed of them."""

from __future__ import annotations

from model_writer import ModelWriter

_OF_INTEGERS = (
    *(
        "{} % 7",
        "{} // 4",
        "{0} * 3 - {0} % 5",
        "-{}",
        "max({}, 9)",
        "abs({} - 20)",
        "where({0} > 7, {0}, 7)",
        "{0} * {0}",
    ),
    *(
        "{0}[:, ::-1] + {0}",
        "cumsum({0} - 1, axis = 1)",
        "sum({0}, axis = 1, keepdims = true) - {0}",
        "reverse({0}, 1)",
    ),
    *("min({0}, axis = 1, keepdims = true) + {0}", "pad({}[:, 1:], 0, 1, axis = 1)", "{0} + cast({0}, u8)", "{} / 3"),
    "concat({0}[:, 1:], {0}[:, :1], axis = 1)",
)
_OF_TRUTHS = (
    *(
        "where({}, 1.0, -0.5)",
        "{0} and {0}[:, ::-1]",
        "not {}",
        "{0} + {0}",
        "any({0}, axis = 1, keepdims = true) == {0}",
    ),
    *(
        "{} == (x[:, :1] > 0)",
        "sum({0}, axis = 1, keepdims = true) - {0}",
        "{0} or all({0}, axis = 1, keepdims = true)",
    ),
)
_OF_DOUBLES = (
    *(
        "{0} * {0} / 3",
        "exp(-abs({}))",
        "{0} - mean({0}, axis = 1, keepdims = true)",
        "softmax({})",
        "cumsum({}, axis = 1)",
    ),
    *("{} % 0.3", "where({0} > 0.103, {0}, 0.1 * {0})", "cast({} * 3.017, i64) * 0.1"),
)
# No number of the integer columns meets one of these exactly: where it did, a rounding would decide.
_OF_COLUMNS = (
    *(
        "x + 0.1 * cast(argmax(x, axis = 1), f32)[:, None]",
        "x * cast(x > 0.217, f32)",
        "x + one_hot({n})(argmax(x, axis = 1))",
    ),
    *("where(any(x > 0.973, axis = 1, keepdims = true), x, 0.5 * x)", "x + cast(cast(x * 3.017, i64) % 3, f32)"),
    *(
        "x + cast(sum(cast(x > 0.003, i32), axis = 1, keepdims = true), f32) / {n}",
        "where(x > 0.003 and x < 1.037, x, 0.1 * x)",
    ),
    *(
        "cast(cast(x, f64) * 0.1, f32) + x",
        "x * cast(cast(abs(x) * 20.03, u8) % 5, f32)",
        "x + x[:, cast(arange({n}), i64)]",
    ),
)
_SATURATING = ("tanh", "sigmoid", "softsign", "softmax", "erf", "clamp")


class TypeWriter(ModelWriter):
    """Stages of `x`, [batch, n]."""

    def of_types(self) -> None:
        """A table whose columns have several element types."""
        n = self.pick((1, 3, 8, 16, 17, 40))
        self.inputs.append(f"input x: f32[batch, {n}]")
        self.write("x = x * 0.5", n)
        for dtype in self.random.sample(("i32", "i64", "u8", "bool", "f64"), self.number(1, 3)):
            self.joined_by(dtype)
        self.stages((*[self.by_type] * 4, self.expression, self.activation, self.of_constants), self.number(1, 3))
        units = self.pick((3, 8, 17))
        self.then(f"dense({units}) |> tanh", units)
        self.stages((self.by_type,), 1)

    def joined_by(self, dtype: str) -> None:
        """Columns of that type beside the others, as floats."""
        n, name = self.pick((1, 2, 5, 8, 16, 19)), f"of_{dtype}"
        forms = {"bool": _OF_TRUTHS, "f64": _OF_DOUBLES}.get(dtype, _OF_INTEGERS)
        bounds = self.pick(("", " in 0..50", " in 3..9" if dtype == "u8" else " in -20..30"))
        self.inputs.append(f"input {name}: {dtype}[batch, {n}]{bounds if forms is _OF_INTEGERS else ''}")
        shift, scale = self.pick((("", ""), (" - 0.3", " * 0.0513")))
        self.write(f"{name}_then = {self.pick(forms).format(name)}")
        self.write(f"x = concat(x, cast({name}_then, f32){scale}{shift})", self.shape[0] + n)

    def by_type(self) -> None:
        """What is true of each element, which is the largest, its integer part."""
        form = self.pick(_OF_COLUMNS)
        if "argmax" in form:
            self.keep_from_limits()
        self.write(f"x = {form.format(n=self.shape[-1])}")

    def keep_from_limits(self) -> None:
        """Smaller operands of what has a limit, near which a rounding would decide what element is the largest."""
        for number, line in reversed([*enumerate(self.body)]):
            if any(name in line for name in _SATURATING):
                self.body[number] = line.replace("x = x |>", "x = x * 0.02 |>")
            if "dense(" in line:
                return
        return False
