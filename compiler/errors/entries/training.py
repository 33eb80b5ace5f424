"""Training and experiments: E06."""

from __future__ import annotations

from compiler.errors.entries.entry import ErrorEntry

_MODEL = "model M(width = 8) {\n    input x: f32[batch, 4]\n    output y = x |> dense(width) |> relu |> dense(1)\n}\n\n"
_KEYS = {"loss": "mse(y[:, 0], t)", "optimizer": "adam()", "batch": "32"}


def _train(model: str = _MODEL, **keys: str) -> str:
    lines = "".join(f"    {key} = {value}\n" for key, value in (_KEYS | keys).items() if value)
    return f"{model}train M {{\n    target t: f32[batch]\n{lines}}}"


TRAINING: tuple[ErrorEntry, ...] = (
    ErrorEntry(
        "E0601",
        "an unknown or repeated key of `train`",
        "The keys are `data validation test target loss metrics optimizer schedule epochs steps batch clip penalty "
        "augment init_from freeze unfreeze early_stop plateau accumulate ema keep precision seed`, each at most once. "
        "Settings of the model stand after its name: `train M(width = 64) { … }`.",
        _train(metric="[mae(y[:, 0], t)]"),
        _train(metrics="[mae(y[:, 0], t)]"),
    ),
    ErrorEntry(
        "E0602",
        "a missing key of `train`",
        "`loss`, `optimizer` and `batch` are required. The command line may give them: `--set batch=32`. `data` and "
        "one of `epochs` and `steps` are needed only to train.",
        _train(batch=""),
        _train(),
    ),
    ErrorEntry(
        "E0603",
        "a key of `train` with a value that it cannot have",
        "`batch`, `epochs`, `steps`, `accumulate` and `keep` are whole numbers from 1 on, `seed` from 0; `batch` "
        "may be `all`, but not with `accumulate`. `validation` "
        'and `test` are fractions below 1 or data sources. `data` is a data source such as `csv("data.csv")`, '
        "`early_stop` is `patience(n)`, `plateau` is `reduce(factor, patience)`, and patterns of parameters are "
        "strings.",
        _train(validation="10"),
        _train(validation="0.1"),
    ),
    ErrorEntry(
        "E0604",
        "a loss that is not a scalar",
        "Training makes one number small. A loss for each row is reduced with `mean`, several losses are added.",
        _train(loss="(y[:, 0] - t) ^ 2"),
        _train(loss="mean((y[:, 0] - t) ^ 2)"),
    ),
    ErrorEntry(
        "E0605",
        "a pattern that matches nothing",
        'Patterns such as "*.W" select parameters by their paths; `*` stands for any text, dots included. `dlc plan` '
        "lists the paths. A pattern without a match is a misspelt one.",
        _train(freeze='["body.*"]'),
        _train(freeze='["y.dense.*"]'),
    ),
    ErrorEntry(
        "E0606",
        "a parameter that no optimizer updates",
        "Of a list of optimizers, each parameter goes to the first whose `on` selects it. A parameter that none "
        "selects must be frozen.",
        _train(optimizer='[adam(on = "*.W")]'),
        _train(optimizer='[adam(on = "*.W"), gradient_descent(lr = 0.1)]'),
    ),
    ErrorEntry(
        "E0607",
        "a setting of the model with the name of a key",
        "On the command line, `--set batch=…` is a key of `train` and `--set width=…` a setting of the model, so no "
        "name may be both.",
        _train(_MODEL.replace("width", "steps")),
        _train(),
    ),
    ErrorEntry(
        "E0608",
        "two lengths of training",
        "`epochs` counts passes over the data, `steps` counts updates. Give one of them.",
        _train(epochs="10", steps="1000"),
        _train(epochs="10"),
    ),
    ErrorEntry(
        "E0609",
        "a file without a model",
        "A file to train or run declares a `model`, and a `train` for it. A file of functions and layers is imported "
        "by others; `dlc check` looks at it alone.",
        "fn twice(x) = 2 * x",
        "model M {\n    input x: f32[batch, 4]\n    output y = 2 * x\n}",
    ),
    ErrorEntry(
        "E0610",
        "an unknown setting on the command line",
        "`--set NAME=VALUE` names a setting of the model, a key of `train`, or a setting below a key, such as "
        "`optimizer.lr` or `schedule.then.T`. `dlc plan` and the run folder list them.",
        "# dlc train model.dl --set optimizer.rate=0.01\n" + _train(),
        "# dlc train model.dl --set optimizer.lr=0.01\n" + _train(),
    ),
    ErrorEntry(
        "E0611",
        "a metric that is not a scalar",
        "A metric is one number for all rows that are measured.",
        _train(metrics="[y]"),
        _train(metrics="[mean(y)]"),
    ),
    ErrorEntry(
        "E0612",
        "an update that changes the shape of its parameter",
        "The last line of an optimizer is the new value of the parameter, of its shape, and a schedule gives one "
        "number.",
        "optimizer plain(lr = 0.1)(p, g, t) {\n    p - lr * g[None] / t\n}\n\n" + _train(optimizer="plain()"),
        "optimizer plain(lr = 0.1)(p, g, t) {\n    p - lr * g / t\n}\n\n" + _train(optimizer="plain()"),
    ),
    ErrorEntry(
        "E0613",
        "an augmentation that changes the type of an input",
        "`augment` changes samples before the model sees them. An input keeps its element type and shape, because "
        "evaluation feeds it as it is in the data; `cast(…, x)` goes back to the element type of `x`. A target may get "
        "another type, such as a distribution over classes, but keeps the batch as its first dimension.",
        _train().replace("batch = 32", "batch = 32\n    augment { x = x[:, 0:2] }"),
        _train().replace("batch = 32", "batch = 32\n    augment { x = x + 0.1 * random_like(x) }"),
    ),
    ErrorEntry(
        "E0614",
        "a loss that `accumulate` cannot put together from several batches",
        "With `accumulate = n`, an update takes n batches, and is the one that a batch of all their rows would make. "
        "So sums over rows and counts of rows are added up, and everything that follows is computed once from these. "
        "A mean is made of such sums; a maximum over the batch is not. Gradients can be added up where the loss is "
        "linear in the sums that depend on parameters. Metrics may be made of anything that E0616 allows.",
        _train(loss="sqrt(mse(y[:, 0], t))", accumulate="4"),
        _train(loss="mse(y[:, 0], t)", accumulate="4"),
    ),
    ErrorEntry(
        "E0615",
        "a key that cannot stand beside an optimizer that evaluates the loss itself",
        "An optimizer of `(p, g, t, objective)` compares the loss at several points of one batch. `clip` and `ema` "
        "would change the values that it compares, `accumulate` splits the batch, and `unfreeze` changes the length "
        "of its vector. All its parameters have one element type.",
        _train(optimizer="lbfgs()", clip="norm(1.0)"),
        _train(optimizer="lbfgs()"),
    ),
    ErrorEntry(
        "E0616",
        "a metric that would depend on the division of rows into batches",
        "A metric has the value that one batch of all rows would give, whatever the batches are. So sums, means, "
        "variances, largest and smallest values are gathered over all rows, and everything that follows is computed "
        "once from these. The summands of a row may therefore depend on no other rows. The sum of squared distances "
        "from a mean is such a sum all the same: write `sum((x - mean(x)) ^ 2)`. The mean of absolute distances from "
        "it is none. A variance with weights is one as `sum(w * x ^ 2) / sum(w) - (sum(w * x) / sum(w)) ^ 2`.",
        _train(metrics="[mean(abs(t - mean(t)))]"),
        _train(metrics="[sqrt(mean((t - mean(t)) ^ 2))]"),
    ),
    ErrorEntry(
        "E0617",
        "a metric without a direction: whether larger or smaller values are better",
        "Epochs are compared by `best`: the loss, unless the key names a metric. Metrics of the library say whether a "
        "large value is good or bad; one of your own says it by `maximise(…)` or `minimise(…)` around it, in `metrics` "
        "or in its function.",
        _train(metrics="[mean(y)]", best="mean"),
        _train(metrics="[minimise(mean(y))]", best="mean"),
    ),
    ErrorEntry(
        "E0701",
        "data that does not fit the program",
        "A column that is missing, a label out of its range or without a class, a text where numbers are wanted: "
        "`dlc check` finds them by loading the data, as a training does. `dlc check --no-data` looks at the text "
        "alone.",
        _train(data='csv("data.csv", target = "species", columns = ["a", "b", "c", "d"])', epochs="2"),
        _train(data='csv("data.csv", target = "label", columns = ["a", "b", "c", "d"])', epochs="2"),
    ),
)
