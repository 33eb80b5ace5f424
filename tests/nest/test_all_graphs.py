"""All programs that runs compile of a model are known, and verified: nothing is left out without a word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from all_graphs import compilations_of

from compiler import driver
from compiler.machine import CHOICES, Machine
from compiler.programs.kinds import Purpose
from compiler.support.verified import forget_verified, note_verified, said_of_verified
from compiler.targets.lowered import Lowered
from compiler.targets.registry import kernel_target_of
from compiler.targets.target import Compilation
from compiler.targets.verify_nests import IN_BF16, OF_RUNNER, verify_nests
from runtime.cli.main import main

TEXT = """\
model Words(vocab: int = 12) {
    input tokens: i32[batch, 8] in 0..vocab
    output logits = tokens |> embedding(vocab, 4) |> encoder_block(2, 8, causal = true) |> dense(vocab)
}

train Words {
    target next: i32[batch, 8] in 0..vocab
    loss = cross_entropy(logits, next)
    optimizer = adam(lr = 0.1)
    batch = 4
    metrics = accuracy(logits, next)
    freeze = ["*embedding*"]
    unfreeze = after(2, "*embedding*")
    PARTS
}

generate Words {
    feed tokens from logits
    length = 8
}

sample lines from Words {
    first = cast(12 * random(batch, 8), i32)
    output scores = Words(first)[:, -1]
}
"""
OTHERS = (Purpose.AUGMENTATION, Purpose.FOLLOWING)  # that need other programs
AVX512 = CHOICES["avx512"]


def programs(parts: str, **options: str) -> list[tuple[str, Compilation]]:
    program = driver.load_text(TEXT.replace("PARTS", parts), "words.dl")
    given = driver.Options(batch=4, verify=True)
    return list(compilations_of(program, driver.options_of(program, replace(given, **options))))  # type: ignore[arg-type]


def lowered(made: Compilation, machine: Machine) -> Lowered:
    ready = made.prepared()
    plan = made.scheduled(ready, machine)
    return kernel_target_of(made.options).lower(ready, plan, machine, made.options.batch, keeps_nests=True)


def test_each_purpose_is_among_the_programs_of_some_model() -> None:
    found = {name.split(",")[0].split(" ")[0] for parts in ("", "accumulate = 2") for name, _ in programs(parts)}
    assert found == {purpose.value for purpose in Purpose if purpose not in OTHERS}


@pytest.mark.parametrize("parts", ["", "accumulate = 2", "shards = 2"])
def test_programs_of_all_kinds_are_verified(parts: str) -> None:
    names = [name for name, _ in programs(parts)]
    assert len(set(names)) == len(names)
    if parts.startswith("shards"):
        assert {"updating, part 0 of process 1", "adding f32"} <= set(names)
    if not parts:
        assert {"training", "training 1", "position 2", "sampling lines"} <= set(names)
    for name, made in programs(parts):
        found = verify_nests(lowered(made, AVX512))
        assert found.proved or not made.prepared().nodes, name
        assert set(found.left_out) <= {OF_RUNNER}


def test_products_in_bf16_are_counted_as_left_out() -> None:
    machine = replace(AVX512, features=f"{AVX512.features},+avx512bf16")
    made = dict(programs("precision = bf16"))["training"]
    found = verify_nests(lowered(made, machine))
    assert found.left_out[IN_BF16] > 2
    assert found.proved


def test_what_was_verified_is_said() -> None:
    forget_verified()
    assert "no kernels were verified now" in said_of_verified()
    note_verified(3, {OF_RUNNER: 2})
    note_verified(4, {})
    said = "programs: 2; 7 calls of kernels stay in their memory for every batch; not proved of 2: "
    assert said_of_verified() == said + OF_RUNNER
    forget_verified()


def test_a_command_says_what_it_has_verified(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "words.dl"
    file.write_text("model Half {\n    input x: f32[batch, 3]\n    output y = 0.5 * x\n}\n")
    command = ["bench", str(file), "--mode", "infer", "--seconds", "0.01", "--cache-dir", str(tmp_path / "cache")]
    assert main([*command, "--verify"]) == 0
    assert "verified: programs: " in capfd.readouterr().err
    assert main([*command, "--verify"]) == 0
    assert "verified: no kernels were verified now" in capfd.readouterr().err
    assert main(command) == 0
    assert "verified" not in capfd.readouterr().err
