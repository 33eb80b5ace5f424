"""Settings and calls: E03."""

from __future__ import annotations

from compiler.errors.entries.entry import ErrorEntry


def _model(output: str, before: str = "") -> str:
    start = f"{before}\n\n" if before else ""
    return f"{start}model M {{\n    input x: f32[batch, 4]\n    output y = {output}\n}}"


_HALVED = """fn pairs_of(x: [batch, n]) {
    require(n % 2 == 0, "`pairs_of` takes an even number of columns, not ", n)
    return reshape(x, batch, n / 2, 2)
}

"""

SETTINGS: tuple[ErrorEntry, ...] = (
    ErrorEntry(
        "E0301",
        "an unknown setting",
        "A keyword in a call is the name of a setting, or of a tensor parameter, of the called declaration. Nothing "
        "is ignored, so a misspelt name cannot silently leave a default in place.",
        _model("dense(2, unit_bias = false)(x)"),
        _model("dense(2, bias = false)(x)"),
    ),
    ErrorEntry(
        "E0302",
        "a missing argument",
        "Settings without a default and tensors without `= none` must be given. Settings stand in their own group, "
        "before the tensors: `dense(128)(x)`.",
        _model("dense(bias = false)(x)"),
        _model("dense(2, bias = false)(x)"),
    ),
    ErrorEntry(
        "E0303",
        "too many arguments",
        "Each argument has one parameter. Settings and tensors are given in separate groups, `conv2d(6, 5)(x)`: a "
        "tensor never lands among the settings, nor a setting among the tensors, unless it is given by name: "
        "`softmax(x, axis = 1)`.",
        _model("leaky_relu(x, 0.2)"),
        _model("leaky_relu(0.2)(x)"),
    ),
    ErrorEntry(
        "E0304",
        "a setting of another type",
        "A setting has the type that is written after its name (`units: int`) or that its default shows (`bias = "
        "true`). A whole number stands for a real one, but not the other way round.",
        _model("dense(2.5)(x)"),
        _model("dense(2)(x)"),
    ),
    ErrorEntry(
        "E0305",
        "a value that cannot be called",
        "Only functions, layers and schedules can be called. A product is written with `*`. After `|>` stands a "
        "function or layer, not the result of one.",
        _model("2(x)"),
        _model("2 * x"),
    ),
    ErrorEntry(
        "E0306",
        "a tensor in place of a setting",
        "Settings are known when the program is elaborated, before any tensor exists. A function that takes both has "
        "two groups, `fn f(n: int)(x)`, and is called as `f(3)(x)`.",
        _model("dense(units = x)(x)"),
        _model("dense(units = 4)(x)"),
    ),
    ErrorEntry(
        "E0307",
        "a decision that depends on run time",
        "`if`, `for`, ranges and settings are decided while the program is elaborated. Tensors and `batch` exist only "
        "at run time: choose between tensors with `where`, act on all elements with one operation, and reduce with "
        "`sum`, `max` and their like.",
        "fn positive(x) {\n    if sum(x) > 0 { return x }\n    return -x\n}\n\n" + _model("positive(x)"),
        "fn positive(x) = where(sum(x) > 0, x, -x)\n\n" + _model("positive(x)"),
    ),
    ErrorEntry(
        "E0308",
        "arithmetic without a result",
        "Arithmetic over configuration is exact for whole numbers of 64 bits and real otherwise. Division by zero, the "
        "root of a negative number and a result that is too large are errors; over tensors they would give `inf` and "
        "NaN.",
        _model("x / (4 // 0)"),
        _model("x / (4 // 2)"),
    ),
    ErrorEntry(
        "E0309",
        "names and values that differ in number",
        "`a, b = …` takes a function's two results, a list of two, or the parts of `split(x, 2)`. A tensor is not "
        "taken apart by assignment.",
        "fn f(x) {\n    a, b = x\n    return a + b\n}\n\n" + _model("f(x)"),
        "fn f(x) {\n    a, b = split(x, 2)\n    return a + b\n}\n\n" + _model("f(x)"),
    ),
    ErrorEntry(
        "E0310",
        "a program without end",
        "Loops and calls over configuration are unrolled. Limits let a mistake end in a message instead of a full "
        "memory: 100,000 rounds of a loop, 100 calls inside each other, 300,000 operations of a graph. A function "
        "that calls itself must stop by an `if` over its settings.",
        "fn power(n: int)(x) = x * power(n - 1)(x)\n\n" + _model("power(3)(x)"),
        "fn power(n: int)(x) {\n    if n == 0 { return 1 }\n    return x * power(n - 1)(x)\n}\n\n"
        + _model("power(3)(x)"),
    ),
    ErrorEntry(
        "E0311",
        "an index outside of a list",
        "The elements of a list count from 0; -1 is the last.",
        _model("dense(WIDTHS[2])(x)", "const WIDTHS = [8, 16]"),
        _model("dense(WIDTHS[1])(x)", "const WIDTHS = [8, 16]"),
    ),
    ErrorEntry(
        "E0312",
        "a value of another kind",
        "Arithmetic takes numbers and tensors, conditions take booleans, `for` takes a range or a list, `@` takes two "
        "tensors. Numbers are not conditions: write `n > 0`.",
        "fn f(n: int)(x) {\n    if n { return 2 * x }\n    return x\n}\n\n" + _model("f(1)(x)"),
        "fn f(n: int)(x) {\n    if n > 0 { return 2 * x }\n    return x\n}\n\n" + _model("f(1)(x)"),
    ),
    ErrorEntry(
        "E0313",
        "a number that is known only when a run starts",
        "`total_steps` and `steps_per_epoch` depend on the number of rows, which is known when a run starts. They can "
        "be computed with and given to a schedule, but they cannot decide a loop, an `if` or a shape. With `steps = n` "
        "in `train`, `total_steps` is the number n.",
        "schedule stairs(steps: int)(lr, t) {\n    for i in 0..steps // 100 { lr = where(t > 100 * i, 0.9 * lr, lr) }\n"
        "    return lr\n}\n\nmodel M {\n    input x: f32[batch, 4]\n    output y = dense(1)(x)\n}\n\ntrain M {\n"
        "    loss = mean(y ^ 2)\n    optimizer = adam()\n    schedule = stairs(total_steps)\n    batch = 32\n}",
        "schedule stairs(steps: int)(lr, t) {\n    for i in 0..steps // 100 { lr = where(t > 100 * i, 0.9 * lr, lr) }\n"
        "    return lr\n}\n\nmodel M {\n    input x: f32[batch, 4]\n    output y = dense(1)(x)\n}\n\ntrain M {\n"
        "    loss = mean(y ^ 2)\n    optimizer = adam()\n    schedule = stairs(500)\n    batch = 32\n}",
    ),
    ErrorEntry(
        "E0314",
        "a setting with a value that is not among the choices",
        "The setting chooses by a name, and the message lists the names that there are. `one_of(value, …)` checks a "
        "setting of your own in this way.",
        'fn turned(way = "left")(x) = where(one_of(way, "left", "right") == "left", x, -x)\n\n'
        + _model('turned("up")(x)'),
        'fn turned(way = "left")(x) = where(one_of(way, "left", "right") == "left", x, -x)\n\n'
        + _model('turned("right")(x)'),
    ),
    ErrorEntry(
        "E0315",
        "settings or sizes that break a requirement",
        "A declaration states its requirements by `require(condition, message…)`; here, the condition is false. "
        "Settings and sizes of your own are checked in the same way, in a line of its own; numbers in the message "
        "stand between its texts.",
        _HALVED + _model("pairs_of(x[:, 1:])"),
        _HALVED + _model("pairs_of(x)"),
    ),
)
