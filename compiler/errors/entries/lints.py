"""Lints, text that is correct but most likely not meant: W01."""

from __future__ import annotations

from compiler.errors.entries.entry import ErrorEntry


def _model(output: str, inputs: str = "x: f32[batch, 6]") -> str:
    lines = "".join(f"    input {line}\n" for line in inputs.split("; "))
    return f"model M {{\n{lines}    output y = {output}\n}}"


def _train(output: str = "dense(3)(x)", loss: str = "cross_entropy(y, label)", **keys: str) -> str:
    known = {"loss": loss, "optimizer": "adam()", "batch": "32"} | keys
    lines = "".join(f"    {key} = {value}\n" for key, value in known.items())
    return f"{_model(output)}\n\ntrain M {{\n    target label: i32[batch] in 0..3\n{lines}}}"


def _twice(second: str) -> str:
    body = f"    h = x |> inner |> relu |> {second}\n    return h\n"
    return f"layer twice(inner: layer)(x) {{\n{body}}}\n\n{_model('x |> twice(dense(6))')}"


_TURNED = "fn turned(x: [...]) = x gradient (x, y, dy) { return -dy }\n\n"
_OWN = "-mean(sum(where(label[:, None] == arange(3), log_softmax(y), 0), axis = -1))"
_PADDED = "tokens: i32[batch, 6] in 0..9 padded by mask"

