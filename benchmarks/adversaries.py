"""Training steps of `examples/gan`, `wgan` and `dcgan` beside the same programs in PyTorch, in turns.

    python benchmarks/adversaries.py [--threads 2] [--rounds 9] [--seconds 0.5]

A step of the first updates a critic and a generator on one batch; of the second, a critic on five batches, by a
gradient that is differentiated again, and then a generator; the third is the first with convolutions. `torch` is what
most people write: `autograd.grad` with `create_graph`, a fused Adam for each network, draws of its own. Medians of
alternating samples count. The draws differ, so that the losses do;
`tests/training/test_update_blocks_in_pytorch.py` compares them in f64.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from compiler import driver
from compiler.driver import Array, Options, Steps
from compiler.programs.kinds import TRAINING
from runtime.inference.model import length_of, runtime_settings
from runtime.inference.model import training_of as plan_of

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
Step = Callable[[], object]
Networks = tuple[torch.nn.Module, torch.nn.Module]
leaky, soft = torch.nn.LeakyReLU(0.2), torch.nn.functional.softplus


def gan(points: torch.Tensor) -> Step:
    def network(inputs: int, outputs: int) -> torch.nn.Module:
        layers = [torch.nn.Linear(inputs, 64), leaky, torch.nn.Linear(64, 64), leaky, torch.nn.Linear(64, outputs)]
        return torch.nn.Sequential(*layers)

    generator, critic = network(8, 2), network(2, 1)
    adams = [torch.optim.Adam(n.parameters(), lr=1e-3, betas=(0.5, 0.999), fused=True) for n in (critic, generator)]

    def step() -> None:
        point = points.clone().requires_grad_()
        made = generator(2 * torch.rand(len(points), 8) - 1)
        real = critic(point)[:, 0]
        (slope,) = torch.autograd.grad(real.sum(), point, create_graph=True)
        loss = soft(-real).mean() + soft(critic(made.detach())).mean() + 0.05 * (slope**2).sum(dim=1).mean()
        updated(adams[0], loss)
        updated(adams[1], soft(-critic(made)).mean())

    return step


def wgan(images: torch.Tensor, labels: torch.Tensor) -> Step:
    linear = torch.nn.Linear
    critic = torch.nn.Sequential(linear(74, 256), leaky, linear(256, 128), leaky, linear(128, 1))
    first = [linear(42, 128), torch.nn.BatchNorm1d(128), torch.nn.ReLU()]
    second = [linear(128, 256), torch.nn.BatchNorm1d(256), torch.nn.ReLU()]
    generator = torch.nn.Sequential(*first, *second, linear(256, 64), torch.nn.Tanh())
    adams = [torch.optim.Adam(n.parameters(), lr=3e-4, betas=(0.0, 0.9), fused=True) for n in (critic, generator)]

    def judged(x: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        return critic(torch.cat([x, kind], dim=1))[:, 0]

    def step() -> None:
        for image, label in zip(images.chunk(5), labels.chunk(5), strict=True):
            kind = torch.nn.functional.one_hot(label, 10).float()
            real, fake = image / 8 - 1, generator(torch.cat([2 * torch.rand(len(image), 32) - 1, kind], dim=1))
            share = torch.rand(len(image), 1)
            between = (share * real + (1 - share) * fake.detach()).requires_grad_()
            (slope,) = torch.autograd.grad(judged(between, kind).sum(), between, create_graph=True)
            norm = torch.sqrt((slope**2).sum(dim=1) + 1e-12)
            distance = judged(real, kind).mean() - judged(fake.detach(), kind).mean()
            updated(adams[0], 10 * ((norm - 1) ** 2).mean() - distance)
        updated(adams[1], -judged(fake, kind).mean())

    return step


def dcgan(images: torch.Tensor) -> Step:
    nn, width = torch.nn, 32
    turned = [nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ConvTranspose2d(width, 1, 4, 2, 1)]
    first = [nn.Linear(32, 8 * width), nn.Unflatten(1, (2 * width, 2, 2)), nn.BatchNorm2d(2 * width), nn.ReLU()]
    generator = nn.Sequential(*first, turned[0], nn.BatchNorm2d(width), nn.ReLU(), turned[1], nn.Tanh())
    ends = [
        nn.Conv2d(width, 2 * width, 4, 2, 1),
        nn.BatchNorm2d(2 * width),
        leaky,
        nn.Flatten(),
        nn.Linear(8 * width, 1),
    ]
    critic = nn.Sequential(nn.Conv2d(1, width, 4, 2, 1), leaky, *ends)
    adams = [torch.optim.Adam(n.parameters(), lr=5e-4, betas=(0.5, 0.999), fused=True) for n in (critic, generator)]

    def step() -> None:
        made = generator(2 * torch.rand(len(images), 32) - 1)
        real = critic((images / 8 - 1).reshape(-1, 1, 8, 8))
        updated(adams[0], soft(-real).mean() + soft(critic(made.detach())).mean())
        updated(adams[1], soft(-critic(made)).mean())

    return step


def updated(adam: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()


def ours(name: str, threads: int, rows: dict[str, Array]) -> Step:
    """A call of ten steps: all of them are native code."""
    program = driver.load(EXAMPLES / name / "model.dl")
    plan = plan_of(program)
    count = len(next(iter(rows.values())))
    length = length_of(plan, count)
    assert length.batch == count
    options = Options(batch=count, threads=threads)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    executable = driver.compile_program(program, TRAINING, options)
    settings = runtime_settings(program, length)
    order, taken = np.tile(np.arange(count), STEPS_OF_A_CALL), 0

    def steps() -> None:
        nonlocal taken
        executable.run(Steps(tensors, rows, order, count, taken, 0, settings))
        taken += STEPS_OF_A_CALL

    return steps


STEPS_OF_A_CALL = 10


def sampled(call: Step, steps: int, seconds: float) -> float:
    """Milliseconds of a step; a call makes so many."""
    count, begun = 0, time.perf_counter()
    while (lasted := time.perf_counter() - begun) < seconds or count < 3:
        call()
        count += 1
    return 1e3 * lasted / count / steps


def compared(name: str, calls: Sequence[tuple[str, Step, int]], rounds: int, seconds: float) -> None:
    for _, call, _ in calls:  # what is compiled and allocated at first
        call()
    samples: dict[str, list[float]] = {one: [] for one, _, _ in calls}
    for _ in range(rounds):
        for one, call, steps in calls:
            samples[one].append(sampled(call, steps, seconds))
    for one, times in samples.items():
        print(f"{name:5} {one:6} {statistics.median(times):8.3f} ms   from {min(times):.3f} to {max(times):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    random = np.random.default_rng(0)
    point = random.normal(size=(128, 2)).astype(np.float32)
    image, label = random.uniform(0, 16, (320, 64)).astype(np.float32), random.integers(0, 10, 320).astype(np.int32)
    programs = {
        "gan": (ours("gan", arguments.threads, {"point": point}), gan(torch.tensor(point))),
        "wgan": (
            ours("wgan", arguments.threads, {"image": image, "label": label}),
            wgan(torch.tensor(image), torch.tensor(label).long()),
        ),
        "dcgan": (ours("dcgan", arguments.threads, {"image": image[:64]}), dcgan(torch.tensor(image[:64]))),
    }
    for name, (own, other) in programs.items():
        calls = (("dlc", own, STEPS_OF_A_CALL), ("torch", other, 1))
        compared(name, calls, arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    main()
