"""`update` blocks: a step of several losses, each from the parameters that the one before left.

The reference is NumPy: losses are functions of the parameters, and their gradients are differences in the complex
plane, which are exact to rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from compiler import driver
from compiler.driver import Array, Options, Program, Tensors
from compiler.graph.ir import Direction, Node
from compiler.interface import Steps
from compiler.programs.kinds import EVALUATION, TRAINING
from compiler.programs.resting_executable import resting_blocks
from compiler.programs.stages import graph_of, prepared
from compiler.programs.steps.resting import resting_step
from runtime.inference.model import length_of, runtime_settings
from runtime.inference.model import training_of as plan_of

TEXT = """
layer net(units = 5, outputs = 2)(x: [batch, n]) -> [batch, outputs] {
    param W: [n, units] = glorot_uniform
    param b: [units] = zeros
    param V: [units, outputs] = glorot_uniform
    return tanh(x @ W + b) @ V
}

model Gan {
    input x: f32[batch, 2]
    input z: f32[batch, 3]
    g = net()
    d = net(outputs = 1)
    output fake = g(z)
    output real_score = d(x)[:, 0]
    output fake_score = d(fake)[:, 0]
    output slope = gradient(sum(d(x)), x)
}

train Gan {
    norm = sqrt(sum(slope ^ 2, axis = 1) + 1e-12)
    batch = 8
    steps = 20
    metrics = [mean(real_score) - mean(fake_score)]
    update critic {
        parameters = "d.*"
        loss = mean(fake_score) - mean(real_score) + 10 * mean((norm - 1) ^ 2)
        optimizer = gradient_descent(lr = 0.05)
        CRITIC
    }
    update generator {
        parameters = "g.*"
        loss = mean(softplus(-fake_score))
        optimizer = adam(lr = 0.02, beta1 = 0.5)
        GENERATOR
    }
}
"""
DRAWN = np.random.default_rng(3)
ROWS = 83  # the last step of an epoch is short
DATA = {"x": DRAWN.normal(size=(ROWS, 2)), "z": DRAWN.normal(size=(ROWS, 3))}
F64 = Options(dtype="f64")
Parameters = dict[str, Array]


def loaded(critic: str = "", generator: str = "", text: str = TEXT) -> Program:
    return driver.load_text(text.replace("CRITIC", critic).replace("GENERATOR", generator), "gan.dl")


def started(program: Program, options: Options) -> Tensors:
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    return tensors


def run(
    program: Program, options: Options = F64, steps: int = 20, at_once: int = 20, tensors: Tensors | None = None
) -> tuple[Tensors, dict[str, Array]]:
    """The tensors and scalars after steps over rows in their order, so many of them in a call."""
    tensors = tensors or started(program, options)
    length = length_of(plan_of(program), ROWS)
    step = driver.compile_program(program, TRAINING, options)
    data = DATA if options.dtype == "f64" else {name: a.astype(np.float32) for name, a in DATA.items()}
    told: list[Mapping[str, Array]] = []
    done = 0
    while done < steps:
        first = done % length.steps_per_epoch
        count = min(at_once, length.steps_per_epoch - first, steps - done)
        rows = np.arange(ROWS)[first * length.batch : (first + count) * length.batch]
        found = step.run(Steps(tensors, data, rows, length.batch, done, 0, runtime_settings(program, length)))
        assert not found.nonfinite
        told.append(found.scalars)
        done += count
    return tensors, {name: np.concatenate([scalars[name] for scalars in told]) for name in told[0]}


def net(p: Parameters, of: str, x: Array) -> Array:
    return np.tanh(x @ p[f"{of}.W"] + p[f"{of}.b"]) @ p[f"{of}.V"]


def critic_loss(p: Parameters, x: Array, z: Array) -> Array:
    real, fake = net(p, "d", x)[:, 0], net(p, "d", net(p, "g", z))[:, 0]
    slope = ((1 - np.tanh(x @ p["d.W"] + p["d.b"]) ** 2) * p["d.V"][:, 0]) @ p["d.W"].T
    norm = np.sqrt((slope**2).sum(1) + 1e-12)
    return fake.mean() - real.mean() + 10 * ((norm - 1) ** 2).mean()


def generator_loss(p: Parameters, x: Array, z: Array) -> Array:
    return np.log1p(np.exp(-net(p, "d", net(p, "g", z))[:, 0])).mean()


def gradient(loss: Callable[[Parameters], Array], p: Parameters, prefix: str) -> Parameters:
    """By steps of 1e-200 along the imaginary axis: no difference is taken, so nothing cancels."""
    found: Parameters = {}
    for name in (name for name in p if name.startswith(prefix)):
        slope = np.zeros_like(p[name])
        for place in np.ndindex(slope.shape):
            moved = p[name].astype(complex)
            moved[place] += 1e-200j
            slope[place] = loss({**p, name: moved}).imag / 1e-200
        found[name] = slope
    return found


class Reference:
    """The training in NumPy."""

    def __init__(self, p: Parameters, times: tuple[int, int] = (1, 1), every: tuple[int, int] = (1, 1)) -> None:
        self.p, self.times, self.every = p, times, every
        self.moments = {name: (np.zeros_like(a), np.zeros_like(a)) for name, a in p.items() if name.startswith("g.")}
        self.made = 0  # updates of the generator
        self.told: list[dict[str, float]] = []

    def step(self, number: int, batches: list[tuple[Array, Array]]) -> None:
        told: dict[str, float] = {}
        for x, z in batches[-self.times[0] :]:
            told["critic.loss"] = float(critic_loss(self.p, x, z))
            if (number + 1) % self.every[0] == 0:
                slopes = gradient(lambda p, x=x, z=z: critic_loss(p, x, z), self.p, "d.")
                self.p = self.p | {name: self.p[name] - 0.05 * slope for name, slope in slopes.items()}
        for x, z in batches[-self.times[1] :]:
            told["generator.loss"] = float(generator_loss(self.p, x, z))
            if (number + 1) % self.every[1] == 0:
                self._adam(gradient(lambda p, x=x, z=z: generator_loss(p, x, z), self.p, "g."))
        self.told.append(told)

    def _adam(self, slopes: Parameters) -> None:
        self.made += 1
        for name, g in slopes.items():
            m, v = self.moments[name]
            m, v = 0.5 * m + 0.5 * g, 0.999 * v + 0.001 * g**2
            self.moments[name] = m, v
            whole = m / (1 - 0.5**self.made) / (np.sqrt(v / (1 - 0.999**self.made)) + 1e-8)
            self.p = self.p | {name: self.p[name] - 0.02 * whole}


def reference(program: Program, steps: int, times: tuple[int, int], every: tuple[int, int]) -> Reference:
    tensors = started(program, F64)
    known = Reference({spec.path: tensors[spec.path].copy() for spec in program.parameters}, times, every)
    most = max(times)
    starts = [k for k in range(0, ROWS, 8 * most) if ROWS - k >= most]
    for number in range(steps):
        begin = starts[number % len(starts)]
        size = min(8 * most, ROWS - begin) // most
        rows = [slice(begin + k * size, begin + (k + 1) * size) for k in range(most)]
        known.step(number, [(DATA["x"][r], DATA["z"][r]) for r in rows])
    return known


@pytest.mark.parametrize(
    ("times", "every"),
    [((1, 1), (1, 1)), ((5, 1), (1, 1)), ((1, 3), (1, 1)), ((2, 3), (1, 1)), ((1, 1), (1, 3)), ((3, 1), (2, 1))],
)
def test_steps_are_those_of_numpy(times: tuple[int, int], every: tuple[int, int]) -> None:
    critic, generator = (f"times = {t}\n every = {e}" for t, e in zip(times, every, strict=True))
    program = loaded(critic, generator)
    known = reference(program, 20, times, every)
    tensors, scalars = run(program)
    for name, values in known.p.items():
        np.testing.assert_allclose(tensors[name], values, rtol=1e-9, atol=1e-9, err_msg=name)
    for name in ("critic.loss", "generator.loss"):
        np.testing.assert_allclose(scalars[name], [told[name] for told in known.told], rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(scalars["loss"], scalars["critic.loss"] + scalars["generator.loss"], rtol=1e-14)


def test_the_order_of_updates_matters() -> None:
    critic, generator = TEXT.split("    update ")[1:]
    generator, end = generator.rsplit("}\n", 1)[0].rsplit("    }\n", 1)
    turned = TEXT.split("    update ")[0] + f"    update {generator}    }}\n    update {critic}{end}}}\n"
    there, back = run(loaded())[0], run(loaded(text=turned))[0]
    assert any(not np.array_equal(there[name], back[name]) for name in there.names())


@pytest.mark.parametrize("keys", ["", "times = 3", "every = 2"])
def test_bits_do_not_depend_on_calls_threads_and_fusion(keys: str) -> None:
    program = loaded(keys)
    first, told = run(program, Options(threads=1))
    others = [
        run(program, Options(threads=1), at_once=1),
        run(program, Options(threads=2)),
        run(program, Options(threads=1, without=tuple(driver.FUSIONS))),
    ]
    for tensors, scalars in others:
        for name in first.names():
            assert tensors[name].tobytes() == first[name].tobytes(), name
        for name, values in told.items():
            assert scalars[name].tobytes() == values.tobytes(), name


@pytest.mark.parametrize(
    ("critic", "generator", "options"),
    [
        ("times = 2\n every = 2", "every = 3\n clip = global_norm(0.5)", Options(threads=2)),
        ("", "every = 4", Options(dtype="f64", target="reference")),
    ],
)
def test_a_program_for_steps_of_rest_gives_the_same_bits(
    critic: str, generator: str, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = loaded(critic, generator)
    assert not resting_blocks(program)
    whole, told = run(program, options)
    monkeypatch.setattr("compiler.programs.resting_executable.WORTH_A_CALL", 0)
    assert resting_blocks(program)
    for at_once in (1, 20):
        rested, known = run(program, options, at_once=at_once)
        for name in whole.names():
            assert rested[name].tobytes() == whole[name].tobytes(), name
        for name, values in told.items():
            assert known[name].tobytes() == values.tobytes(), name


def test_a_step_of_rest_takes_no_gradient_of_a_block_that_rests() -> None:
    graph = prepared(graph_of(loaded(generator="every = 2"), TRAINING), F64)
    resting = resting_step(graph)

    def backward(nodes: Sequence[Node]) -> set[str]:
        places = {origin for node in nodes if node.op.name != "broadcast" for origin in node.origins}
        return {o.path[0] for o in places if o.path and o.direction is not Direction.FORWARD}

    assert (backward(graph.nodes), backward(resting.nodes)) == ({"d", "g"}, {"d"})
    assert [output.name for output in resting.outputs] == [output.name for output in graph.outputs]


@pytest.mark.parametrize("keys", ["", "times = 3\n every = 2"])
def test_the_reference_target_makes_the_same_steps(keys: str) -> None:
    program = loaded(keys)
    native, told = run(program, steps=5)
    plain, known = run(program, Options(dtype="f64", target="reference"), steps=5)
    for name in native.names():
        np.testing.assert_allclose(native[name], plain[name], rtol=1e-12, atol=1e-12)
    for name, values in told.items():
        np.testing.assert_allclose(known[name], values, rtol=1e-12, atol=1e-12)


def test_what_updates_have_in_common_is_computed_once() -> None:
    """The generator runs once, and the critic on real rows, on fake ones, and on these again when it has changed."""
    text = "\n".join(line for line in TEXT.split("\n") if "metrics" not in line)
    graph = prepared(graph_of(loaded(text=text), TRAINING), F64)
    passes = [node.origins[0] for node in graph.nodes if node.op.name == "tanh"]
    assert Counter(origin.path for origin in passes if origin.direction.value == "forward") == {"g": 1, "d": 3}


def test_metrics_and_losses_of_an_evaluation() -> None:
    program = loaded("times = 2")
    tensors, _ = run(program)
    p = {spec.path: tensors[spec.path] for spec in program.parameters}
    step = driver.compile_program(program, EVALUATION, F64)
    found = step.run(Steps(tensors, DATA, np.arange(ROWS), ROWS, settings=runtime_settings(program))).scalars
    losses = {"critic.loss": critic_loss(p, DATA["x"], DATA["z"]), "generator.loss": generator_loss(p, *DATA.values())}
    for name, value in losses.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12)
    np.testing.assert_allclose(found["loss"], sum(losses.values()), rtol=1e-12)
