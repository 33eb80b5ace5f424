"""Layers, parameters and state: E05."""

from __future__ import annotations

from compiler.errors.entries.entry import ErrorEntry


def _model(output: str, before: str = "", body: str = "") -> str:
    start = f"{before}\n\n" if before else ""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"{start}model M {{\n    input x: f32[batch, 4]\n{lines}    output y = {output}\n}}"


_COUNTING = "layer counting(x) {{\n    state seen: f32[] = zeros\n    {}\n    return x\n}}"

LAYERS: tuple[ErrorEntry, ...] = (
    ErrorEntry(
        "E0501",
        "a layer that is made where nothing owns it",
        "Evaluating `dense(128)` makes an instance with parameters of its own, which needs a place in the model. Only "
        "the bodies of `layer` and `model` give one. A `fn` takes a layer as a setting, or becomes a `layer`.",
        _model("head(x)", "fn head(x) = dense(2)(x)"),
        _model("head(x)", "layer head(x) = dense(2)(x)"),
    ),
    ErrorEntry(
        "E0502",
        "a shared layer that is applied to different shapes",
        "A layer that is bound to a name is one instance: each application uses the same parameters, which have the "
        "shape that the first one gave them. `fresh(l)` makes another instance of the same kind.",
        _model("h(h(x))", body="h = dense(2)"),
        _model("fresh(h)(h(x))", body="h = dense(2)"),
    ),
    ErrorEntry(
        "E0503",
        "a state with an update of the wrong form",
        "In a layer, `name <- value` gives a state the value that the next application sees, in training only; plain "
        "`=` does not change it. In an optimizer, `=` does. The new value has the type of the state.",
        _model("counting(x)", _COUNTING.format("seen <- seen + 1")),
        _model("counting(x)", _COUNTING.format("if training { seen <- seen + 1 }")),
    ),
    ErrorEntry(
        "E0504",
        "a declaration that would exist in training only",
        "Training and inference are two programs from the same source, with the same parameters, states and outputs. "
        "So a branch under `training` declares none of them.",
        _model(
            "noisy(x)",
            "layer noisy(x: [batch, n]) {\n    if training {\n        param scale: [n] = ones\n"
            "        x = scale * x\n    }\n    return x\n}",
        ),
        _model(
            "noisy(x)",
            "layer noisy(x: [batch, n]) {\n    param scale: [n] = ones\n    if training { x = scale * x }\n"
            "    return x\n}",
        ),
    ),
    ErrorEntry(
        "E0505",
        "a start that does not fit the parameter",
        "After `param … =` stands an initialiser, such as `zeros`, `constant(0.5)` or `he_normal`. An `init` takes "
        "`(fan_in, fan_out, shape)` and gives a tensor of that shape, or a number.",
        _model("scale(x)", "layer scale(x: [batch, n]) {\n    param g: [n] = 0.5\n    return g * x\n}"),
        _model("scale(x)", "layer scale(x: [batch, n]) {\n    param g: [n] = constant(0.5)\n    return g * x\n}"),
    ),
    ErrorEntry(
        "E0506",
        "a `gradient` clause that does not fit its function",
        "The clause takes the tensor parameters, the results, and one cotangent for each result. It returns one value "
        "for each parameter of floats, of that parameter's shape.",
        _model("twice(x)", "fn twice(x) = 2 * x gradient(x, dy) = 2 * dy"),
        _model("twice(x)", "fn twice(x) = 2 * x gradient(x, y, dy) = 2 * dy"),
    ),
    ErrorEntry(
        "E0507",
        "two parameters of one name",
        "Each parameter and state of a layer has its own name, which is part of the path under which it is saved.",
        _model(
            "scale(x)",
            "layer scale(x: [batch, n]) {\n    param g: [n] = ones\n    y = g * x\n    param g: [n] = ones\n"
            "    return g * y\n}",
        ),
        _model(
            "scale(x)",
            "layer scale(x: [batch, n]) {\n    param g: [n] = ones\n    y = g * x\n    param k: [n] = ones\n"
            "    return k * y\n}",
        ),
    ),
)
