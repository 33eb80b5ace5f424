"""Functions that are written into a model file where an operator needs them, in `.dl`, by their names."""

from runtime.imports.onnx.operators.more_helpers import MORE_HELPERS

HELPERS: dict[str, str] = {
    **MORE_HELPERS,
    "quotient": """
## a / b of integers without the fraction, which `//` rounds down.
fn quotient(a, b) {
    q = a // b
    return where(q < 0 and q * b != a, q + 1, q)
}
""",
    "divided": """
## a / b rounded once, for a result that is rounded to whole numbers: a divisor that many elements share would be
## inverted first.
fn divided(a, b) = a / where(abs(a) >= 0, b, a)
""",
    "remainder": """
## The remainder of a / b with the sign of a.
fn remainder(a, b) = where(a < 0, -(abs(a) % abs(b)), abs(a) % abs(b))
""",
    "power": """
## a to the power of b, also of a negative number where the exponent is whole.
fn power(a, b) {
    size = abs(a) ^ b
    return where(a < 0, where(b == floor(b), where(b % 2 == 0, size, -size), inf - inf), size)
}
""",
    "sign": """
## -1, 0 or 1.
fn sign(x) = where(x > 0, 1, where(x < 0, -1, 0)) + 0 * x
""",
    "thresholded_relu": """
## x where it is above `least`, else 0.
fn thresholded_relu(least: float)(x) = where(x > least, x, 0)
""",
    "shrink": """
## x nearer to 0 by `bias`, and 0 where it is within `least`.
fn shrink(bias: float, least: float)(x) = where(x < -least, x + bias, where(x > least, x - bias, 0))
""",
    "prelu_by": """
## x where it is at least 0, else slope * x.
fn prelu_by(x, slope) = where(x < 0, slope * x, x)
""",
    "shifted_left": """
## The bits of a moved left by n, with zeros behind; nothing stays where n is negative or at least their number.
fn shifted_left(bits: int)(a, n) {
    for i in 0..bits { a = where(n < 0, 0, where(n > i, a + a, a)) }
    return a
}
""",
    "shifted_right": """
## The bits of a moved right by n, its sign before; only the sign stays where n is negative or at least their number.
fn shifted_right(bits: int)(a, n) {
    for i in 0..bits { a = where(n < 0 or n > i, a // 2, a) }
    return a
}
""",
    "bitwise": """
## The bits of two whole numbers joined by "and", "or" or "xor"; a negative number is its two's complement.
fn bitwise(kind: string, bits: int)(a, b) {
    a = cast(a, i64)
    b = cast(b, i64)
    total = 0 * (a + b)
    for i in 0..bits {
        if i < 62 {
            p = a // 2 ^ i % 2
            q = b // 2 ^ i % 2
            weight = 2 ^ i
        } else if i == 62 {
            p = a // 2 ^ 62 % 2
            q = b // 2 ^ 62 % 2
            weight = 2 ^ 62
        } else {
            p = where(a < 0, 1, 0)
            q = where(b < 0, 1, 0)
            weight = -(2 ^ 62)
        }
        if kind == "and" { bit = p * q } else if kind == "or" { bit = p + q - p * q } else { bit = p + q - 2 * p * q }
        total = total + weight * bit
        if i == 63 { total = total + weight * bit }
    }
    return total
}
""",
    "tan": """
fn tan(x) = sin(x) / cos(x)
""",
    "sinh": """
fn sinh(x) = (expm1(x) - expm1(-x)) / 2
""",
    "cosh": """
fn cosh(x) = (exp(x) + exp(-x)) / 2
""",
    "asinh": """
fn asinh(x) {
    size = abs(x)
    y = log1p(size + size * size / (1 + sqrt(size * size + 1)))
    return where(x < 0, -y, y)
}
""",
    "acosh": """
fn acosh(x) = log1p(x - 1 + sqrt((x - 1) * (x + 1)))
""",
    "atanh": """
fn atanh(x) = (log1p(x) - log1p(-x)) / 2
""",
    "atan": """
## The angle whose tangent is x: halved twice, then the series of small angles.
fn atan(x) {
    size = abs(x)
    t = where(size > 1, 1 / where(size > 1, size, 1), size)
    for _ in 0..2 { t = t / (1 + sqrt(1 + t * t)) }
    s = t * t
    y = 4 * t * (1 - s * (1 / 3 - s * (1 / 5 - s * (1 / 7 - s * (1 / 9 - s / 11)))))
    y = where(size > 1, pi / 2 - y, y)
    return where(x < 0, -y, y)
}
""",
    "asin": """
## The angle whose sine is x.
fn asin(x) = 2 * atan(x / (1 + sqrt((1 - x) * (1 + x))))
""",
    "acos": """
## The angle whose cosine is x.
fn acos(x) = 2 * atan(sqrt((1 - x) / (1 + x)))
""",
    "product": """
## The product along the last axis.
fn product(x) {
    y = x[..., 0]
    for i in 1..extent(x, -1) { y = y * x[..., i] }
    return y
}
""",
    "running_product": """
## The products of all elements up to each, along the last axis.
fn running_product(x) {
    y = x[..., 0:1]
    parts = [y]
    for i in 1..extent(x, -1) {
        y = y * x[..., i:i + 1]
        parts = parts + [y]
    }
    return concat(parts, axis = -1)
}
""",
    "counted_from_end": """
## Indices in 0..n, of which negative ones counted from the end.
fn counted_from_end(n: int)(index) = where(index < 0, index + n, index)
""",
    "taken_along": """
## The elements along the last axis at the places that `index` gives for each.
fn taken_along(x, index) {
    n = extent(x, -1)
    hit = where(index < 0, index + n, index)[..., None] == arange(n)
    return sum(where(hit, x[..., None, :], 0), axis = -1)
}
""",
    "scattered": """
## x with elements along the last axis replaced, one after another, at the places `index`: by the updates, or by what
## `kind` makes of both.
fn scattered(kind: string)(x, index, updates) {
    n = extent(x, -1)
    for k in 0..extent(updates, -1) {
        at = index[..., k:k + 1]
        new = updates[..., k:k + 1]
        if kind == "add" { new = x + new }
        if kind == "mul" { new = x * new }
        if kind == "max" { new = max(x, new) }
        if kind == "min" { new = min(x, new) }
        x = where(where(at < 0, at + n, at) == arange(n), new, x)
    }
    return x
}
""",
    "ranked": """
## The place of each element in the order of the last axis, from the largest; equal ones in their own order.
fn ranked(x) {
    n = extent(x, -1)
    before = arange(n)[None, :] < arange(n)[:, None]
    other = x[..., None, :]
    own = x[..., :, None]
    return sum(where(other > own or (other == own and before), 1, 0), axis = -1)
}
""",
    "first_ranked": """
## Elements in the order of their ranks along the last axis, the first k.
fn first_ranked(k: int)(x, rank) = sum(where(rank[..., None, :] == arange(k)[:, None], x[..., None, :], 0), axis = -1)
""",
    "determinant1": """
fn determinant1(a) = a[..., 0, 0]
""",
    "determinant2": """
## The determinant of 2 × 2 matrices.
fn determinant2(a) = a[..., 0, 0] * a[..., 1, 1] - a[..., 0, 1] * a[..., 1, 0]
""",
    "determinant3": """
## The determinant of 3 × 3 matrices.
fn determinant3(a) {
    p = a[..., 0, 0] * (a[..., 1, 1] * a[..., 2, 2] - a[..., 1, 2] * a[..., 2, 1])
    q = a[..., 0, 1] * (a[..., 1, 0] * a[..., 2, 2] - a[..., 1, 2] * a[..., 2, 0])
    return p - q + a[..., 0, 2] * (a[..., 1, 0] * a[..., 2, 1] - a[..., 1, 1] * a[..., 2, 0])
}
""",
    "rnn_by": """
## An RNN with weights as ONNX has them: x [time, batch, n], W [units, n], U [units, units], both biases in b.
fn rnn_by(x: [time, rows, n], W, U, b, h) {
    units = extent(U, -1)
    hs, h = scan xt in x over time carry h = h {
        h = tanh(xt @ W.T + h @ U.T + b[0:units] + b[units:])
        emit h
    }
    return hs, h
}
""",
    "gru_by": """
## A GRU with weights as ONNX has them: rows of W and U, and both biases in b, are those of the gates z, r and the new
## part. With `after`, the gate r acts on the product with U.
fn gru_by(after: bool)(x: [time, rows, n], W, U, b, h) {
    units = extent(U, -1)
    c = b[0:3 * units]
    d = b[3 * units:]
    hs, h = scan xt in x over time carry h = h {
        a = xt @ W.T + c
        gates = sigmoid(a[:, 0:2 * units] + h @ U[0:2 * units].T + d[0:2 * units])
        z, r = split(gates, 2)
        if after {
            new = tanh(a[:, 2 * units:] + r * (h @ U[2 * units:].T + d[2 * units:]))
        } else {
            new = tanh(a[:, 2 * units:] + (r * h) @ U[2 * units:].T + d[2 * units:])
        }
        h = (1 - z) * new + z * h
        emit h
    }
    return hs, h
}
""",
    "lstm_by": """
## An LSTM with weights as ONNX has them: rows of W and U, and both biases in b, are those of the gates i, o, f and the
## new part; p has the weights of the memory in i, o and f.
fn lstm_by(x: [time, rows, n], W, U, b, h, c, p) {
    units = extent(U, -1)
    hs, h, c = scan xt in x over time carry h = h, c = c {
        i, o, f, g = split(xt @ W.T + h @ U.T + b[0:4 * units] + b[4 * units:], 4)
        old = c
        c = sigmoid(f + p[2 * units:] * old) * old + sigmoid(i + p[0:units] * old) * tanh(g)
        h = sigmoid(o + p[units:2 * units] * c) * tanh(c)
        emit h
    }
    return hs, h, c
}
""",
    "grid_place": """
## Places in pixels along an axis of `size` for places from -1 to 1: the ends are centres of pixels with `corners`, else
## their borders. Beyond them, "border" takes the last pixel, and "reflection" mirrors.
fn grid_place(size: int, corners: bool, padding: string, nearest: bool)(g) {
    if corners { p = (g + 1) / 2 * (size - 1) } else { p = ((g + 1) * size - 1) / 2 }
    if nearest { p = round(p) }
    if padding == "border" { p = min(max(p, 0), size - 1) }
    if padding == "reflection" {
        if corners { low = 0.0 } else { low = -0.5 }
        length = size - 1 - 2 * low
        if length > 0 {
            t = abs(p - low) % (2 * length)
            p = low + where(t > length, 2 * length - t, t)
        } else {
            p = 0 * p
        }
    }
    return p
}
""",
    "grid_weight": """
## The weight of a pixel at a distance d from the sample, of 1, 2 or 4 along an axis; the outer two of 4 are beyond 1.
fn grid_weight(taps: int, outer: bool)(d) {
    if taps == 1 {
        w = 1 + 0 * d
    } else if taps == 2 {
        w = 1 - d
    } else if outer {
        w = ((-0.75 * d + 3.75) * d - 6) * d + 3
    } else {
        w = (1.25 * d - 2.25) * d * d + 1
    }
    return w
}
""",
    "grid_sampled": """
## x [rows, channels, pixels] with axes of `sizes` at places from -1 to 1 in grid [rows, points, axes], the last axis
## first: sums of 1, 2 or 4 pixels along each axis.
fn grid_sampled(sizes, taps: int, padding: string, corners: bool)(x, grid) {
    n = len(sizes)
    total = 0
    for k in 0..taps ^ n {
        at = 0
        weight = 1
        for d in 0..n {
            size = sizes[d]
            p = grid_place(size, corners, padding, taps == 1)(grid[..., n - 1 - d])
            j = k // taps ^ d % taps
            q = floor(p) + j - where(taps == 4, 1, 0)
            w = grid_weight(taps, j == 0 or j == 3)(abs(p - q))
            if padding == "zeros" { w = where(q >= 0 and q <= size - 1, w, 0) }
            at = at * size + cast(min(max(q, 0), size - 1), i32)
            weight = weight * w
        }
        total = total + gather(x, at, axis = 2) * weight[:, None, :]
    }
    return total
}
""",
    "only_row": """
## The tensor of the only row: in the ONNX model, its first axis does not count rows.
fn only_row(x) = max(x, axis = 0)
""",
    "only_row_of_booleans": """
## As `only_row`, of booleans.
fn only_row_of_booleans(x) = any(x, axis = 0)
""",
}

# Helpers that others call.
NEEDS: dict[str, tuple[str, ...]] = {
    "asin": ("atan",),
    "acos": ("atan",),
    "grid_sampled": ("grid_place", "grid_weight"),
}

_COUNTED = "how many elements stay depends on the data: keep a mask, and use `where`"
_BEHIND = "how many elements stay depends on the data: leave it to the program behind the model"
_HOW: dict[str, str] = {
    "Unique": _BEHIND,
    "NonZero": _COUNTED,
    "Compress": _COUNTED,
    "StringNormalizer": "a program of .dl has no texts: prepare them before the model",
    "ImageDecoder": "give the decoded image: `dlc predict --input photo.png` reads one",
}


def how_to_write(operator: str) -> str:
    """What to do about an operator that has no text."""
    return _HOW.get(operator, "write it with other operators, or as a `fn` in the model file")
