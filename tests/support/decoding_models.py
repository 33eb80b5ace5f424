"""Small models that decode sequences, one for each way in which a position may depend on those before."""

from __future__ import annotations

_HEAD = "    input tokens: i32[batch, 8] in 0..11\n    x = tokens |> embedding(11, 12)\n"


def _model(body: str, before: str = "", inputs: str = "", way: str = "greedy") -> str:
    lines = "".join(f"    {line}\n" for line in body.strip().split("\n"))
    return (
        f"{before}\nmodel M {{\n{inputs}{_HEAD}{lines}    output logits = x |> dense(11)\n}}\n\n"
        f"generate M {{\n    feed tokens from logits\n    length = 12\n    sample = {way}\n}}\n"
    )


_RECURRENT = """
layer recurrent(units: int)(x: [batch, time, n]) -> [batch, time, units] {
    param W: [n, units] = glorot_uniform
    param U: [units, units] = orthogonal
    hs, h, c = scan xt in x over time carry h = zeros(batch, units), c = ones(batch, units) {
        h = tanh(xt @ W + h @ U)
        c = 0.5 * c + h
        emit c
    }
    return hs
}
"""

_AVERAGES = """
## Means over the positions so far, by a matrix of weights that are 0 above the diagonal.
fn mean_so_far(x: [batch, time, n]) {
    earlier = arange(time)[:, None] >= arange(time)
    weights = where(earlier, 1.0, 0.0)
    return (weights / sum(weights, axis = -1, keepdims = true)) @ x
}

## The same for weights that are learnt.
layer mixed(x: [batch, time, n]) {
    param w: [time, time] = normal(1.0)
    return softmax(where(arange(time)[:, None] >= arange(time), w, -inf)) @ x
}
"""

_DECODER = """
layer attending(units: int)(x: [batch, time, n], hs: [batch, j, e], start: [batch, units]) -> [batch, time, units] {
    cell = gru_cell(units)
    attend = bahdanau(units)
    out, h = scan xt in x over time carry h = start {
        context, _ = attend(h, hs)
        h = cell(concat(xt, context), h)
        emit h
    }
    return out
}
"""

_SOURCE = "    input source: i32[batch, 5] in 0..7 padded by seen\n"

CAUSAL = {
    "each by itself": _model("x = x |> dense(12) |> gelu |> layer_norm"),
    "learned positions": _model("x = x |> learned_positions(20)\nx = attention(2, causal = true)(x, x, x)"),
    "pre-norm blocks": _model(
        "for _ in 0..2 { x = x |> encoder_block(2, 24, causal = true, pre_norm = true, drop = 0.1) }\nx = layer_norm(x)"
    ),
    "rotary positions": _model("x = x |> encoder_block(2, 24, causal = true, rotate = rotary(halves = true))"),
    "sinusoidal positions": _model("x = x |> sinusoidal_positions |> encoder_block(3, 24, causal = true)"),
    "a window of keys": _model(
        "near = arange(8)[:, None] - arange(8)\n"
        "score = where((near >= 0) and (near < 3), x @ x.T, -inf)\nx = softmax(score) @ x"
    ),
    "a padding mask": _model("x = attention(2, causal = true)(x, x, x, where = seen)").replace(
        "in 0..11", "in 0..11 padded by seen"
    ),
    "weights of positions": _model("x = mean_so_far(x) + mixed(x)", _AVERAGES),
    "running sums": _model("x = x + cumsum(x, axis = 1) / (1 + arange(8)[:, None])"),
    "the token before": _model("x = x + dense(12)(concat(zeros(batch, 1, 12), x[:, :-1], axis = 1))"),
    "the first token": _model("x = x + dense(12)(x[:, 0])[:, None]"),
    "convolutions": _model(
        "y = transpose(x, 0, 2, 1) |> pad(4, 0, axis = 2) |> conv1d(12, 3, dilation = 2) |> tanh\n"
        "x = x + transpose(y, 0, 2, 1)"
    ),
    "recurrences": _model("x = x |> recurrent(10) |> recurrent(12)", _RECURRENT),
    "a recurrence under attention": _model("x = x |> recurrent(12) |> encoder_block(2, 24, causal = true)", _RECURRENT),
    "recurrent layers": _model("x = x |> gru(12) |> stacked(lstm(12), 2, residual = true)"),
    "a decoder with attention": _model(
        "hs = source |> embedding(7, 12) |> bidirectional(gru(6))\nx = attending(12)(x, hs, tanh(dense(12)(hs[:, 0])))",
        _DECODER,
        _SOURCE,
    ),
    "an encoder": _model(
        "memory = source |> embedding(7, 12) |> sinusoidal_positions\n"
        "memory = encoder_block(2, 24)(memory, where = seen)\n"
        "x = x |> sinusoidal_positions\n"
        "x = decoder_block(2, 24)(x, memory, memory_where = seen)",
        inputs=_SOURCE,
    ),
}

# The body, and the line of the message's note.
NOT_CAUSAL = {
    "attention without a mask": ("x = attention(2)(x, x, x)", "x = attention(2)(x, x, x)"),
    "a mask of finite numbers": (
        "score = where(arange(8)[:, None] >= arange(8), x @ x.T, -1000.0)\nx = softmax(score) @ x",
        "x = softmax(score) @ x",
    ),
    "a mask that lets the next key through": (
        "score = where(arange(8)[:, None] + 1 >= arange(8), x @ x.T, -inf)\nx = softmax(score) @ x",
        "x = softmax(score) @ x",
    ),
    "a mean over time": ("x = x + mean(x, axis = 1)[:, None]", "x = x + mean(x, axis = 1)[:, None]"),
    "the last token": ("x = x + x[:, -1][:, None]", "x = x + x[:, -1][:, None]"),
    "the token after": (
        "x = concat(x[:, 1:], zeros(batch, 1, 12), axis = 1)",
        "x = concat(x[:, 1:], zeros(batch, 1, 12), axis = 1)",
    ),
    "the other direction": ("x = x + reverse(x, 1)", "x = x + reverse(x, 1)"),
    "sums from behind": ("x = reverse(cumsum(reverse(x, 1), axis = 1), 1)", "cumsum(reverse(x, 1), axis = 1)"),
    "a convolution of both sides": (
        "y = transpose(x, 0, 2, 1) |> conv1d(12, 3, padding = 1)\nx = x + transpose(y, 0, 2, 1)",
        "y = transpose(x, 0, 2, 1) |> conv1d(12, 3, padding = 1)",
    ),
    "a scan from behind": (
        "x, h = scan xt in x over 1 reverse = true carry h = zeros(batch, 12) {\n    h = 0.5 * h + xt\n    emit h\n}",
        "x, h = scan xt in x over 1 reverse = true",
    ),
    "the end of a scan": (
        "hs, h = scan xt in x over 1 carry h = zeros(batch, 12) {\n    h = 0.5 * h + xt\n    emit h\n}\n"
        "x = hs + h[:, None]",
        "hs, h = scan xt in x over 1",
    ),
}


def not_causal(body: str) -> str:
    return _model(body)


def decoding(name: str, way: str = "greedy") -> str:
    return CAUSAL[name].replace("sample = greedy", f"sample = {way}")
