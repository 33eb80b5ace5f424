"""Optimizers, schedules, clips and penalties of the standard library beside independent NumPy lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

GRADIENTS = tuple(np.random.default_rng(3).normal(size=(6, 4, 3)))
START = np.random.default_rng(4).normal(size=(4, 3))


@dataclass(frozen=True, slots=True)
class OptimizerCase:
    """`meaning` gives the parameter after each update, in f64, for a rate that may change (`rates`)."""

    name: str
    call: str
    meaning: Callable[[Array, Iterator[tuple[int, float, Array]]], Iterator[Array]]


Steps: TypeAlias = Iterator[tuple[int, float, Array]]


def _gradient_descent(decay: float = 0.0) -> Callable[[Array, Steps], Iterator[Array]]:
    def run(p: Array, steps: Steps) -> Iterator[Array]:
        for _, lr, g in steps:
            p = p - lr * (g + decay * p)
            yield p

    return run


def _schedule_free(
    b1: float = 0.9, b2: float = 0.999, decay: float = 0.0, warmup: int = 1
) -> Callable[[Array, Steps], Iterator[Array]]:
    """Algorithm 1 of the paper, with z, x and y by their definitions."""

    def run(p: Array, steps: Steps) -> Iterator[Array]:
        z, x, v, total = p, p, np.zeros_like(p), 0.0
        for t, lr, g in steps:
            y = (1 - b1) * z + b1 * x
            v = b2 * v + (1 - b2) * g**2
            rate = lr * min(1, t / warmup)
            z = z - rate * (g / (np.sqrt(v / (1 - b2**t)) + 1e-8) + decay * y)
            weight = min(1, t / warmup) ** 2
            total += weight
            x = (1 - weight / total) * x + weight / total * z
            yield (1 - b1) * z + b1 * x

    return run


def _momentum(mu: float = 0.9, decay: float = 0.0, ahead: bool = False) -> Callable[[Array, Steps], Iterator[Array]]:
    def run(p: Array, steps: Steps) -> Iterator[Array]:
        v = np.zeros_like(p)
        for _, lr, g in steps:
            d = g + decay * p
            v = mu * v + d
            p = p - lr * (d + mu * v if ahead else v)
            yield p

    return run


def _adagrad(p: Array, steps: Steps) -> Iterator[Array]:
    s = np.zeros_like(p)
    for _, lr, g in steps:
        s += g * g
        p = p - lr * g / (np.sqrt(s) + 1e-10)
        yield p


def _rmsprop(rho: float = 0.9) -> Callable[[Array, Steps], Iterator[Array]]:
    def run(p: Array, steps: Steps) -> Iterator[Array]:
        s = np.zeros_like(p)
        for _, lr, g in steps:
            s = rho * s + (1 - rho) * g * g
            p = p - lr * g / (np.sqrt(s) + 1e-8)
            yield p

    return run


def _adadelta(rho: float = 0.95, eps: float = 1e-6) -> Callable[[Array, Steps], Iterator[Array]]:
    def run(p: Array, steps: Steps) -> Iterator[Array]:
        s, d = np.zeros_like(p), np.zeros_like(p)
        for _, lr, g in steps:
            s = rho * s + (1 - rho) * g * g
            update = np.sqrt(d + eps) / np.sqrt(s + eps) * g
            d = rho * d + (1 - rho) * update * update
            p = p - lr * update
            yield p

    return run


def _adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, decay: float = 0.0, eps_hat: bool = False
) -> Callable[[Array, Steps], Iterator[Array]]:
    def run(p: Array, steps: Steps) -> Iterator[Array]:
        m, v = np.zeros_like(p), np.zeros_like(p)
        for t, lr, g in steps:
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g * g
            added = eps / np.sqrt(1 - b2**t) if eps_hat else eps
            p = p - lr * decay * p - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + added)
            yield p

    return run


def _lion(b1: float = 0.9, b2: float = 0.99, decay: float = 0.0) -> Callable[[Array, Steps], Iterator[Array]]:
    def run(p: Array, steps: Steps) -> Iterator[Array]:
        m = np.zeros_like(p)
        for _, lr, g in steps:
            p = p - lr * (np.sign(b1 * m + (1 - b1) * g) + decay * p)
            m = b2 * m + (1 - b2) * g
            yield p

    return run


def _lamb(decay: float = 0.01, eps: float = 1e-6) -> Callable[[Array, Steps], Iterator[Array]]:
    def run(p: Array, steps: Steps) -> Iterator[Array]:
        m, v = np.zeros_like(p), np.zeros_like(p)
        for t, lr, g in steps:
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g * g
            u = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + eps) + decay * p
            p = p - lr * float(np.linalg.norm(p) / np.linalg.norm(u)) * u
            yield p

    return run


def _adafactor(decay: float = 0.0, limit: float = 1.0) -> Callable[[Array, Steps], Iterator[Array]]:
    """The lines of algorithm 4, with row and column sums in place of means, which the quotient cancels."""

    def run(p: Array, steps: Steps) -> Iterator[Array]:
        rows, columns = np.zeros(len(p)), np.zeros(p.shape[1])
        for t, lr, g in steps:
            beta = 1 - t**-0.8
            rows = beta * rows + (1 - beta) * (g * g).sum(1)
            columns = beta * columns + (1 - beta) * (g * g).sum(0)
            u = g / np.sqrt(np.outer(rows, columns) / rows.sum())
            u = u / max(1.0, float(np.sqrt(np.mean(u * u))) / limit)
            rate = max(1e-3, float(np.sqrt(np.mean(p * p)))) * min(lr, t**-0.5)
            p = p - lr * decay * p - rate * u
            yield p

    return run


def _muon(decay: float = 0.0) -> Callable[[Array, Steps], Iterator[Array]]:
    """The iteration as its polynomial of the singular values."""

    def run(p: Array, steps: Steps) -> Iterator[Array]:
        m = np.zeros_like(p)
        for _, lr, g in steps:
            m = 0.95 * m + 0.05 * g
            x = 0.05 * g + 0.95 * m
            left, s, right = np.linalg.svd(x / np.linalg.norm(x), full_matrices=False)
            for _ in range(5):
                s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
            p = p - lr * (decay * p + math.sqrt(max(1, p.shape[1] / p.shape[0])) * (left * s) @ right)
            yield p

    return run


OPTIMIZERS = (
    OptimizerCase("lion", "lion(lr = 0.1)", _lion()),
    OptimizerCase("lion", "lion(lr = 0.1, beta1 = 0.5, beta2 = 0.8, weight_decay = 0.3)", _lion(0.5, 0.8, 0.3)),
    OptimizerCase("lamb", "lamb(lr = 0.1)", _lamb()),
    OptimizerCase("lamb", "lamb(lr = 0.1, weight_decay = 0.0, eps = 0.1)", _lamb(0.0, 0.1)),
    OptimizerCase("adafactor", "adafactor(lr = 0.6)", _adafactor()),
    OptimizerCase("adafactor", "adafactor(lr = 0.1, limit = 0.5, weight_decay = 0.2)", _adafactor(0.2, 0.5)),
    OptimizerCase("muon", "muon(lr = 0.1)", _muon()),
    OptimizerCase("muon", "muon(lr = 0.1, weight_decay = 0.2)", _muon(0.2)),
    OptimizerCase("gradient_descent", "gradient_descent(lr = 0.5)", _gradient_descent()),
    OptimizerCase("gradient_descent", "gradient_descent(lr = 0.5, weight_decay = 0.1)", _gradient_descent(0.1)),
    OptimizerCase("momentum", "momentum(lr = 0.1)", _momentum()),
    OptimizerCase("momentum", "momentum(lr = 0.1, momentum = 0.5, weight_decay = 0.2)", _momentum(0.5, 0.2)),
    OptimizerCase("nesterov", "nesterov(lr = 0.1)", _momentum(ahead=True)),
    OptimizerCase("nesterov", "nesterov(lr = 0.1, weight_decay = 0.1)", _momentum(decay=0.1, ahead=True)),
    OptimizerCase("adagrad", "adagrad(lr = 0.1)", _adagrad),
    OptimizerCase("rmsprop", "rmsprop(lr = 0.01)", _rmsprop()),
    OptimizerCase("rmsprop", "rmsprop(lr = 0.01, rho = 0.99)", _rmsprop(0.99)),
    OptimizerCase("adadelta", "adadelta(lr = 1.0)", _adadelta()),
    OptimizerCase("adam", "adam(lr = 0.01)", _adam()),
    OptimizerCase("adam", "adam(lr = 0.01, beta1 = 0.8, beta2 = 0.95, eps = 1e-3)", _adam(0.8, 0.95, 1e-3)),
    OptimizerCase("adam", "adam(lr = 0.01, eps = 0.1, eps_hat = true)", _adam(eps=0.1, eps_hat=True)),
    OptimizerCase("schedule_free_adamw", "schedule_free_adamw(lr = 0.01)", _schedule_free()),
    OptimizerCase(
        "schedule_free_adamw",
        "schedule_free_adamw(lr = 0.01, beta1 = 0.8, beta2 = 0.99, weight_decay = 0.1, warmup = 3)",
        _schedule_free(0.8, 0.99, 0.1, 3),
    ),
    OptimizerCase("swa", "swa(lr = 0.01)", _momentum()),
    OptimizerCase("swa", "swa(lr = 0.01, momentum = 0.5, weight_decay = 0.1, start = 2)", _momentum(0.5, 0.1)),
    OptimizerCase("adamw", "adamw(lr = 0.01, eps = 0.1, eps_hat = true)", _adam(eps=0.1, decay=0.01, eps_hat=True)),
    OptimizerCase("adamw", "adamw(lr = 0.01)", _adam(decay=0.01)),
    OptimizerCase("adamw", "adamw(lr = 0.01, weight_decay = 0.5, beta2 = 0.99)", _adam(b2=0.99, decay=0.5)),
)


@dataclass(frozen=True, slots=True)
class ScheduleCase:
    """`meaning` is the rate at update t, counted from 0, for the rate 0.5; checked at `times`."""

    name: str
    call: str
    meaning: Callable[[int], float]
    times: tuple[int, ...] = tuple(range(0, 45))


def _half_cosine(share: float, low: float, high: float) -> float:
    return low + (high - low) * (1 + math.cos(math.pi * share)) / 2


def _restarts(period: int, mult: int, low: float) -> Callable[[int], float]:
    def rate(t: int) -> float:
        length = period
        while t >= length:
            t -= length
            length *= mult
        return _half_cosine(t / length, low, 0.5)

    return rate


def _one_cycle(t: int) -> float:
    total, peak = 40, 12
    if t < peak:
        return _half_cosine(t / peak, 0.5, 0.5 / 25)
    return _half_cosine(min((t - peak) / (total - peak), 1), 0.5 / 25e4, 0.5)


SCHEDULES = (
    ScheduleCase("constant", "constant", lambda t: 0.5),
    ScheduleCase("step", "step(every = 10)", lambda t: 0.5 * 0.1 ** (t // 10)),
    ScheduleCase("step", "step(7, factor = 0.5)", lambda t: 0.5 * 0.5 ** (t // 7)),
    ScheduleCase("exponential", "exponential(0.9)", lambda t: 0.5 * 0.9**t),
    ScheduleCase("exponential", "exponential(0.9, every = 5)", lambda t: 0.5 * 0.9 ** (t / 5)),
    ScheduleCase("linear", "linear(T = 30)", lambda t: 0.5 * (1 - min(t, 30) / 30)),
    ScheduleCase("linear", "linear(T = 30, floor = 0.1)", lambda t: 0.5 - 0.4 * min(t, 30) / 30),
    ScheduleCase("polynomial", "polynomial(T = 30)", lambda t: 0.5 * (1 - min(t, 30) / 30) ** 2),
    ScheduleCase(
        "polynomial", "polynomial(30, power = 0.5, floor = 0.1)", lambda t: 0.1 + 0.4 * (1 - min(t, 30) / 30) ** 0.5
    ),
    ScheduleCase("cosine", "cosine(T = 30)", lambda t: _half_cosine(min(t, 30) / 30, 0, 0.5)),
    ScheduleCase("cosine", "cosine(T = 30, floor = 0.2)", lambda t: _half_cosine(min(t, 30) / 30, 0.2, 0.5)),
    ScheduleCase("warm_restarts", "warm_restarts(T = 10)", _restarts(10, 1, 0)),
    ScheduleCase(
        "warm_restarts",
        "warm_restarts(T = 3, mult = 2, floor = 0.1)",
        _restarts(3, 2, 0.1),
        (*range(0, 50), 92, 93, 94, 3 * (2**12 - 1) - 1, 3 * (2**12 - 1), 3 * (2**12 - 1) + 1),
    ),
    ScheduleCase("warmup", "warmup(8)", lambda t: 0.5 * min((t + 1) / 8, 1)),
    ScheduleCase(
        "warmup",
        "warmup(8, then = cosine(T = 20))",
        lambda t: 0.5 * (t + 1) / 8 if t < 8 else _half_cosine(min(t - 8, 20) / 20, 0, 0.5),
    ),
    ScheduleCase("one_cycle", "one_cycle(T = 40)", _one_cycle),
    ScheduleCase("trapezoid", "trapezoid(T = 40)", lambda t: 0.5 * min((40 - min(t, 40)) / 8, 1)),
    ScheduleCase("trapezoid", "trapezoid(T = 40, cool = 0.0, floor = 0.2)", lambda t: 0.5 if t < 40 else 0.2),
    ScheduleCase(
        "trapezoid",
        "trapezoid(T = 40, warm = 0.25, cool = 0.5, floor = 0.1)",
        lambda t: 0.05 * (t + 1) if t < 9 else 0.1 + 0.4 * min((40 - min(t, 40)) / 20, 1),
    ),
)


@dataclass(frozen=True, slots=True)
class ClipCase:
    """`meaning` of a gradient and of the sum of squares over all gradients."""

    name: str
    call: str
    meaning: Callable[[Array, float], Array]


def _scaled(g: Array, length: float, limit: float) -> Array:
    return g * (limit / length) if length > limit else g


CLIPS = tuple(
    case
    for limit in (0.5, 100.0)
    for case in (
        ClipCase("value", f"value({limit})", lambda g, total, limit=limit: np.clip(g, -limit, limit)),
        ClipCase("norm", f"norm({limit})", lambda g, total, limit=limit: _scaled(g, float(np.linalg.norm(g)), limit)),
        ClipCase(
            "global_norm", f"global_norm({limit})", lambda g, total, limit=limit: _scaled(g, math.sqrt(total), limit)
        ),
    )
)


@dataclass(frozen=True, slots=True)
class PenaltyCase:
    name: str
    call: str
    meaning: Callable[[Array], float]


PENALTIES = (
    PenaltyCase("l1", "l1(0.3)", lambda p: 0.3 * np.abs(p).sum()),
    PenaltyCase("l2", "l2(0.3)", lambda p: 0.3 * (p * p).sum()),
    PenaltyCase("l1_l2", "l1_l2(0.3, 0.2)", lambda p: 0.3 * np.abs(p).sum() + 0.2 * (p * p).sum()),
)
