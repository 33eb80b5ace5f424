"""Random bodies of models of images, [batch, c, h, w], and of signals, [batch, c, n]."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from model_writer import WEIGHTS
from random_views import ViewWriter


class ImageWriter(ViewWriter):
    """Stages of `x` that keep it an image or a signal; at the end it is [batch, n]."""

    def of_images(self) -> None:
        c, h, w = self.pick((1, 3, 3, 4, 16)), self.number(4, 12), self.number(4, 12)
        if self.chance(0.4):
            self.inputs.append(f"input image: u8[batch, {c}, {h}, {w}]")
            self.write("x = image / 255", c, h, w)
        else:
            self.inputs.append(f"input image: f32[batch, {c}, {h}, {w}]")
            self.write("x = image", c, h, w)
        if self.chance(0.3):
            options = ("random_flip", "random_crop(padding = 2)", "cutout(size = 3)", "random_translation(0.2)")
            more = (
                "random_rotation",
                "random_scale",
                "gaussian_noise(0.1)",
                "color_jitter" if c == 3 else "random_flip",
            )
            self.augment.append(
                f"image = image |> {' |> '.join(self.random.sample(options + more, self.number(1, 2)))}"
            )
        self.filtered(self.number(1, 4))

    def of_signals(self) -> None:
        c, n = self.number(1, 6), self.pick((5, 9, 16, 20, 33, 70))
        self.inputs.append(f"input signal: f32[batch, {c}, {n}]")
        self.write("x = signal", c, n)
        self.filtered(self.number(1, 4))

    def of_volumes(self) -> None:
        """Images over time: [batch, c, d, h, w]."""
        c, d, h, w = self.number(1, 4), self.number(2, 5), self.number(3, 6), self.number(3, 6)
        self.inputs.append(f"input volume: f32[batch, {c}, {d}, {h}, {w}]")
        self.write("x = volume", c, d, h, w)
        norms = lambda: self.then(self.pick(("batch_norm", "batch_norm(unbiased = true)", "prelu", "layer_norm")))  # noqa: E731
        plain = (*[self.convolution] * 4, *[self.pool] * 3, self.activation, norms, self.adapted, self.upsampled)
        joined = lambda: self.around(self.same_convolution, self.seen_otherwise)  # noqa: E731
        self.stages((*plain, self.expression, self.of_constants, joined), self.number(1, 3))
        self.then(self.pick(("flatten", "global_average_pool", "global_max_pool")))
        self.shape = (prod(self.shape) if self.body[-1].endswith("flatten") else self.shape[0],)

    def seen_otherwise(self) -> None:
        """Windows over what are the channels elsewhere."""
        c, *spatial = self.shape
        size, stride = [self.number(1, n) for n in (c, *spatial)], [self.number(1, 2) for _ in self.shape]
        ones = ", ".join(["None"] * len(self.shape))
        name = f"v{len(self.body)}"
        if len(spatial) < 3 and self.chance(0.6):
            kind = self.pick(("max_pool", "avg_pool"))
            self.write(f"{name} = {kind}({size}, stride = {stride})(x[:, None])")
        else:
            letters = "h w d"[: 2 * len(spatial) - 1]
            turned = f'rearrange("b c {letters} -> b {letters.split()[0]} c {letters[2:]}")'.replace(' ")', '")')
            kernel = self.number(1, min(c, *spatial))
            self.write(f"{name} = x |> {turned} |> conv{len(spatial)}d(3, {kernel})")
        self.write(f"x = x + mean({name}, axis = except(batch))[:, {ones}]")

    def filtered(self, count: int) -> None:
        plain = (*[self.convolution] * 5, *[self.activation] * 3, *[self.pool] * 3, *[self.norm] * 3)
        moves = (
            self.transposed,
            self.upsampled,
            self.adapted,
            self.moved,
            self.moved,
            self.dropped,
            self.expression,
            self.expression,
            self.by_pixel,
            self.of_constants,
            self.seen_otherwise,
            self.seen_otherwise,
        )
        blocks = (self.block, self.block, self.depthwise, self.frozen_norm) if len(self.shape) == 3 else ()
        joined = lambda: self.around(self.convolution, self.norm, self.same_convolution, self.same_convolution)  # noqa: E731
        self.stages((*plain, *moves, *blocks, joined, joined, self.pixels_attend), count)
        self.then(self.pick(("flatten", "global_average_pool", "global_max_pool")))
        self.shape = (prod(self.shape) if self.body[-1].endswith("flatten") else self.shape[0],)

    def sides(self, spans: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
        """A padding, as text and as widths."""
        kind = self.pick(("none", "same", "valid", "all", "each"))
        if kind == "same":
            return '"same"', [((s - 1) // 2, s - 1 - (s - 1) // 2) for s in spans]
        if kind == "valid":
            return '"valid"', [(0, 0) for _ in spans]
        if kind == "each":
            widths = [(self.number(0, 2), self.number(0, 1)) for _ in spans]
            return str([[*w] for w in widths]), widths
        width = 0 if kind == "none" else self.number(1, 2)
        return str(width), [(width, width) for _ in spans]

    def window(self, most: int = 3) -> tuple[list[int], list[int], list[int]]:
        """Sizes, strides and dilations."""
        count = len(self.shape) - 1
        each = ([self.number(1, most)] * count, [self.pick((1, 1, 1, 2, 3))] * count, [self.pick((1, 1, 2))] * count)
        return each if self.chance(0.7) else tuple([self.number(1, top) for _ in range(count)] for top in (most, 3, 2))  # type: ignore[return-value]

    def convolution(self) -> None:
        c, *spatial = self.shape
        channels, (sizes, strides, dilations) = self.channels(), self.window()
        spans = [d * (k - 1) + 1 for d, k in zip(dilations, sizes, strict=True)]
        text, widths = self.sides(spans)
        mode = self.pick(("zeros", "zeros", "zeros", "reflect", "replicate"))
        if mode == "reflect" and any(max(w) >= n for w, n in zip(widths, spatial, strict=True)):
            mode = "zeros"
        each = zip(spatial, widths, spans, strides, strict=True)
        after = [(n + sum(w) - span) // s + 1 if n + sum(w) >= span else 0 for n, w, span, s in each]
        settings = f"{_each(sizes)}, {_each(strides)}, {text}, {_each(dilations)}, groups = {self.divisor(c, channels)}"
        rest = f'bias = {self.truth()}, mode = "{mode}", weights = {self.pick(WEIGHTS)}'
        self.then(f"conv{len(spatial)}d({channels}, {settings}, {rest})", channels, *after)

    def same_convolution(self) -> None:
        c, *spatial = self.shape
        self.then(f'conv{len(spatial)}d({c}, {self.pick((1, 3))}, padding = "same", groups = {self.divisor(c)})')
        self.activation()

    def depthwise(self) -> None:
        c, *spatial = self.shape
        k, s, times = self.number(1, 3), self.pick((1, 1, 2)), self.pick((1, 1, 2))
        after = [(n + 2 - k) // s + 1 for n in spatial]
        if self.chance(0.5):
            self.then(f"depthwise_conv2d({k}, {s}, 1, multiplier = {times})", times * c, *after)
        else:
            channels = self.channels()
            self.then(f"separable_conv2d({channels}, {k}, {s}, 1, multiplier = {times})", channels, *after)

    def transposed(self) -> None:
        c, *spatial = self.shape
        k, s, d, p, channels = (
            self.number(1, 4),
            self.number(1, 3),
            self.pick((1, 1, 2)),
            self.number(0, 1),
            self.channels(),
        )
        further = self.number(0, s - 1)
        after = [(n - 1) * s + d * (k - 1) + 1 + further - 2 * p for n in spatial]
        settings = f"{channels}, {k}, {s}, {p}, {further}, {d}, groups = {self.divisor(c, channels)}"
        self.then(f"conv_transpose{len(spatial)}d({settings})", channels, *after)

    def pool(self) -> None:
        c, *spatial = self.shape
        k, s = self.number(1, 3), self.number(1, 3)
        apart = self.pick((1, 1, 1, 2)) if min(spatial) > 1 else 1
        span = apart * (k - 1) + 1
        p, ceil = self.number(0, min(span - 1, 2)), self.chance(0.3)
        after = [(n + 2 * p - span) // s + 1 for n in spatial]
        if ceil:
            after = [min((n + 2 * p - span + s - 1) // s, (n + p - 1) // s) + 1 for n in spatial]
        if any(n + 2 * p < span for n in spatial):
            return
        rest = f"dilation = {apart}"
        settings = f"{k}, {s}, {p}, {str(ceil).lower()}"
        kinds = (
            f"max_pool({settings}, {rest})",
            f"avg_pool({settings}, {rest})",
            f"avg_pool({settings}, count_padding = false, {rest})",
        )
        self.then(self.pick(kinds), c, *after)

    def adapted(self) -> None:
        c, *spatial = self.shape
        after = [self.number(1, min(n, 4)) for n in spatial]
        self.then(f"adaptive_{self.pick(('average', 'max'))}_pool({_each(after)})", c, *after)

    def upsampled(self) -> None:
        c, *spatial = self.shape
        times = [self.number(1, 3) for _ in spatial]
        after = [t * n for t, n in zip(times, spatial, strict=True)]
        self.then(f'upsample({_each(times)}, "{self.pick(("nearest", "linear"))}")', c, *after)

    def norm(self) -> None:
        groups = f"group_norm({self.divisor(self.shape[0])})"
        self.then(self.pick(("batch_norm", "batch_norm(momentum = 0.5)", groups, "layer_norm", "rms_norm", "prelu")))

    def frozen_norm(self) -> None:
        """A normalisation that may keep its averages in training too."""
        self.frozen.append(f"norm{len(self.body)}.*")
        self.write(f"norm{len(self.body)} = batch_norm")
        self.write(f"x = norm{len(self.body) - 1}(x)")

    def dropped(self) -> None:
        self.then(self.pick(("dropout(0.3)", "spatial_dropout(0.2)", "stochastic_depth(0.3)")))

    def moved(self) -> None:
        """Axes split, merged, turned, cut and framed."""
        c, h, *rest = self.shape
        a, b = ("h w", " w") if rest else ("h", "")
        g, p = self.divisor(c), self.divisor(h)
        options = (
            (f'rearrange("b (g c) {a} -> b (c g) {a}", g = {g})', self.shape),
            (f'rearrange("b c (h p){b} -> b (p c) h{b}", p = {p})', (p * c, h // p, *rest)),
            (f'rearrange("b (p c) {a} -> b c (h p){b}", p = {g})', (c // g, h * g, *rest)),
            ("reverse(2)", self.shape),
            (f"pad({self.number(0, 2)}, 1, axis = 2, value = 0.5)", None),
            ("cumsum(axis = 2)", self.shape),
            ('rearrange("b c h w -> b c w h")', (c, *rest, h)),
        )
        stage, shape = self.pick(options if rest else options[:-1])
        if shape is None:
            shape = (c, h + 1 + int(stage[4]), *rest)
        self.then(stage, *shape)
        if self.chance(0.3) and self.shape[1] > 2:
            self.write(f"x = x[:, :, {self.pick((':-1', '1:'))}]", self.shape[0], self.shape[1] - 1, *self.shape[2:])

    def by_pixel(self) -> None:
        """A product for each pixel, with the channels last."""
        _, *spatial = self.shape
        axes, units = ("n", "h w")[len(spatial) - 1], self.channels()
        self.then(f'rearrange("b c {axes} -> b {axes} c") |> dense({units}) |> rearrange("b {axes} c -> b c {axes}")')
        self.shape = (units, *spatial)

    def block(self) -> None:
        c, h, w = self.shape
        channels, stride = self.channels(), self.pick((1, 1, 2))
        after = (-(-h // stride), -(-w // stride))
        odd = "true" if channels < c else self.truth()
        options = (
            (f"residual({channels}, {stride}, {odd})", (channels, *after)),
            (f"bottleneck({channels}, {stride}, expansion = 2)", (2 * channels, *after)),
            (f"mbconv({channels}, 3, {stride}, expansion = {self.pick((1, 2, 3))}, drop = 0.2)", (channels, *after)),
            (f"conv_norm({channels}, {self.pick((1, 3))}, {stride}, activation = swish)", (channels, *after)),
            ("inception(2, 1, 3, 2, 1, 2)", (8, h, w)),
            (f"squeeze_excitation({self.number(1, 4)})", self.shape),
        )
        stage, shape = self.pick(options)
        self.then(stage, *shape)

    def pixels_attend(self) -> None:
        if prod(self.shape[1:]) > 50:
            return
        c, *spatial = self.shape
        names, sizes = ("(h w)", f", h = {spatial[0]}") if len(spatial) == 2 else ("h", "")
        axes = names.strip("()")
        self.then(f'rearrange("b c {axes} -> b {names} c")')
        self.then(f"encoder_block({self.divisor(c)}, {self.width()}, drop = {self.pick((0.0, 0.2))})")
        self.then(f'rearrange("b {names} c -> b c {axes}"{sizes})')


def _each(numbers: Sequence[int]) -> str:
    """A setting for all axes."""
    return str(numbers[0]) if len({*numbers}) == 1 else str([*numbers])
