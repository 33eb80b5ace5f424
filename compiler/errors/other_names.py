"""The names that other frameworks give to what is here, and the hints for who writes them.

`OTHER_NAMES`, `FORMS` and `REMARKS` are the one table of what PyTorch, Keras, NumPy and scikit-learn say; from it are
made the hints of every message, and the table of `docs/coming-from.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from compiler.errors.suggestions import did_you_mean, folded, nearest
from compiler.support.record import record


def advice(name: str, known: Iterable[str], said: Mapping[str, str] | None = None) -> str | None:
    """A hint for an unknown name: what `said` has for it (by default `IN_EXPRESSIONS`), else `did you mean …?`."""
    names = set(known)
    written = folded(name)
    if not any(candidate in names for candidate in NAMES.get(written, ())):
        remark = (IN_EXPRESSIONS if said is None else said).get(written)
        if remark is not None:
            return remark
    return did_you_mean(name, names) or None


def in_place_of_a_method(name: str, tensor: str, known: Iterable[str]) -> str | None:
    """A hint for `tensor.name`: functions take the tensor."""
    names = set(known)
    if name in ("shape", "int") or (name not in names and not set(NAMES.get(folded(name), ())) & names):
        remark = IN_EXPRESSIONS.get(folded(name))
        if remark is not None:
            return remark
    found = name if name in names else nearest(name, names)
    return None if found is None else f"functions take the tensor first: `{found}({tensor}, …)`"


def in_place_of_a_member(name: str, known: Iterable[str]) -> str:
    """A hint for `nn.name`: what stands by itself here."""
    names = set(known)
    if name in names:
        return f"it stands by itself: `{name}`"
    return advice(name, names) or IN_EXPRESSIONS["nn"]


def is_framework(name: str) -> bool:
    """Whether a name is what programs call a framework or a part of it: `nn` of `nn.Linear`."""
    return name in _FRAMEWORKS


@record
class OtherNames:
    """The names `elsewhere` of what is called `here`, by the chapter of the page in which they stand."""

    chapter: str
    here: str
    elsewhere: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.elsewhere.split())


OTHER_NAMES: tuple[OtherNames, ...] = tuple(
    OtherNames(chapter, here, elsewhere)
    for chapter, rows in {
        "Layers": {
            "dense": "Linear Dense LazyLinear fully_connected fc",
            "conv1d": "Convolution1D",
            "conv2d": "Convolution2D",
            "conv_transpose1d": "ConvTranspose1d Conv1DTranspose",
            "conv_transpose2d": "ConvTranspose2d Conv2DTranspose Deconv2d",
            "max_pool": "MaxPool1d MaxPool2d MaxPool3d MaxPooling1D MaxPooling2D MaxPooling3D",
            "avg_pool": "AvgPool1d AvgPool2d AvgPool3d AveragePooling1D AveragePooling2D AveragePooling3D",
            "adaptive_average_pool": "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d",
            "adaptive_max_pool": "AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d",
            "global_average_pool": "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAvgPool2D",
            "global_max_pool": "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPool2D",
            "batch_norm": "BatchNorm1d BatchNorm2d BatchNorm3d BatchNormalization",
            "layer_norm": "LayerNormalization",
            "group_norm": "GroupNormalization InstanceNorm1d InstanceNorm2d",
            "spatial_dropout": "Dropout1d Dropout2d SpatialDropout1D SpatialDropout2D",
            "stochastic_depth": "DropPath",
            "attention": "MultiheadAttention MultiHeadAttention scaled_dot_product_attention",
            "encoder_block": "TransformerEncoderLayer TransformerEncoder",
            "decoder_block": "TransformerDecoderLayer TransformerDecoder",
            "simple_rnn": "RNN",
            "simple_rnn_cell": "RNNCell",
            "upsample": "UpSampling1D UpSampling2D UpsamplingNearest2d UpsamplingBilinear2d interpolate",
            "pad": "ZeroPadding1D ZeroPadding2D ZeroPad2d ConstantPad2d",
            "one_hot": "OneHotEncoder CategoryEncoding to_categorical",
        },
        "Activations": {
            "swish": "SiLU",
            "leaky_relu": "LeakyReLU",
            "log_softmax": "LogSoftmax",
        },
        "Losses and metrics": {
            "cross_entropy": "CrossEntropyLoss cross_entropy_loss softmax_cross_entropy SparseCategoricalCrossentropy",
            "categorical_cross_entropy": "CategoricalCrossentropy",
            "binary_cross_entropy": "BCELoss bce BinaryCrossentropy log_loss",
            "binary_cross_entropy_with_logits": "BCEWithLogitsLoss sigmoid_cross_entropy",
            "nll": "NLLLoss",
            "mse": "MSELoss MeanSquaredError mean_squared_error l2_loss",
            "mae": "L1Loss MeanAbsoluteError",
            "huber": "HuberLoss SmoothL1Loss",
            "kl_divergence": "KLDivLoss KLDivergence kl_div",
            "hinge": "HingeLoss",
            "root_mean_squared_error": "rmse",
            "accuracy": "accuracy_score CategoricalAccuracy SparseCategoricalAccuracy acc",
            "f1": "F1Score",
            "r2": "R2Score",
            "precision": "precision_score",
            "recall": "recall_score",
            "top_k_accuracy": "TopKCategoricalAccuracy",
        },
        "Functions": {
            "mean": "average reduce_mean avg",
            "sum": "reduce_sum",
            "max": "maximum amax reduce_max",
            "min": "minimum amin reduce_min",
            "variance": "var nanvar",
            "concat": "cat concatenate hstack vstack",
            "transpose": "permute swapaxes moveaxis swapdims",
            "reshape": "view",
            "split": "chunk array_split",
            "where": "masked_fill",
            "cast": "astype",
            "gather": "take_along_axis take take_along_dim",
            "reverse": "flip fliplr flipud",
            "linear": "Identity identity_fn",
            "stop_gradient": "detach no_grad StopGradient",
            "abs": "absolute fabs",
            "arange": "range linspace",
            "random": "rand",
            "log1p": "logp1",
            "logsumexp": "reduce_logsumexp",
        },
        "Initialisers": {
            "glorot_uniform": "xavier_uniform_ xavier",
            "glorot_normal": "xavier_normal_",
            "he_uniform": "kaiming_uniform_",
            "he_normal": "kaiming_normal_ kaiming",
            "normal": "RandomNormal normal_",
            "uniform": "RandomUniform uniform_",
            "truncated_normal": "trunc_normal_",
            "identity": "eye eye_",
        },
        "Optimizers, schedules and clips": {
            "gradient_descent": "SGD",
            "step": "StepLR",
            "exponential": "ExponentialLR ExponentialDecay",
            "cosine": "CosineAnnealingLR CosineDecay cosine_annealing",
            "warm_restarts": "CosineAnnealingWarmRestarts CosineDecayRestarts",
            "one_cycle": "OneCycleLR",
            "linear": "LinearLR",
            "polynomial": "PolynomialLR PolynomialDecay",
            "reduce_on_plateau": "ReduceLROnPlateau",
            "global_norm": "clip_grad_norm_ clip_by_global_norm",
            "value": "clip_grad_value_ clip_by_value",
        },
        "Settings": {
            "axis": "dim axes dims",
            "keepdims": "keepdim keep_dims",
            "units": "out_features hidden_size embedding_dim output_dim",
            "channels": "out_channels filters",
            "kernel": "kernel_size",
            "size": "kernel_size pool_size output_size",
            "stride": "strides",
            "dilation": "dilation_rate",
            "vocabulary": "num_embeddings input_dim vocab_size",
            "heads": "num_heads nhead n_heads",
            "hidden": "dim_feedforward intermediate_dim",
            "rate": "p drop_prob drop",
            "drop": "dropout p",
            "bias": "use_bias",
            "weights": "kernel_initializer",
            "smoothing": "label_smoothing",
            "class_weights": "weight",
            "lr": "learning_rate",
            "beta1": "betas beta_1",
            "beta2": "beta_2",
            "eps": "epsilon",
            "every": "step_size decay_steps",
            "factor": "gamma decay_rate",
            "T": "T_max T_0 total_iters",
            "floor": "eta_min min_lr",
            "limit": "max_norm clipnorm clip_value",
            "output": "return_sequences",
        },
        "`train` and the command line": {
            "data": "dataset train_data dataloader x_train",
            "target": "label labels targets y_true",
            "loss": "criterion objective loss_fn",
            "metrics": "metric",
            "optimizer": "optim optimiser",
            "schedule": "scheduler lr_scheduler",
            "epochs": "num_epochs n_epochs max_epochs",
            "steps": "max_steps num_steps iterations",
            "batch": "batch_size bs",
            "validation": "validation_split validation_data val_data eval_set",
            "early_stop": "early_stopping EarlyStopping",
            "clip": "grad_clip gradient_clip_val clip_grad",
            "penalty": "regularizer regularization kernel_regularizer",
            "accumulate": "gradient_accumulation_steps accumulate_grad_batches",
            "seed": "random_state random_seed manual_seed",
            "init_from": "pretrained load_state_dict load_weights",
            "--batch": "--batch-size --bs",
            "--epochs": "--num-epochs --max-epochs",
            "--threads": "--workers --num-workers --jobs --cpus",
            "--resume": "--checkpoint --ckpt",
            "--init-from": "--pretrained --weights-from",
            "--seed": "--random-seed --random-state",
            "--out": "--output-dir --save-dir --logdir",
            "--data": "--dataset --data-dir --data-path",
        },
    }.items()
    for here, elsewhere in rows.items()
)

FORMS: dict[str, str] = {
    "x @ y": "matmul mm bmm dot",
    "x + y": "Add",
    "x - y": "sub subtract",
    "x * y": "mul multiply",
    "x / y": "div divide true_divide",
    "x // y": "floor_divide",
    "x % y": "remainder fmod mod",
    "-x": "neg negative",
    "x ^ 2": "square",
    "x ^ y": "pow power",
    "min(max(x, low), high)": "clamp clip clip_by_value",
    "min(relu(x), 6)": "relu6",
    "where(x > 0, 1.0, where(x < 0, -1.0, 0.0))": "sign",
    "sqrt(variance(x, axis = -1))": "std stddev",
    "sqrt(sum(x ^ 2, axis = -1))": "norm vector_norm",
    "argmax(-x, axis = -1)": "argmin",
    "-softplus(-x)": "logsigmoid log_sigmoid",
    "sin(x) / cos(x)": "tan",
    "(exp(x) - exp(-x)) / 2": "sinh",
    "(exp(x) + exp(-x)) / 2": "cosh",
    "2 ^ x": "exp2",
    "softmax(-x)": "softmin",
    "one_hot(n)(arange(n))": "eye",
    "log(x) / log(2)": "log2",
    "x[:, None]": "unsqueeze expand_dims newaxis ExpandDims",
    "x[:, 0]": "squeeze",
    "concat(x[:, None], y[:, None], axis = 1)": "stack",
    "concat(x, x, axis = 1)": "repeat tile repeat_interleave",
    "x |> f |> g": "Sequential Compose",
}
"""What an expression says where other frameworks have a function."""

_SENTENCES: dict[str, str] = {
    "prod reduce_prod cumprod": "there is no product over an axis; of positive numbers it is "
    "`exp(sum(log(x), axis = -1))`",
    "sort argsort median quantile": "nothing sorts a tensor; `argmax` and `max` find the largest",
    "topk": "nothing sorts a tensor; `top_k_accuracy` counts hits among the first k",
    "broadcast_to expand expand_as": "an axis of size 1 meets every size by itself",
    "contiguous clone copy": "values never change and have no layout: leave it out",
    "cuda cpu device to_device": "programs run on the processor: leave it out",
    "backward grad requires_grad autograd": "gradients are derived by the compiler: nothing is written for them",
    "zero_grad step_optimizer": "`train` makes the steps: nothing is written for them",
    "item numpy tolist": "a program computes with tensors only; `dlc predict` and Python's `dlc.load` give arrays",
    "nn torch F keras tf np numpy jnp jax tensorflow": "functions and layers stand by themselves: `relu(x)`, "
    "`dense(128)(x)`",
    "Module Model": "a model is `model Name { input … output … }`, a part of one `layer name(settings)(x) { … }`",
    "ModuleList ModuleDict": "make layers in a list, and go through it with `for`",
    "Parameter Variable add_weight": "a layer has `param W: [n, units] = glorot_uniform`",
    "register_buffer": "a layer has `state mean: [n] = zeros`, which `mean <- …` moves",
    "self": "a layer sees its settings, parameters and inputs by their names",
    "forward call": "apply a layer to its input: `layer(settings)(x)`, or `x |> layer(settings)`",
    "Input InputLayer": "a model begins with `input x: f32[batch, 4]`",
    "Activation": "an activation is a function: `x |> relu`",
    "print": "`dlc replay RUN --step N --show PATH` shows the values of a step",
    "isnan": "`x != x` is true where x is not a number",
    "tril triu": "`causal_mask(i, j)` is true where position i may see position j",
    "DataLoader Dataset": 'data stands in `train`: `data = csv("points.csv")`',
    "float long half double int to type type_as": "`cast(x, f32)` converts a tensor",
    "shape size dim ndim": "`extent(x, axis)` is the size of an axis, `rank(x)` the number of axes",
    "glu GLU": "cut it in two, `a, b = split(x, 2)`, and multiply: `a * sigmoid(b)`",
    "Lambda": "give the function a name: `fn twice(x) = 2 * x`",
    "TimeDistributed": "layers work on the last axis, whatever stands before it: leave it out",
    "RepeatVector": "an axis of size 1 meets every size by itself",
    "atan arctan asin arcsin acos arccos atan2": "the library does not have it; `sin`, `cos` and `tanh` are there",
    "randn": "`random` draws uniformly; a parameter starts as `param W: [n] = normal`",
    "ConvLSTM2D AlphaDropout CTCLoss": "the library does not have it; a `layer` or `fn` of the file can say it",
}


def _by_name(sentences: Mapping[str, str]) -> dict[str, str]:
    return {folded(name): said for names, said in sentences.items() for name in names.split()}


_FRAMEWORKS = frozenset(("nn", "torch", "F", "keras", "tf", "np", "numpy", "jnp", "jax", "tensorflow", "layers"))
NAMES: dict[str, tuple[str, ...]] = {}
for _row in OTHER_NAMES:
    for _name in _row.names:
        NAMES[folded(_name)] = (*NAMES.get(folded(_name), ()), _row.here)
IN_EXPRESSIONS: Mapping[str, str] = {
    **{folded(name): f"write `{form}`" for form, names in FORMS.items() for name in names.split()},
    **_by_name(_SENTENCES),
}
"""What is said of names where a value stands, by their folded names."""
IN_TRAIN: Mapping[str, str] = _by_name(
    {
        "lr learning_rate": "it is a setting of the optimizer: `optimizer = adam(lr = 1e-3)`",
        "weight_decay": "it is a setting of the optimizer, `adamw(weight_decay = 0.01)`, or `penalty = l2(1e-4)`",
        "momentum": "it is a setting of the optimizer: `optimizer = momentum(lr = 0.01, momentum = 0.9)`",
        "patience": "write `early_stop = patience(5)`",
        "shuffle": "rows come in another order in each epoch: leave it out",
        "num_workers device gpu pin_memory drop_last": "there is nothing to choose: leave it out",
        "callbacks": "there are `early_stop`, `plateau`, `schedule`, `ema` and `keep`",
        "verbose": "leave it out; `dlc train --json` is for programs",
        "dropout": "it is a layer of the model: `x |> dropout(0.5)`",
        "amp mixed_precision fp16 bf16": "write `precision = bf16`, or leave it out",
        "test_size test_split": "write `test = 0.2`",
    }
)
"""The same of keys of `train`."""
IN_CALLS: Mapping[str, str] = _by_name(
    {
        "in_features in_channels input_size input_shape num_features normalized_shape": "the size of the input is "
        "known: leave it out",
        "activation": "an activation is a function of its own: `x |> dense(128) |> relu`",
        "batch_first": "the batch is the first axis everywhere: leave it out",
        "num_layers": "layers are stacked by `stacked(cell, layers = 2)`",
        "bidirectional": "wrap the layer: `bidirectional(gru(units))`",
        "from_logits": "`cross_entropy` takes logits, `sparse_categorical_cross_entropy` probabilities",
        "reduction": "a loss is the mean over its elements; times a count it is the sum",
        "momentum": "it belongs to an optimizer of its own: `momentum(lr = 0.01, momentum = 0.9)`",
        "nesterov": "it is an optimizer of its own: `nesterov(lr = 0.01)`",
        "amsgrad": "leave it out: `adam` is the usual form",
        "affine elementwise_affine": "leave it out: scale and shift belong to the layer",
        "padding_idx mask_zero": "an input `padded by mask` has a mask: give it as `where = mask`",
        "device dtype name": "leave it out",
    }
)
"""The same of settings of a call."""
OF_OPTIONS: Mapping[str, str] = _by_name(
    {
        "--gpu --cuda --device --gpus --cpu": "programs run on the processor: leave it out",
        "--lr --learning-rate": "write --set optimizer.lr=0.001",
        "--optimizer --optim": "write --set optimizer=adam",
        "--model": "the model file is named by itself: dlc train model.dl",
        "--verbose -v --quiet -q": "leave it out",
        "--config": "settings stand in the model file; --set KEY=VALUE changes one",
        "--steps --max-steps": "write --set steps=1000",
        "--hidden --hidden-size --dropout": "settings of the model are set by --set KEY=VALUE",
        "--patience --early-stopping": "write --set early_stop.patience=5, or `early_stop` in the file",
        "--debug": "--on-nan, --watch and `dlc test` look for mistakes of a model",
    }
)
"""The same of options of the command line."""


def table_of_names() -> str:
    """The chapters of other frameworks' names as Markdown, with which `docs/coming-from.md` ends."""
    parts: list[str] = []
    for chapter in dict.fromkeys(row.chapter for row in OTHER_NAMES):
        rows = [(row.elsewhere, row.here) for row in OTHER_NAMES if row.chapter == chapter]
        parts.append(_table(chapter, rows))
    parts.append(_table("Expressions", [(names, form) for form, names in FORMS.items()]))
    return "\n".join(parts)


def _table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {', '.join(f'`{name}`' for name in names.split())} | `{_escaped(here)}` |" for names, here in rows]
    return "\n".join([f"### {title}", "", "| there | here |", "|---|---|", *lines, ""])


def _escaped(code: str) -> str:
    return code.replace("|", "\\|")


if __name__ == "__main__":
    print(table_of_names(), end="")
