"""Names and declarations: E02."""

from __future__ import annotations

from compiler.errors.entries.entry import ErrorEntry

NAMES: tuple[ErrorEntry, ...] = (
    ErrorEntry(
        "E0201",
        "a name that means nothing here",
        "A name is looked up among the settings, dimensions and variables of the declaration, then in the file, in the "
        "files that it imports, and in the library. Initialisers, optimizers, schedules, clips and penalties have "
        "namespaces of their own, and the place decides in which one is looked: after `param … =` an initialiser, "
        "after `optimizer =` an optimizer. In `train`, the names are the model's settings, inputs, targets and "
        "outputs; intermediate values of the model are not seen.",
        "fn gate(x) = sigmiod(x) * x",
        "fn gate(x) = sigmoid(x) * x",
    ),
    ErrorEntry(
        "E0202",
        "a name that is declared twice",
        "In one file, each name of a namespace has one declaration, and in one signature each parameter has its own "
        "name. A declaration of your own may have the name of one in the library, which it then replaces.",
        "fn twice(x) = 2 * x\nfn twice(x) = x + x",
        "fn twice(x) = 2 * x\nfn double(x) = x + x",
    ),
    ErrorEntry(
        "E0203",
        "a name that may have no value",
        "A name that is bound in only one branch of an `if` has no value after it, whichever branch is taken, and a "
        "name that the body of a `for` binds first ends with the round. Bind the name before, or on every way.",
        "fn f(large: bool)(x) {\n    if large { y = 2 * x }\n    return y\n}",
        "fn f(large: bool)(x) {\n    y = x\n    if large { y = 2 * x }\n    return y\n}",
    ),
    ErrorEntry(
        "E0204",
        "a name that keeps its value",
        "Names of tensors may be bound again: `x = relu(x)`. Settings, dimension names, loop variables and `training` "
        "keep their value, so that a reader finds it in one place.",
        "fn f(n: int)(x) {\n    n = n + 1\n    return n * x\n}",
        "fn f(n: int)(x) {\n    count = n + 1\n    return count * x\n}",
    ),
    ErrorEntry(
        "E0205",
        "a statement in a declaration that cannot hold it",
        "`param` stands in a `layer` or `model`, `state` also in an `optimizer`, `<-` in a `layer` or `model`, `input` "
        "and `output` in a `model`, and `emit` in a `scan`. A `fn` is pure: it owns nothing.",
        "fn scale(x: [..., n]) {\n    param g: [n] = ones\n    return g * x\n}",
        "layer scale(x: [..., n]) {\n    param g: [n] = ones\n    return g * x\n}",
    ),
    ErrorEntry(
        "E0206",
        "a line without effect",
        "Every value is given a name, returned or emitted; a value that stands alone is a forgotten name, or the "
        "second half of an expression that was broken between lines (break inside brackets). Only the last line of an "
        "`optimizer` is its result, and `require(…)` gives none. A line after a `return` is never reached.",
        "fn f(x) {\n    y = x\n    - 1\n    return y\n}",
        "fn f(x) {\n    y = x - 1\n    return y\n}",
    ),
    ErrorEntry(
        "E0207",
        "a declaration without a result",
        "A body ends in a `return`, on every way through its branches; the last line of an `optimizer` is the new "
        "value of the parameter, and a model declares its results with `output`.",
        "fn f(x) {\n    y = 2 * x\n}",
        "fn f(x) {\n    return 2 * x\n}",
    ),
    ErrorEntry(
        "E0208",
        "an unknown attribute",
        "A tensor has one attribute: `x.T`, with its last two axes swapped. Everything else is a function: "
        "`sum(x)`, `reshape(x, …)`. The size of a dimension is its name in the signature.",
        "model M {\n    input x: f32[batch, 4]\n    output y = x.t\n}",
        "model M {\n    input x: f32[batch, 4]\n    output y = x.T\n}",
    ),
    ErrorEntry(
        "E0209",
        "a constant that depends on itself",
        "The value of a `const` is computed from other constants, which must lead to one that needs no other.",
        "const A = B + 1\nconst B = A\n\nmodel M {\n    input x: f32[batch, 4]\n    output y = A * x\n}",
        "const A = B + 1\nconst B = 2\n\nmodel M {\n    input x: f32[batch, 4]\n    output y = A * x\n}",
    ),
    ErrorEntry(
        "E0210",
        "a `scan` that assigns a name around it without carrying it",
        "The body of a `scan` runs once for each step. A value that one step hands to the next is carried: it is named "
        "after `carry`, with its initial value. Other names of the surrounding body can be read, not assigned.",
        "layer total(x: [batch, time, n]) {\n    s = zeros(batch, n)\n    y = scan xt in x over time {\n"
        "        s = s + xt\n        emit s\n    }\n    return y\n}",
        "layer total(x: [batch, time, n]) {\n    y, s = scan xt in x over time carry s = zeros(batch, n) {\n"
        "        s = s + xt\n        emit s\n    }\n    return y\n}",
    ),
    ErrorEntry(
        "E0211",
        "an optimizer, schedule or initialiser with other tensor parameters than training passes",
        "Training passes a fixed list of tensors, whatever their names: an optimizer takes the parameter, its "
        "gradient and the number of the update, `(p, g, t)`; a schedule the rate and the number of updates so far, "
        "`(lr, t)`; an initialiser the numbers of inputs and outputs and the shape, `(fan_in, fan_out, shape)`. "
        "Settings stand in a group of their own before.",
        "optimizer plain(lr = 0.1)(p, g) {\n    p - lr * g\n}",
        "optimizer plain(lr = 0.1)(p, g, t) {\n    p - lr * g\n}",
    ),
)
