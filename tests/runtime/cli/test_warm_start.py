"""What the cache gives is what would be made anew, nothing stale is used, and no stage of the compiler is loaded."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from repository import ROOT

from compiler import driver
from compiler.driver import Options, Program
from compiler.errors.diagnostics import CompilerBug
from compiler.interface import Steps
from compiler.programs import executables, second_process, stages
from compiler.programs import load as programs
from compiler.programs.kinds import EVALUATION, INITIALISATION, PREDICTION, TRAINING
from compiler.programs.load import Outline, complete
from compiler.schedule.build import schedule
from compiler.targets.registry import target_of
from runtime.data.dimensions import dimensions_if_there

NEEDED = {
    "compiler.frontend": {
        f"compiler.frontend{name}" for name in ("", ".arithmetic", ".axes", ".data_parts", ".program", ".update_rules")
    },
    "compiler.graph": {"compiler.graph", "compiler.graph.ir", "compiler.graph.op"},
}
"""Of these packages, what a warm start imports."""

LEFT_OUT = (
    *("ops", "graph_passes", "schedule", "loops", "autodiff", "programs.steps", "programs.stages", "pipeline"),
    *("targets.reference", "evaluate", "targets.cpu.emit", "targets.cpu.lower", "targets.llvm.codegen_worker"),
)

COMMANDS = (
    ("check", "model.dl", "--no-data"),
    ("train", "model.dl", "--epochs", "2", "--out", "run"),
    ("eval", "run"),
    ("predict", "run", "--input", "rows.csv", "--output", "out.npz"),
)
RUN = """
import json, sys
from runtime.cli.main import main
for command in json.loads(sys.argv[1]):
    assert main(command) == 0, command
json.dump(list(sys.modules), open(sys.argv[2], "w"))
"""

MODEL = """import "parts.dl"

model M(hidden = 3) {
    input x: f32[batch, 4]
    output y = x |> dense(hidden) |> twice |> dense(2)
}

