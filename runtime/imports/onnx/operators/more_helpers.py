"""Functions in `.dl` of operators on images, boxes and bits, by their names."""

MORE_HELPERS: dict[str, str] = {
    "bits_of": """
## The bits of x as a whole number (IEEE 754), by the widths of exponent and fraction. Every NaN has those of
## the usual one.
fn bits_of(exponent: int, fraction: int)(x) {
    bias = 2 ^ (exponent - 1) - 1
    m = cast(abs(x), f64)
    finite = m < inf
    m = where(finite, m, 1.0)
    tiny = m * 2.0 ^ (bias - 1) * 2.0 ^ fraction
    e = 0.0 * m
    for i in 0..exponent {
        k = 2 ^ (exponent - 1 - i)
        large = m >= 2.0 ^ min(k, bias)
        m = where(large, m * 2.0 ^ -min(k, bias), m)
        e = where(large, e + min(k, bias), e)
    }
    for i in 0..exponent {
        k = 2 ^ (exponent - 1 - i)
        small = m < 2.0 ^ (1 - min(k, bias))
        m = where(small, m * 2.0 ^ min(k, bias), m)
        e = where(small, e - min(k, bias), e)
    }
    whole = (cast(e, i64) + bias) * 2 ^ fraction + cast((m - 1) * 2.0 ^ fraction, i64)
    whole = where(cast(e, i64) > -bias, whole, cast(tiny, i64))
    infinite = (2 ^ exponent - 1) * 2 ^ fraction
    whole = where(x == x, where(finite, whole, infinite), infinite + 2 ^ (fraction - 1))
    half = 2 ^ (exponent + fraction - 1)
    return where(x < 0 or (x == 0 and 1 / x < 0), whole - half - half, whole)
}
""",
    "float_of_bits": """
## The number that has the bits of a whole number (IEEE 754), by the widths of exponent and fraction.
fn float_of_bits(exponent: int, fraction: int)(bits) {
    half = 2 ^ (exponent + fraction - 1)
    bias = 2 ^ (exponent - 1) - 1
    whole = cast(bits, i64)
    whole = where(whole < 0, whole + half + half, whole)
    e = whole // 2 ^ fraction
    m = cast(whole % 2 ^ fraction, f64)
    m = where(e > 0, m + 2.0 ^ fraction, m)
    # m * 2 ^ (e - bias - fraction) in two halves, neither of which leaves the range
    steps = max(e, 1) - 1
    low = steps // 2
    high = steps - low
    least = (bias + fraction - 1) // 2
    m = m * 2.0 ^ -least
    for i in 0..exponent - 1 { m = where(low // 2 ^ i % 2 == 1, m * 2.0 ^ 2 ^ i, m) }
    m = m * 2.0 ^ -(bias + fraction - 1 - least)
    for i in 0..exponent - 1 { m = where(high // 2 ^ i % 2 == 1, m * 2.0 ^ 2 ^ i, m) }
    last = 2 ^ exponent - 1
    m = where(e == last, where(whole % 2 ^ fraction == 0, inf, inf - inf), m)
    return where(bits < 0, -m, m)
}
""",
    "gram_counts": """
## How often each row of `grams` stands in x along its last axis, with 0 to `skips` elements left out between two.
fn gram_counts(n: int, skips: int)(x, grams) {
    length = extent(x, -1)
    total = 0
    for s in 1..skips + 2 {
        if (n - 1) * s < length {
            hit = x[..., 0:length - (n - 1) * s, None] == grams[:, 0]
            for k in 1..n { hit = hit and x[..., k * s:length - (n - 1 - k) * s, None] == grams[:, k] }
            total = total + sum(where(hit, 1, 0), axis = -2)
        }
    }
    return total
}
""",
    "between_pixels": """
## Numbers between the pixels of images [rows, channels, h * w], at places y and x in pixels, [rows, points]; 0 outside.
fn between_pixels(h: int, w: int)(image, y, x) {
    total = 0
    for k in 0..4 {
        p = floor(y) + k // 2
        q = floor(x) + k % 2
        weight = (1 - abs(y - p)) * (1 - abs(x - q))
        inside = p >= 0 and p <= h - 1 and q >= 0 and q <= w - 1
        at = cast(min(max(p, 0), h - 1), i32) * w + cast(min(max(q, 0), w - 1), i32)
        total = total + gather(image, at, axis = 2) * where(inside, weight, 0)[:, None, :]
    }
    return total
}
""",
    "moved_taps": """
## Pixels under the taps of a convolution that `offset` moves, times the mask: [rows, channels, taps, points].
fn moved_taps(groups: int, kernel, stride, pad, dilation)(
    image: [rows, c, h, w], offset: [rows, moves, ph, pw], mask: [rows, taps, ph, pw] = none
) {
    n = kernel[0] * kernel[1]
    pixels = reshape(image, rows, c, h * w)
    parts = []
    for g in 0..groups {
        own = pixels[:, g * c // groups:(g + 1) * c // groups]
        for t in 0..n {
            at = 2 * (g * n + t)
            y = offset[:, at] + (arange(ph) * stride[0] - pad[0] + t // kernel[1] * dilation[0])[:, None]
            x = offset[:, at + 1] + (arange(pw) * stride[1] - pad[1] + t % kernel[1] * dilation[1])
            found = between_pixels(h, w)(own, reshape(y, rows, ph * pw), reshape(x, rows, ph * pw))
            if mask != none { found = found * reshape(mask[:, g * n + t], rows, 1, ph * pw) }
            parts = parts + [found]
        }
    }
    found = concat(parts, axis = 1)
    return rearrange(found, "b (g t c) p -> b (g c) t p", g = groups, t = n)
}
""",
    "aligned_regions": """
## Pixels of images [regions, channels, h, w] in boxes [regions, 4] of x, y of two corners: of each of `rows` *
## `columns` cells the mean, or the largest weighted pixel, of `samples` * `samples` places.
fn aligned_regions(rows: int, columns: int, samples: int, scale: float, half: bool, largest: bool)(
    image: [regions, c, h, w], box: [regions, 4]
) {
    start = box[:, 0:2] * scale
    size = box[:, 2:4] * scale - start
    if half { start = start - 0.5 } else { size = max(size, 1.0) }
    y = start[:, 1:2] + size[:, 1:2] * ((arange(rows * samples) + 0.5) / (rows * samples))
    x = start[:, 0:1] + size[:, 0:1] * ((arange(columns * samples) + 0.5) / (columns * samples))
    inside = (y >= -1 and y <= h)[:, :, None] and (x >= -1 and x <= w)[:, None, :]
    y = min(max(y, 0), h - 1)
    x = min(max(x, 0), w - 1)
    pixels = reshape(image, regions, c, h * w)
    parts = []
    for k in 0..4 {
        p = min(floor(y) + k // 2, h - 1)
        q = min(floor(x) + k % 2, w - 1)
        at = cast(p, i32)[:, :, None] * w + cast(q, i32)[:, None, :]
        if k // 2 == 0 { a = 1 - (y - floor(y)) } else { a = y - floor(y) }
        if k % 2 == 0 { b = 1 - (x - floor(x)) } else { b = x - floor(x) }
        weight = where(inside, a[:, :, None] * b[:, None, :], 0)
        found = gather(pixels, reshape(at, regions, rows * samples * columns * samples), axis = 2)
        parts = parts + [found * reshape(weight, regions, 1, rows * samples * columns * samples)]
    }
    if largest {
        found = max(max(parts[0], parts[1]), max(parts[2], parts[3]))
        found = reshape(found, regions, c, rows, samples, columns, samples)
        return max(found, axis = [3, 5])
    }
    found = reshape(parts[0] + parts[1] + parts[2] + parts[3], regions, c, rows, samples, columns, samples)
    return mean(found, axis = [3, 5])
}
""",
    "chosen_boxes": """
## Boxes [rows, n, 4] chosen by scores [rows, classes, n], the best first, without those that overlap a chosen one by
## more than `overlap` of their union: row, class and place of each, [rows * classes * most, 3], and -1 where there is
## none.
fn chosen_boxes(most: int, overlap: float, least, centred: bool)(box, score) {
    n = extent(box, 1)
    rows = extent(score, 0)
    classes = extent(score, 1)
    if centred {
        top = box[..., 1] - box[..., 3] / 2
        left = box[..., 0] - box[..., 2] / 2
        bottom = box[..., 1] + box[..., 3] / 2
        right = box[..., 0] + box[..., 2] / 2
    } else {
        top = min(box[..., 0], box[..., 2])
        left = min(box[..., 1], box[..., 3])
        bottom = max(box[..., 0], box[..., 2])
        right = max(box[..., 1], box[..., 3])
    }
    area = (bottom - top) * (right - left)
    height = max(min(bottom[:, :, None], bottom[:, None, :]) - max(top[:, :, None], top[:, None, :]), 0)
    width = max(min(right[:, :, None], right[:, None, :]) - max(left[:, :, None], left[:, None, :]), 0)
    common = height * width
    share = common / (area[:, :, None] + area[:, None, :] - common)
    close = common > 0 and share > overlap
    open = score == score
    if least != none { open = score > least }
    found = []
    for i in 0..most {
        best = argmax(where(open, score, -inf), axis = -1)
        any_left = any(open, axis = -1)
        found = found + [where(any_left, best, -1)[:, :, None]]
        hit = best[:, :, None] == arange(n)
        near = sum(where(hit[:, :, :, None] and close[:, None, :, :], 1, 0), axis = 2) > 0
        open = open and not near and not hit
    }
    place = concat(found, axis = 2)
    row = where(place < 0, -1, arange(rows)[:, None, None])
    class = where(place < 0, -1, arange(classes)[:, None])
    together = concat([row[..., None], class[..., None], place[..., None]], axis = 3)
    return reshape(together, rows * classes * most, 3)
}
""",
    "unpooled": """
## Numbers [n] in their places `at` among `size`, and 0 elsewhere.
fn unpooled(size: int)(x, at) {
    hit = at[:, None] == arange(size)
    return where(any(hit, axis = 0), max(where(hit, x[:, None], -inf), axis = 0), 0)
}
""",
}