LINTS: tuple[ErrorEntry, ...] = (
    ErrorEntry(
        "W0101",
        "an input that is not used",
        "The data must still have an input that nothing reads. Remove it, or begin its name with `_`.",
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
        "W0105",
        "a dimension whose size only the data knows, without the data",
        "A dimension of an input that is neither a number nor a setting has the size that the data has. Without the "
        "data, the shapes of the model cannot be checked. Put the data where `train` says, or make the dimension a "
        "setting.",
        _train().replace("6]", "width]"),
        _train().replace("6]", "width]").replace("M {", "M(width = 6) {", 1),
    ),
    ErrorEntry(
        "W0106",
        "a softmax before a loss that wants logits",
        "A loss with a parameter `logits` applies softmax (or sigmoid) itself, in a form that loses no digits. "
        "Probabilities in their place lie between 0 and 1, so that the loss stays far from 0 and its gradients are "
        "small: training is slow and ends early. Give it the values before the softmax, and apply softmax where "
        "probabilities are needed.",
        _train("softmax(dense(3)(x))"),
        _train(),
    ),
    ErrorEntry(
        "W0107",
        "a parameter that no gradient reaches",
        "The loss does not depend on the parameter, or everything between the two is constant almost everywhere, such "
        "as a comparison, `floor`, `argmax` or `stop_gradient`. So training leaves it as it starts. Parameters that "
        "are meant to stay so are listed in `freeze`.",
        _train("dense(3)(step(dense(8)(x)))"),
        _train("dense(3)(sigmoid(dense(8)(x)))"),
    ),
    ErrorEntry(
        "W0108",
        "a logarithm, a root or a quotient of a value that can leave its range",
        "Some functions give 0 for ordinary values: `relu`, `abs`, squares, variances, and in floats `softmax` and "
        "`sigmoid`. The logarithm of 0 and a quotient by 0 are infinite, and their gradients are NaN, even where a "
        "`where` around it chooses something else: put the `where` inside, `log(where(x > 0, x, 1))`, keep the value "
        "away from 0 with `max(x, 1e-7)`, or add a small number. `log_softmax(x)` is `log(softmax(x))`, and "
        "`-softplus(-x)` is `log(sigmoid(x))`, for all values. A value that training can make any number, such as "
        "the result of a dense layer, is made positive by `exp` or `softplus` before its logarithm or root is taken. "
        "A logarithm or a root of unchanged data is judged by the data, where `dlc check` finds it.",
        _model("x / sqrt(variance(x, axis = -1, keepdims = true))"),
        _model("x / sqrt(variance(x, axis = -1, keepdims = true) + 1e-5)"),
    ),
    ErrorEntry(
        "W0109",
        "an initialiser that does not suit the activation after it",
        "The scale of start values is chosen so that activations neither fade nor explode from layer to layer, and "
        "that depends on the activation: Glorot's for sigmoid and tanh, He's for relu and leaky_relu, LeCun's for "
        "selu. A default initialiser is reported before selu only.",
        _model("dense(3)(tanh(dense(8, weights = he_normal)(x)))"),
        _model("dense(3)(tanh(dense(8, weights = glorot_normal)(x)))"),
    ),
    ErrorEntry(
        "W0110",
        "a schedule that is longer or shorter than the run",
        "A schedule counts updates, not epochs. One that ends before the run leaves the rate at its lowest value for "
        "the rest of it, often 0; one that ends after it never comes down. `total_steps` is the number of updates of "
        "the run, whatever decides it. `dlc train` compares again when it knows the size of the data.",
        _train(schedule="cosine(T = 100)", steps="2000"),
        _train(schedule="cosine(T = total_steps)", steps="2000"),
    ),
    ErrorEntry(
        "W0111",
        "a frozen layer whose statistics still move",
        "`freeze` selects parameters and states by patterns. Where it selects all parameters of a layer and not its "
        "states, such as the running mean of a normalisation, training still changes the results of the layer in "
        'inference. A pattern for the whole layer, `"h.batch_norm.*"`, keeps them too.',
        _train("dense(3)(batch_norm(x))", freeze='["*.gamma", "*.beta"]'),
        _train("dense(3)(batch_norm(x))", freeze='"*.batch_norm.*"'),
    ),
    ErrorEntry(
        "W0112",
        "an output that mixes the rows of a batch",
        "A prediction is made for some rows at a time. An output that sums over the batch, or compares its rows, "
        "depends on which rows stand together, and on how many. Reduce over another axis, or leave it to the loss and "
        "the metrics.",
        _model("x - mean(x, axis = 0)"),
        _model("x - mean(x, axis = 1, keepdims = true)"),
    ),
    ErrorEntry(
        "W0113",
        "a suppression that suppresses nothing",
        "`# dlc: ignore[W0102]` at the end of a line, or alone in the line before, suppresses warnings of that line by "
        "their codes. A leftover one hides later warnings, and one without codes in brackets suppresses nothing.",
        "fn f(x) {\n    y = 2 * x  # dlc: ignore[W0102]\n    return y\n}",
        "fn f(x) {\n    y = 2 * x\n    return y\n}",
    ),
    ErrorEntry(
        "W0114",
        "a layer that is applied to its own output",
        "A setting of type `layer` is one layer, with one set of parameters, wherever its name stands. Two branches "
        "may share it on purpose; one after the other it is more likely that two layers were meant. `fresh(inner)` is "
        "a new layer of the same kind.",
        _twice("inner"),
        _twice("fresh(inner)"),
    ),
    ErrorEntry(
        "W0115",
        "a reduction over a padded dimension without its mask",
        "Rows of a padded input end at different places, and elements behind the end have no meaning. A sum, a mean, "
        "a maximum or a softmax along that dimension takes it in, unless `where = mask` leaves it out.",
        _model("mean(one_hot(9)(tokens), axis = 1)", _PADDED),
        _model("mean(one_hot(9)(tokens), axis = 1, where = mask)", _PADDED),
    ),
    ErrorEntry(
        "W0116",
        "a training that leaves parameters as they are, against its text",
        "Training does not change the parameters that `freeze` selects, until `unfreeze = after(n, …)` releases them "
        "after n epochs. A `freeze` of every parameter leaves nothing to train, and parameters that are unfrozen "
        "after the last epoch never change.",
        _train(freeze='"*.dense.*"', unfreeze='after(8, "*.W")', epochs="5"),
        _train(freeze='"*.dense.*"', unfreeze='after(3, "*.W")', epochs="5"),
    ),
    ErrorEntry(
        "W0117",
        "integers that can equal none of the classes they are compared with",
        "An integer that is compared with the places of an axis, as in `label[:, None] == arange(3)`, equals none of "
        "them where it lies outside. The library refuses such labels; in a text of your own it may be meant, as for "
        "rows without a class, and a comment then suppresses the warning.",
        _train(loss=_OWN).replace("in 0..3", "in 0..4"),
        _train(loss=_OWN),
    ),
    ErrorEntry(
        "W0118",
        "arguments of a loss or metric that stand in each other's place",
        "Losses and metrics take the model's output first, then the label or target. Where both fit the two places, "
        "as in `kl_divergence` or `r2`, the exchanged arguments have a value that means something else. A label of "
        "floats is a distribution over the classes; classes are integers.",
        _train(loss="binary_cross_entropy(one_hot(3)(label), sigmoid(y))"),
        _train(loss="binary_cross_entropy(sigmoid(y), one_hot(3)(label))"),
    ),
    ErrorEntry(
        "W0119",
        "missing data",
        "`dlc check` loads the data that `train` names, as a training would, and so finds missing columns and wrong "
        "labels. Missing data cannot be checked; `dlc check --no-data` checks the text alone.",
        _train(data='csv("absent.csv", target = "label")', epochs="2"),
        _train(data='csv("data.csv", target = "label")', epochs="2"),
    ),
    ErrorEntry(
        "W0120",
        "numbers that do not fit the length of the run or the data",
        "The data decides the number of updates of a run. A schedule that warms up for longer never reaches its "
        "rate, a batch of far more rows than there are takes all of them each time, and a rate above 100 is a slip "
        "as a rule. A training says the same before it begins.",
        _train(data='csv("data.csv", target = "label")', epochs="2", schedule="warmup(100000)"),
        _train(data='csv("data.csv", target = "label")', epochs="2", schedule="warmup(2)"),
    ),
    ErrorEntry(
        "W0121",
        "a loss that not every parameter lowers",
        "The best epoch is the one with the lowest loss, of validation if there is any; `test`, `dlc eval` and `dlc "
        "predict` take its weights. Where parameters work against others, as in adversarial training, with a "
        "gradient that is reversed, or with an optimizer that climbs, the lowest loss does not mark the best epoch. "
        "`early_stop = patience(N, restore = false)` keeps the last weights.",
        _TURNED + _train("dense(3)(turned(dense(4)(x)))"),
        _TURNED + _train("dense(3)(turned(dense(4)(x)))", early_stop="patience(100, restore = false)"),
    ),
)