train M {
    target label: i32[batch] in 0..2
    loss = cross_entropy(y, label)
    optimizer = adam(lr = 0.01)
    schedule = cosine(T = total_steps)
    clip = global_norm(1.0)
    batch = 4
    epochs = 2
}
"""
PARTS = "fn twice(x) = x * 2\n"


NUMBERS = """model N(a = 0.25, b = 0.5, c = 2.0) {
    input x: f32[batch, 2]
    h = x
    if b > 0.3 { h = x + 1 }
    output y = h * a + h * (a * b) + log(c)
}
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("DLC_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def model(tmp_path: Path, cache: Path) -> Path:
    (tmp_path / "parts.dl").write_text(PARTS)
    path = tmp_path / "model.dl"
    path.write_text(MODEL)
    return path


def entries(cache: Path) -> Iterator[Path]:
    yield from (cache / "entries").iterdir()


def run_commands(commands: tuple[tuple[str, ...], ...], folder: Path) -> set[str]:
    """The modules of a process that ran `dlc` with these arguments, one after the other."""
    environment = os.environ | {"DLC_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-c", RUN, json.dumps(commands), "modules.json"]
    subprocess.run(arguments, cwd=folder, env=environment, check=True, capture_output=True)
    return set(json.loads((folder / "modules.json").read_text()))


def test_a_warm_start_imports_no_stage_of_the_compiler(tmp_path: Path) -> None:
    (tmp_path / "model.dl").write_text((ROOT / "examples/iris/model.dl").read_text())
    for data in (ROOT / "examples/iris").glob("*.csv*"):
        (tmp_path / data.name).write_bytes(data.read_bytes())
    (tmp_path / "rows.csv").write_text("5.1,3.5,1.4,0.2\n")
    cold = run_commands(COMMANDS, tmp_path)
    assert "compiler.syntax.parser" in cold
    for command in COMMANDS:
        if command[0] == "train":
            command = (*command[:-1], "another")
        modules = run_commands((command,), tmp_path)
        assert not modules & {"lark", "networkx", "llvmlite"}, command
        for package, needed in (*NEEDED.items(), *((f"compiler.{name}", set[str]()) for name in LEFT_OUT)):
            loaded = {name for name in modules if name == package or name.startswith(f"{package}.")}
            assert loaded <= needed, command


def test_a_check_of_the_text_imports_neither_numpy_nor_what_comes_after_elaboration(tmp_path: Path) -> None:
    (tmp_path / "model.dl").write_text((ROOT / "examples/mnist/mlp.dl").read_text())
    modules = run_commands((("check", "model.dl", "--no-data"),), tmp_path)
    assert "compiler.frontend.elaborate" in modules
    assert not modules & {"lark", "networkx", "llvmlite", "numpy", "safetensors"}
    after = ("graph_passes", "schedule", "loops", "programs.steps", "programs.stages", "targets.reference", "evaluate")
    for package in (f"compiler.{name}" for name in after):
        assert not [name for name in modules if name == package or name.startswith(f"{package}.")]


def test_what_is_loaded_again_is_an_outline_with_all_but_the_nodes(model: Path) -> None:
    first, again = driver.load(model), driver.load(model)
    assert not isinstance(first, Outline)
    assert isinstance(again, Outline)
    assert first.training_graph.nodes
    assert not again.training_graph.nodes
    assert again.inference_graph == replace(first.inference_graph, nodes=())
    for name in ("name", "model", "sources", "settings", "inputs", "outputs", "warnings"):
        assert getattr(again, name) == getattr(first, name), name
    specs = [replace(p, initializer=replace(p.initializer, nodes=())) for p in first.parameters]
    assert again.parameters == tuple(specs)
    assert complete(again).training_graph == first.training_graph
    assert complete(again) is complete(again)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.dl")), ids=lambda path: path.parent.name)
def test_every_example_has_an_outline(path: Path, cache: Path) -> None:
    (experiment, *_) = re.findall(r"^train (\w+)", path.read_text(), re.MULTILINE)
    first, again = (driver.load(path, experiment, (), dimensions_if_there) for _ in range(2))
    assert isinstance(again, Outline)
    assert again.settings == first.settings
    assert complete(again).training_graph == first.training_graph


def test_what_changes_a_program_is_asked_for_anew(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_known(*arguments: object) -> bool:
        return isinstance(driver.load(model, *arguments), Outline)  # type: ignore[arg-type]

    assert not is_known()
    assert is_known()
    assert not is_known(None, (("hidden", "5"),))
    assert not is_known("M")
    (tmp_path / "parts.dl").write_text(PARTS.replace("2", "3"))
    assert not is_known()
    assert is_known()
    model.write_text(MODEL + "\n")
    assert not is_known()
    monkeypatch.chdir(tmp_path)
    assert not isinstance(driver.load("model.dl"), Outline)  # messages name the file otherwise
    monkeypatch.setattr(programs, "compiler_version", lambda: "another")
    assert not is_known()


def test_text_is_known_by_its_name_and_content(model: Path) -> None:
    name = str(model)
    assert not isinstance(driver.load_text(MODEL, name), Outline)
    assert isinstance(driver.load_text(MODEL, name), Outline)
    model.write_text("the file has no part in it")
    assert isinstance(driver.load_text(MODEL, name), Outline)
    assert not isinstance(driver.load_text(MODEL + "\n", name), Outline)


@pytest.mark.parametrize(
    "content",
    [b"", b"no pickle", pickle.dumps({"of": "another version"}), pickle.dumps(None)],
    ids=["empty", "text", "other", "none"],
)
def test_a_damaged_or_foreign_entry_is_not_used(content: bytes, model: Path, cache: Path) -> None:
    expected = driver.load(model).training_graph
    for entry in entries(cache):
        entry.write_bytes(sha256(content).digest() + content)
    assert driver.load(model).training_graph == expected
    for entry in entries(cache):
        entry.write_bytes(entry.read_bytes()[:-1])
    assert driver.load(model).training_graph == expected
    assert isinstance(driver.load(model), Outline)


def test_mistakes_are_found_every_time_and_gone_when_they_are(model: Path) -> None:
    model.write_text(MODEL.replace("dense(2)", "dens(2)"))
    found = driver.check(model)
    assert [finding.severity for finding in found] == ["error"]
    assert driver.check(model) == found
    model.write_text(MODEL)
    assert driver.check(model) == driver.check(model) == ()
    (model.parent / "parts.dl").write_text("fn twice(x) = x * two\n")
    assert driver.check(model)


def trained(program: Program, options: Options) -> dict[str, bytes]:
    """The tensors after five steps."""
    step = driver.compile_program(program, TRAINING, options)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 1, options)
    random = np.random.default_rng(0)
    data = {"x": random.standard_normal((20, 4)).astype(np.float32), "label": np.arange(20, dtype=np.int32) % 2}
    settings = {s.name: float(s.value or 5) for s in program.settings if s.is_runtime}  # type: ignore[arg-type]
    step.run(Steps(tensors, data, np.arange(20), 4, seed=1, settings=settings))
    return {name: tensors[name].tobytes() for name in tensors.names()}


def test_an_outline_trains_to_the_same_bits(model: Path, tmp_path: Path) -> None:
    options = Options(threads=1, batch=4)
    expected = trained(driver.load(model), options)
    outline = driver.load(model)
    assert isinstance(outline, Outline)
    assert trained(outline, options) == expected
    model.unlink()  # an outline knows the texts that it was made of
    assert trained(outline, replace(options, cache=tmp_path / "empty")) == expected


def test_the_schedule_of_a_cached_program_is_verified_where_that_is_asked(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, options = driver.load(model), Options(threads=1, batch=4, cache=tmp_path / "cache")
    driver.compile_program(program, TRAINING, options)
    monkeypatch.setattr(stages, "schedule", lambda *given: replace(schedule(*given), barriers=()))
    driver.compile_program(program, TRAINING, options)
    with pytest.raises(CompilerBug, match="not one mark of a barrier for each instance"):
        driver.compile_program(program, TRAINING, replace(options, verify=True))


@pytest.mark.parametrize("processes", [1, 2])
def test_programs_that_are_compiled_together_are_the_same(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(executables, "WORTH_A_PROCESS", 0 if processes == 2 else 10**9)
    monkeypatch.setattr(executables, "usable_processors", lambda: processes)
    program = driver.load(model)
    alone, together = (Options(threads=1, batch=4, cache=tmp_path / name) for name in ("alone", "together"))
    expected = trained(program, alone)
    driver.compile_ahead(program, (INITIALISATION, TRAINING, EVALUATION), together)
    objects = {path.name for path in (tmp_path / "together/objects").iterdir()}
    assert trained(program, together) == expected
    driver.compile_program(program, EVALUATION, together)
    assert {path.name for path in (tmp_path / "together/objects").iterdir()} == objects


@pytest.mark.parametrize("python", ["/bin/false", "missing"])
def test_a_second_process_that_fails_costs_only_time(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    options = Options(threads=1, batch=4, cache=tmp_path / "together")
    program = driver.load(model)
    graphs = {"initialisation": (stages.graph_of(program, INITIALISATION), options)}
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", python)
        with second_process.compiled_beside(graphs):
            pass
    assert trained(program, options) == trained(program, replace(options, cache=tmp_path / "alone"))


def test_a_second_process_ends_with_what_it_is_for(model: Path, tmp_path: Path) -> None:
    program = driver.load(model)
    graphs = {"ours": (stages.graph_of(program, TRAINING), Options(batch=4, cache=tmp_path / "cache"))}
    with pytest.raises(KeyboardInterrupt), second_process.compiled_beside(graphs):
        raise KeyboardInterrupt
    with second_process.compiled_beside(graphs):
        pass
    assert target_of(Options()).missing(["ours"], graphs["ours"][1]) == []


def test_numbers_of_several_settings_are_those_of_each_run(cache: Path) -> None:
    """Only what decides the form of a program is compiled in, and nothing of a compilation before is left."""
    for place, (name, value) in enumerate([("a", 0.25), ("a", 2.0), ("c", 3.0), ("b", 0.75)]):
        program = driver.load_text(NUMBERS, "n.dl", overrides=((name, str(value)),))
        assert driver.compile_ahead(program, [PREDICTION], Options()) == (place in (0, 3))
        settings = {s.name: float(s.value) for s in program.settings if s.is_runtime}  # type: ignore[arg-type]
        step = driver.compile_program(program, PREDICTION, Options())
        found = step.run(
            Steps(driver.allocate(program, Options()), {"x": np.ones((1, 2), "f4")}, np.arange(1), 1, 0, 0, settings)
        )
        a, b, c = ({"a": 0.25, "b": 0.5, "c": 2.0} | {name: value}).values()
        np.testing.assert_allclose(found.arrays["y"], 2 * a + 2 * a * b + np.log(c), rtol=1e-6)
