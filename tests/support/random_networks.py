"""Whole programs at random: networks of images, signals, sequences and tables, each with a training.

A seed always gives the same text. Every stage fits the shape before it, so every text is a sound program.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from model_writer import ACTIVATIONS, WEIGHTS
from random_convolutions import ConvolutionWriter
from random_types import TypeWriter

_OPTIMIZERS = (
    *("gradient_descent(lr = 0.05)", "gradient_descent(lr = 0.02, weight_decay = 0.1)", "momentum(lr = 0.02)"),
    *("nesterov(lr = 0.02)", "nesterov(lr = 0.01, weight_decay = 0.1, decay_on = matrices)", "adam(lr = 0.01)"),
    *("adamw(lr = 0.01, weight_decay = 0.1, decay_on = matrices)", "rmsprop(lr = 0.01)", "adagrad(lr = 0.05)"),
    *("adadelta", "adam(lr = 0.01, beta2 = 0.95)", "own_rule(lr = 0.02)", "adam(lr = 0.01, eps_hat = true)"),
    *("unrated()", "of_sign(lr = 0.01)"),
)
_OF_OBJECTIVE = (
    *("lbfgs", "lbfgs(memory = 2, evaluations = 2)", "newton(damping = 0.1)", "newton(damping = 1.0, evaluations = 2)"),
    *("newton_cg(damping = 0.1)", "newton_cg(iterations = 3, damping = 0.1)"),
)  # damped: a whole step along what barely curves is made of rounding
_SCHEDULES = (
    *("cosine(T = total_steps)", "warmup(2)", "warmup(1, then = cosine(T = 5))", "exponential(factor = 0.9)"),
    *("halving", "delayed(by = 1)", "delayed(by = 2, then = cosine(T = 5))", "of_others"),
    *("step(every = 2)", "linear(T = 9)", "one_cycle(T = 6)", "polynomial(T = 7)", "warm_restarts(T = 2, mult = 2)"),
)
_CLIPS = ("value(0.01)", "norm(0.5)", "global_norm(0.5)", "global_norm(100.0)")
_PENALTIES = ("l2(1e-2)", "l1(1e-3)", 'l1_l2(1e-3, 1e-2, on = "head.W")')
_DECLARATIONS = """
fn wave(x) = sin(x) + 0.1 * x
optimizer own_rule(lr = 0.01, keep = 0.9)(p, g, t) {
    state v = zeros
    v = keep * v + (1 - keep) * g
    p - lr * v / ((1 - keep ^ t) * (1 + sqrt(mean(v * v))))
}
optimizer unrated(keep = 0.5)(p, g, t) {
    state m = zeros
    m = keep * m + g
    p - 0.01 / t * m
}
optimizer of_sign(lr = 0.01)(p, g, t) { p - lr * clamp(-1, 1)(g * 3.0 / 7.0) * (1 - 0.1 * 0.1) }
schedule halving(lr, t) = lr / (1 + t % 4)
schedule delayed(by: int, then: schedule = constant)(lr, t) = where(t < by, lr * 0.1 * 3, then(lr, t - by))
schedule of_others(lr, t) = 0.5 * polynomial(T = 9)(lr, t) + 0.5 * exponential(factor = 0.9)(lr, t)
layer own_scan(units: int, back = false)(x: [batch, time, n], where: bool[batch, time] = none) {
    param W: [n, units] = glorot_uniform
    param U: [units, units] = orthogonal
    hs, h = scan xt in x over time reverse = back where = where carry h = zeros(batch, units) {
        h = 0.5 * h + tanh(xt @ W + h @ U)
        emit h
    }
    return hs
}
"""


def random_network(seed: int) -> str:
    """The text of a model and its `train`."""
    return _Maker(Random(seed)).program()


class _Maker(ConvolutionWriter, TypeWriter):
    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self.others: dict[str, tuple[int, ...]] = {}  # shapes of further outputs, which the loss may have terms of
        self.is_small = False  # its optimizer may evaluate the objective itself

    def program(self) -> str:
        kinds = (
            self.of_images,
            self.of_images,
            self.of_signals,
            self.of_sequences,
            self.of_sequences,
            self.of_table,
            self.of_volumes,
            self.of_types,
        )
        vectors = (*[self.of_many_channels] * 4, *[self.of_long_lines] * 3, *[self.of_matrices] * 2)
        kind = self.pick((*kinds, *[self.of_views] * 3, *vectors, self.of_few_numbers))
        kind()
        body = [*self.inputs, *self.body, *self.head()]
        return "\n".join(
            [
                f"# {kind.__name__}",
                _DECLARATIONS,
                "model M {",
                *_indented(body),
                "}",
                "train M {",
                *_indented(self.training()),
                "}\n",
            ]
        )

    # Sequences: x is [batch, time, width]

    def of_sequences(self) -> None:
        time, width = self.pick((1, 2, 3, 5, 8, 9, 12, 16, 33)), self.pick((2, 4, 6, 8, 12, 16, 24, 32))
        if self.chance(0.7):
            self.vocabulary = self.pick((3, 11, 17, 40, 70))
            padded = self.chance(0.5)
            self.mask = ", where = mask" if padded else ""
            padding = " padded by mask" if padded else ""
            self.inputs.append(f"input tokens: i32[batch, {time}] in 0..{self.vocabulary}{padding}")
            self.write(f"embed = embedding({self.vocabulary}, {width}, {self.pick(WEIGHTS)})")
            self.write("x = embed(tokens)", time, width)
        else:
            self.inputs.append(f"input series: f32[batch, {time}, {width}]")
            self.write("x = series", time, width)
        if self.chance(0.5):
            self.then(self.pick(("sinusoidal_positions", f"learned_positions({time})", "dropout(0.2)")))
        attending = (self.encoded, self.encoded, self.attended, self.decoded)
        others = (
            self.tokenwise,
            self.activation,
            self.expression,
            self.of_constants,
            self.related,
            self.in_time,
            lambda: self.around(self.recurrent, self.tokenwise),
        )
        self.stages((*[self.recurrent] * 3, *attending, *others), self.number(1, 3))
        if self.chance(0.5):
            self.pooled()

    def recurrent(self) -> None:
        time, _ = self.shape
        units, drops = self.pick((1, 3, 4, 8, 16, 17, 24)), ""
        if self.chance(0.3):
            drops = f", drop = {self.pick((0.0, 0.2))}, recurrent_drop = {self.pick((0.0, 0.2))}"
        if self.chance(0.2):
            drops += ', masked = "repeat"'
        cells = ("lstm({}{})", "gru({}{})", 'gru({}, reset = "after"{})', "simple_rnn({}{})", "peephole_lstm({}{})")
        cell = self.pick((*cells, "own_scan({})", "own_scan({}, back = true)")).format(units, drops)
        forms = (cell, cell, f"bidirectional({cell})", f'bidirectional({cell}, merge = "sum")', f"stacked({cell}, 2)")
        form = self.pick(forms)
        self.write(f"x = {form}(x{self.mask})", time, 2 * units if form.endswith("))") and "sum" not in form else units)

    def encoded(self) -> None:
        _, width = self.shape
        heads = self.divisor(width)
        rotate = ", rotate = rotary" if width // heads % 2 == 0 and self.chance(0.3) else ""
        settings = f"causal = {self.truth()}, pre_norm = {self.truth()}, activation = {self.pick(ACTIVATIONS[:8])}"
        rest = f"drop = {self.pick((0.0, 0.2))}, bias = {self.truth()}{self.pick(('', ', norm = rms_norm'))}{rotate}"
        self.write(f"x = encoder_block({heads}, {self.width()}, {settings}, {rest})(x{self.mask})")

    def attended(self) -> None:
        time, width = self.shape
        scores = 'score = einsum("b i d, b j d -> b i j", dense(6)(x), dense(6)(x)) / 2'
        if self.chance(0.5):
            self.write(f"x = attention({self.divisor(width)}, causal = {self.truth()})(x, x, x{self.mask})")
        else:
            self.write(f"{scores} - 0.1 * abs(arange({time})[:, None] - arange({time}))")
            if self.chance(0.5):
                self.write(f"score = where(causal_mask({time}, {time}), score, -inf)")
            self.write(f"x = softmax(score{', where = mask[:, None]' if self.mask and self.chance(0.5) else ''}) @ x")

    def decoded(self) -> None:
        memory = ", memory_where = mask" if self.mask else ""
        settings = f"{self.divisor(self.shape[1])}, {self.width()}, pre_norm = {self.truth()}"
        self.write(f"x = decoder_block({settings})(x, dense(7)(x){self.mask}{memory})")

    def tokenwise(self) -> None:
        time, width = self.shape
        units = self.width()
        options = (
            (f"dense({units}, {self.truth()}, {self.pick(WEIGHTS)})", units),
            (f"feed_forward({units}, {self.pick(ACTIVATIONS)})", width),
            (self.pick(("layer_norm", "rms_norm", "dropout(0.2)")), width),
        )
        stage, after = self.pick(options)
        self.then(stage, time, after)

    def in_time(self) -> None:
        time, _ = self.shape
        k = self.number(1, 3)
        convolved = f"conv1d(8, {k}, padding = [[{k - 1}, 0]], dilation = 1)"
        self.then(f'rearrange("b t c -> b c t") |> {convolved} |> rearrange("b c t -> b t c")', time, 8)
        if self.chance(0.5):
            self.write(f"x = cumsum(x, axis = 1) / (arange({time}) + 1)[:, None]")

    def related(self) -> None:
        """How alike any two positions are, in place of what they hold."""
        time, width = self.shape
        self.write(f'x = einsum("b i d, b j d -> b i j", x, x) / {width}', time, time)

    def pooled(self) -> None:
        time, width = self.shape
        where = self.mask
        options = (
            (f"x = mean(x, axis = 1{where})", width),
            ("x = x[:, -1]", width),
            ("x = max(x, axis = 1)", width),
            (f'x = gru(9, output = "last")(x{where})', 9),
            (f"x, _ = bahdanau(5)(x[:, 0], x{where})", width),
            (f'x, _ = luong("concat", 4)(x[:, -1], x{where})', width),
            ("x = flatten(x)", time * width),
        )
        line, after = self.pick(options)
        self.write(line, after)
        self.mask = ""

    # Tables: x is [batch, n]

    def of_table(self) -> None:
        n = self.pick((1, 2, 5, 13, 16, 30, 64, 100))
        self.inputs.append(f"input x: f32[batch, {n}]")
        self.write(f"x = x * {self.pick((1, 0.5))}", n)
        if self.chance(0.3):
            self.inputs.append("input kind: i32[batch, 2] in 0..9")
            self.write("x = concat(x, kind |> embedding(9, 5, normal(std = 0.5)) |> flatten)", n + 10)
        joined = lambda: self.around(self.units, self.units, self.units_norm)  # noqa: E731
        self.stages(
            (
                *[self.units] * 4,
                self.activation,
                self.expression,
                self.of_constants,
                self.units_norm,
                joined,
                self.mixed,
            ),
            self.number(2, 6),
        )

    def of_few_numbers(self) -> None:
        """A smooth model with so few parameters that an optimizer can have all second derivatives."""
        n = self.number(1, 6)
        self.inputs.append(f"input x: f32[batch, {n}]")
        for _ in range(self.number(1, 2)):
            self.shape = (self.number(1, 6),)
            self.then(f"dense({self.shape[0]}) |> {self.pick(('tanh', 'sigmoid', 'softplus', 'swish'))}")
        self.is_small = True

    def units(self) -> None:
        units = self.pick((1, 3, 10, 16, 17, 32, 40, 64, 96, 130, 300))
        self.then(f"dense({units}, {self.truth()}, {self.pick(WEIGHTS)}) |> {self.pick(ACTIVATIONS)}", units)

    def units_norm(self) -> None:
        groups = f"group_norm({self.divisor(self.shape[0])})"
        self.then(self.pick(("layer_norm", "rms_norm", "batch_norm", "dropout(0.5)", "log_softmax", "prelu", groups)))

    def mixed(self) -> None:
        (n,) = self.shape
        half, narrow = n // 2, min(n, 12)
        options = [
            (f"tower = dense({narrow})\nx = tower(x) * tanh(tower(-x))", narrow),
            ('z = x |> dense(6)\nx = flatten(einsum("b i, b j -> b i j", z, z))', 36),
            ('g = softmax(dense(3)(x))\nx = einsum("b e, b e u -> b u", g, reshape(dense(24)(x), batch, 3, 8))', 8),
            ("x = cumsum(x) / 4 + reverse(x, -1)", n),
            (f"x = x[:, ::-1] * x + {self.pick((0.1, 1.5))}", n),
        ]
        if n % 2 == 0:
            options.append(("a, b = split(x, 2)\nx = a * sigmoid(b)", half))
        lines, after = self.pick(options)
        self.body += lines.split("\n")
        self.shape = (after,)

    # The end of the model, and its training

    def head(self) -> list[str]:
        if self.vocabulary and len(self.shape) == 2 and self.chance(0.4):
            width = next(line for line in self.body if line.startswith("embed = ")).split(", ")[1]
            self.shape = (self.shape[0], self.vocabulary)
            return [f"head = dense({width})", "output y = x |> head |> embed"]
        self.shape = (*self.shape[:-1], self.pick((1, 2, 3, 4, 10, 17)))
        return [f"head = dense({self.shape[-1]})", "output y = x |> head", *self.further()]

    def further(self) -> list[str]:
        """More outputs of the same trunk."""
        lines: list[str] = []
        if self.chance(0.3):
            on_y = self.chance(0.5)
            self.others["z"] = self.shape if on_y else (*self.shape[:-1], 2)
            lines.append("output z = tanh(y) * 2" if on_y else "output z = x |> dense(2) |> softplus")
        if self.chance(0.25):
            classes = self.pick((1, 2, 5, 16))
            self.others["w"] = (*self.shape[:-1], classes)
            lines.append(f"output w = x |> dense(7) |> {self.pick(ACTIVATIONS)} |> dense({classes})")
        return lines

    def training(self) -> list[str]:
        *places, classes = self.shape
        where = self.mask if len(self.shape) == 2 else ""
        outer = "".join(f", {n}" for n in places)
        wide = f"target t: f32[batch{outer}, {classes}]"
        regressions = ("mse", "mae", "huber", "hinge", "binary_cross_entropy_with_logits", "perceptron_loss")
        weights = [self.pick((0.5, 1, 2)) for _ in range(classes)]
        scores = ("cross_entropy", "cross_entropy(smoothing = 0.1)", "nll", f"cross_entropy(class_weights = {weights})")
        scored = self.pick(scores)
        losses = [
            (
                f"target t: i32[batch{outer}] in 0..{classes}",
                f"{scored}({'log_softmax(y)' if scored == 'nll' else 'y'}, t{where})",
            ),
            (
                f"target t: {self.pick(('u8', 'i64'))}[batch{outer}] in 0..{classes}",
                f"sparse_categorical_cross_entropy(softmax(y), t{where})",
            ),
            (wide, f"kl_divergence(softmax(y), t{where})"),
            (wide, f"{self.pick(regressions)}(y, t)"),
            (wide, "sum((y - t) ^ 2) / batch"),
        ]
        target, loss = self.pick(losses + losses[:2] * 2)
        if self.chance(0.2):
            loss += f" + {self.pick(('0.1 * mean(y ^ 2)', '0.01 * sum(abs(y)) / batch', '0.1 * max(y)'))}"
        targets = [target]
        for name in self.others:
            loss += self.term(name, targets)
        batch = self.pick((16, 33, 64) if self.is_small else (1, 2, 3, 4, 5, 7, 8, 8, 16, 17, 33, 64))
        lines = [*targets, f"loss = {loss}", f"batch = {batch}", "steps = 5", f"optimizer = {self.pick(_OPTIMIZERS)}"]
        if self.is_small:
            lines[-1] = f"optimizer = {self.pick(_OF_OBJECTIVE)}"
            return [*lines, *["precision = f64"] * self.chance(0.3)]
        if self.chance(0.15):
            lines[-1] = f'optimizer = [{self.pick(_OPTIMIZERS[:4])[:-1]}, on = "head.*"), {self.pick(_OPTIMIZERS)}]'
        for key, options in (("schedule", _SCHEDULES), ("clip", _CLIPS), ("penalty", _PENALTIES)):
            if self.chance(0.3) and not (key == "schedule" and lines[-1] == "optimizer = unrated()"):
                lines.append(f"{key} = {self.pick(options)}")
        if "i32" in target and self.chance(0.5):
            lines.append(f"metrics = [accuracy(y, t{where})]")
        for line in ("ema = 0.9", "accumulate = 2"):
            if self.chance(0.1) and "max" not in loss:
                lines.append(line)
        lines += ["precision = f64"] * self.chance(0.1) + self.freezing("head" not in "".join(lines))
        return [*lines, *(["augment {", *_indented(self.augment), "}"] if self.augment else [])]

    def term(self, output: str, targets: list[str]) -> str:
        """What the loss has of a further output, often with a target of its own."""
        *places, classes = self.others[output]
        where = self.mask if len(self.shape) == 2 else ""
        shape, truth = ", ".join(["batch", *map(str, places)]), f"of_{output}"
        labels, floats = f"target {truth}: i64[{shape}] in 0..{classes}", f"target {truth}: f32[{shape}, {classes}]"
        terms = (
            ("", ""),
            ("", f" + 0.1 * mean({output} ^ 2)"),
            (floats, f" + 0.5 * mse({output}, {truth})"),
            (labels, f" + {self.pick((0.3, 1))} * cross_entropy({output}, {truth}{where})"),
        )
        target, term = self.pick(terms)
        targets += [target] * bool(target)
        return term

    def freezing(self, with_head: bool) -> list[str]:
        frozen = [pattern for pattern in self.frozen if self.chance(0.6)]
        frozen += ["head.W"] * (with_head and self.chance(0.15))
        if not frozen:
            return []
        lines = [f"freeze = [{', '.join(map(_quoted, frozen))}]"]
        return [*lines, f"unfreeze = after(1, {_quoted(self.pick(frozen))})"] if self.chance(0.4) else lines


def _quoted(text: str) -> str:
    return f'"{text}"'


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
