"""Features that are not compiled yet, and lints: E09 and W01."""

from __future__ import annotations

from compiler.error_entries.entry import ErrorEntry


def _model(output: str, before: str = "", inputs: str = "x: f32[batch, 6]") -> str:
    start = f"{before}\n\n" if before else ""
    lines = "".join(f"    input {line}\n" for line in inputs.split("; "))
    return f"{start}model M {{\n{lines}    output y = {output}\n}}"


def _train(**keys: str) -> str:
    known = {"loss": "mean(y ^ 2)", "optimizer": "adam()", "batch": "32"} | keys
    lines = "".join(f"    {key} = {value}\n" for key, value in known.items())
    return f"{_model('dense(1)(x)')}\n\ntrain M {{\n{lines}}}"


_LATER = "The language has this form, and it is read and its names are checked, but this version cannot compile it. "

MISSING: tuple[ErrorEntry, ...] = (
    ErrorEntry(
        "E0901",
        "`scan` is not compiled yet",
        _LATER + "A recurrence of a few steps can be unrolled with `for`.",
        _model(
            "total(reshape(x, batch, 3, 2))",
            "layer total(x: [batch, time, n]) {\n    y, s = scan xt in x over time carry s = zeros(batch, n) {\n"
            "        s = s + xt\n        emit s\n    }\n    return y[:, -1] + s\n}",
        ),
        _model(
            "total(reshape(x, batch, 3, 2))",
            "layer total(x: [batch, time, n]) {\n    s = x[:, 0]\n    for i in 1..time { s = s + x[:, i] }\n"
            "    return s\n}",
        ),
    ),
    ErrorEntry(
        "E0905",
        "`padded by` is not compiled yet",
        _LATER + "Pad sequences to one length, and give the mask as an input of its own.",
        _model("x / (1 + tokens)", inputs="x: f32[batch, 6]; tokens: i32[batch, 6] padded by mask"),
        _model("x / (1 + tokens) * mask", inputs="x: f32[batch, 6]; tokens: i32[batch, 6]; mask: bool[batch, 6]"),
    ),
    ErrorEntry(
        "E0906",
        "optimizers that call the objective are not compiled yet",
        _LATER + "Optimizers of `(p, g, t)` are.",
        "optimizer newton(lr = 1.0)(p, g, t, objective) {\n    p - lr * g * t\n}\n\n" + _train(optimizer="newton()"),
        "optimizer newton(lr = 1.0)(p, g, t) {\n    p - lr * g * t\n}\n\n" + _train(optimizer="newton()"),
    ),
    ErrorEntry(
        "E0907",
        "`bf16` is not compiled yet",
        _LATER + "Use f32.",
        _model("cast(x, bf16)"),
        _model("cast(x, f32)"),
    ),
    ErrorEntry(
        "E0908",
        "a key of `train` that is not compiled yet",
        _LATER + '`accumulate`, `ema` and `precision` other than "f32" are such keys.',
        _train(accumulate="4"),
        _train(),
    ),
    ErrorEntry(
        "E0909",
        "schedules with a state or a metric are not compiled yet",
        _LATER + "Schedules of `(lr, t)` are.",
        "schedule plateau(factor = 0.5)(lr, t, metric) = where(metric > t, factor * lr, lr)\n\n"
        + _train(schedule="plateau()"),
        "schedule plateau(factor = 0.5)(lr, t) = where(t > 100, factor * lr, lr)\n\n" + _train(schedule="plateau()"),
    ),
)

LINTS: tuple[ErrorEntry, ...] = (
    ErrorEntry(
        "W0101",
        "an input that is not used",
        "An input that nothing reads is still asked of the data. Remove it, or begin its name with `_`.",
        _model("2 * x", inputs="x: f32[batch, 6]; z: f32[batch, 2]"),
        _model("2 * x"),
    ),
    ErrorEntry(
        "W0102",
        "a name that is not used",
        "A value that is computed, named and never read is often a misspelt name further down.",
        "fn f(x) {\n    y = 2 * x\n    return x\n}",
        "fn f(x) {\n    y = 2 * x\n    return y\n}",
    ),
    ErrorEntry(
        "W0103",
        "a setting that is not used",
        "A setting that decides nothing misleads whoever sets it.",
        "fn f(scale = 2.0)(x) = 2 * x",
        "fn f(scale = 2.0)(x) = scale * x",
    ),
    ErrorEntry(
        "W0104",
        "a declaration that is not compiled yet",
        "`generate` and `test` are read, and this version does nothing with them. All else in the file works.",
        _model("x + x") + "\n\ntest Doubling {\n    a = 2\n}",
        _model("x + x"),
    ),
    ErrorEntry(
        "W0105",
        "a dimension that only the data knows, and the data is not there",
        "A dimension of an input that is neither a number nor a setting has the size that the data has. Without the "
        "data, the shapes of the model cannot be checked. Put the data where `train` says, or make the dimension a "
        "setting.",
        _train().replace("6]", "width]"),
        _train().replace("6]", "width]").replace("M {", "M(width = 6) {", 1),
    ),
)
