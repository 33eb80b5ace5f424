"""Decoding: one position at a time gives what the whole window gives, and costs one position."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from decoding_models import CAUSAL, decoding

from compiler import driver
from compiler.driver import Options, Program, Tensors
from compiler.loops.ir import ContractionKernel
from compiler.pipeline import optimise_graph
from compiler.programs.load import complete
from compiler.programs.steps.decoding.incremental import position_graph
from compiler.schedule.build import schedule
from runtime.inference.decoding import Decoder
from runtime.inference.generation import beams, sampled

_SCORES = "beam(3)"  # whose sampler gives the logarithm of each probability
_IN_NATIVE_CODE = ("pre-norm blocks", "an encoder", "recurrences", "running sums", "convolutions")
_WITH_PARENTS = ("pre-norm blocks", "recurrences", "an encoder", "the token before")


def _started(text: str, options: Options) -> tuple[Program, Tensors]:
    program = driver.load_text(text, "model.dl")
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 1, options)
    return program, tensors


def _decoder(program: Program, tensors: Tensors, options: Options, rows: int, incremental: bool = True) -> Decoder:
    source = {"source": np.array([3, 1, 4, 1, 5]), "seen": np.arange(5) < 4}
    inputs = {spec.name: source[spec.name] for spec in program.inputs if spec.name in source}
    return Decoder(program, tensors, options, rows, inputs, seed=2, incremental=incremental)


def _tokens(rows: int, length: int) -> Any:
    return np.random.default_rng(5).integers(0, 11, (rows, length))


@pytest.mark.parametrize("name", CAUSAL)
def test_a_position_gives_what_the_window_gives(name: str) -> None:
    options = Options(target="reference", dtype="f64")
    program, tensors = _started(decoding(name, _SCORES), options)
    steps, whole = (_decoder(program, tensors, options, 3, incremental) for incremental in (True, False))
    tokens = _tokens(3, 10)  # two more than the window holds
    for length in range(2, 11):
        expected = whole.next(tokens[:, :length])
        np.testing.assert_allclose(steps.next(tokens[:, :length]), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["pre-norm blocks", "recurrences", "a recurrence under attention", "convolutions"])
def test_a_short_prompt_goes_position_by_position(name: str) -> None:
    options = Options(target="reference", dtype="f64")
    wide = decoding(name, _SCORES).replace("batch, 8]", "batch, 40]").replace("arange(8)", "arange(40)")
    program, tensors = _started(wide, options)
    steps, whole = (_decoder(program, tensors, options, 2, incremental) for incremental in (True, False))
    tokens = _tokens(2, 4)
    steps.next(_tokens(2, 9))  # another sequence, of which the states know
    for length in (2, 3, 4):
        np.testing.assert_allclose(steps.next(tokens[:, :length]), whole.next(tokens[:, :length]), atol=1e-12)


@pytest.mark.parametrize("name", _IN_NATIVE_CODE)
def test_native_code_gives_the_same_scores(name: str) -> None:
    program, tensors = _started(decoding(name, _SCORES), Options())
    steps, whole = (_decoder(program, tensors, Options(), 2, incremental) for incremental in (True, False))
    tokens = _tokens(2, 9)
    for length in range(3, 10):
        expected = whole.next(tokens[:, :length])
        np.testing.assert_allclose(steps.next(tokens[:, :length]), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", _WITH_PARENTS)
def test_sequences_may_go_on_from_others(name: str) -> None:
    options = Options(target="reference", dtype="f64")
    program, tensors = _started(decoding(name, _SCORES), options)
    steps, whole = (_decoder(program, tensors, options, 3, incremental) for incremental in (True, False))
    tokens = _tokens(3, 3)
    steps.next(tokens)
    random = np.random.default_rng(6)
    for _ in range(5):
        parents = random.integers(0, 3, 3)
        tokens = np.concatenate([tokens[parents], random.integers(0, 11, (3, 1))], axis=1)
        np.testing.assert_allclose(steps.next(tokens, parents), whole.next(tokens), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("way", "target"), [("greedy", "reference"), ("top_k(4, temperature = 0.9)", "reference"), ("top_p(0.8)", "native")]
)
def test_the_same_tokens_either_way(way: str, target: str) -> None:
    options = Options(target=target)
    program, tensors = _started(decoding("pre-norm blocks", way), options)
    prompts = _tokens(2, 3)
    one, other = (
        list(sampled(_decoder(program, tensors, options, 2, incremental), prompts, 9, ()))
        for incremental in (True, False)
    )
    assert one == other
    assert len(one) == 9


def _with_penalty(text: str, penalty: float) -> str:
    return text.replace("    length = 12\n", f"    length = 12\n    repetition_penalty = {penalty}\n")


@pytest.mark.parametrize("incremental", [True, False])
@pytest.mark.parametrize("name", ["each by itself", "recurrences", "an encoder"])
def test_a_penalty_divides_positive_scores_of_tokens_of_the_window(name: str, incremental: bool) -> None:
    options = Options(target="reference", dtype="f64")
    raw = decoding(name, "scores").replace("\nmodel M", "\nfn scores(logits) = logits + 0, 3, 0.0\nmodel M")
    program, tensors = _started(raw, options)
    penal, _ = _started(_with_penalty(raw, 1.7), options)
    plain, other = (_decoder(one, tensors, options, 3, incremental) for one in (program, penal))
    tokens = _tokens(3, 10)  # two more than the window holds
    for length in range(2, 11):
        scores = plain.next(tokens[:, :length])
        expected = scores.copy()
        for row in range(3):
            for token in {*tokens[row, max(0, length - 8) : length].tolist()}:
                expected[row, token] *= 1.7 if expected[row, token] < 0 else 1 / 1.7
        assert (expected != scores).any()
        np.testing.assert_allclose(other.next(tokens[:, :length]), expected, rtol=0, atol=1e-6)


def test_a_penalty_follows_the_parents_of_a_beam() -> None:
    options = Options(target="reference", dtype="f64")
    program, tensors = _started(_with_penalty(decoding("recurrences", _SCORES), 1.3), options)
    steps, whole = (_decoder(program, tensors, options, 3, incremental) for incremental in (True, False))
    tokens, random = _tokens(3, 3), np.random.default_rng(6)
    steps.next(tokens)
    for _ in range(5):
        parents = random.integers(0, 3, 3)
        tokens = np.concatenate([tokens[parents], random.integers(0, 11, (3, 1))], axis=1)
        np.testing.assert_allclose(steps.next(tokens, parents), whole.next(tokens), rtol=0, atol=1e-12)


def test_a_penalty_in_native_code_is_a_setting_of_run_time() -> None:
    text = _with_penalty(decoding("pre-norm blocks"), 1.0)
    program, tensors = _started(text, Options())
    plain, _ = _started(decoding("pre-norm blocks"), Options())
    sequences = [
        list(sampled(_decoder(one, tensors, Options(), 2, incremental), _tokens(2, 3), 9, ()))
        for one in (program, plain)
        for incremental in (True, False)
    ]
    assert all(found == sequences[0] for found in sequences)  # a penalty of 1 changes no bit
    strong = driver.load_text(text, "model.dl", None, (("generate.repetition_penalty", "1e20"),))
    one, other = (
        np.array(list(sampled(_decoder(strong, tensors, Options(), 2, incremental), _tokens(2, 3), 5, ())))
        for incremental in (True, False)
    )
    assert np.array_equal(one, other)
    assert one.tolist() != sequences[0][:5]


def test_a_sequence_does_not_depend_on_those_beside_it() -> None:
    options = Options(target="reference")
    program, tensors = _started(decoding("pre-norm blocks", "temperature(1.0)"), options)
    prompts = np.tile(_tokens(1, 3), (4, 1))
    many = list(sampled(_decoder(program, tensors, options, 4), prompts, 5, ()))
    few = list(sampled(_decoder(program, tensors, options, 1), prompts[:1], 5, ()))
    assert [tokens[:1] for tokens in many] == few
    assert any(len(set(tokens)) > 1 for tokens in many)


def test_a_new_sequence_begins_anew() -> None:
    program, tensors = _started(decoding("recurrences"), Options(target="reference"))
    decoder = _decoder(program, tensors, Options(target="reference"), 1)
    first = [list(sampled(decoder, _tokens(1, n), 4, ())) for n in (2, 5)]
    again = [list(sampled(decoder, _tokens(1, n), 4, ())) for n in (5, 2)]
    assert first == again[::-1]


def test_a_sequence_ends_with_its_stop() -> None:
    options = Options(target="reference")
    program, tensors = _started(decoding("pre-norm blocks", "temperature(3.0)"), options)
    prompts = np.tile(_tokens(1, 2), (3, 1))
    whole = np.array(list(sampled(_decoder(program, tensors, options, 3), prompts, 12, ())))
    stop = [int(token) for token in whole[2:4, 1]]
    ended = list(sampled(_decoder(program, tensors, options, 3), prompts, 12, stop))
    assert [tokens[1] for tokens in ended[:5]] == [*whole[:4, 1].tolist(), None]


# What the step computes


def _step_of(name: str) -> Any:
    return position_graph(complete(driver.load_text(CAUSAL[name], "model.dl")), 1)


def test_the_states_of_attention_are_keys_and_values() -> None:
    states = [i.value.type.shape for i in _step_of("pre-norm blocks").inputs if i.name.startswith("(state)")]
    assert states == [(1, 2, 6, 8), (1, 2, 8, 6)] * 2


def test_the_states_of_a_recurrence_are_its_carries() -> None:
    graph = _step_of("recurrences")
    assert [i.value.type.shape for i in graph.inputs if i.name.startswith("(state)")] == [(1, 10)] * 2 + [(1, 12)] * 2
    assert all(node.op.name != "scan" for node in graph.nodes)


def test_keys_and_values_are_written_in_place() -> None:
    """The products that make them write their row into the states, and nothing is copied."""
    plan = schedule(optimise_graph(_step_of("pre-norm blocks")), batch=1)
    states = {buffer.index for buffer in plan.buffers if buffer.name is not None and buffer.name.startswith("(state)")}
    writers = [instance.kernel for instance in plan.instances if states & {*instance.writes}]
    assert len(writers) == len(states) == 4
    assert all(isinstance(kernel, ContractionKernel) for kernel in writers)


def test_a_step_multiplies_one_position() -> None:
    """Every product of a step but those with the keys and values has a single row."""
    for node in _step_of("pre-norm blocks").nodes:
        if node.op.name == "contraction":
            assert 8 not in node.operands[0].type.shape[:-1]


def test_an_encoder_runs_once() -> None:
    graph = _step_of("an encoder")
    assert [i.name for i in graph.inputs if i.role.value == "data"] == ["tokens"]
    read = {operand.index for node in graph.nodes for operand in node.operands}
    used = {i.name for i in graph.inputs if i.value.index in read}
    assert not any(name.startswith("memory") for name in used)


# Beam search


class _Table:
    """A decoder whose scores are those of a table: rows are the last token."""

    def __init__(self, table: Any) -> None:
        self.table = np.log(np.array(table))

    def restart(self) -> None:
        return

    def next(self, tokens: Any, parents: Any = None) -> Any:
        return self.table[tokens[:, -1]]


def _best(table: Any, length: int) -> list[tuple[float, tuple[int, ...]]]:
    """All sequences from token 0, by the sum of their scores."""
    found = [(0.0, (0,))]
    logs = np.log(np.array(table))
    for _ in range(length):
        found = [(total + logs[t[-1], k], (*t, k)) for total, t in found for k in range(len(table))]
    return sorted(((total, t[1:]) for total, t in found), reverse=True)


def test_a_wide_beam_finds_the_likeliest_sequences() -> None:
    table = np.random.default_rng(8).dirichlet(np.ones(4), 4)
    found = beams(_Table(table), [0], 4, (), 64, 0.0)  # type: ignore[arg-type]
    totals = {tokens: total for total, tokens in _best(table, 4)}
    assert len({hypothesis.tokens for hypothesis in found}) == 64
    np.testing.assert_allclose([h.score for h in found], [totals[h.tokens] for h in found])
    np.testing.assert_allclose([h.score for h in found], sorted(totals.values(), reverse=True)[:64])


def test_a_beam_looks_further_than_the_next_token() -> None:
    table = [[0.1, 0.5, 0.4], [0.4, 0.3, 0.3], [0.98, 0.01, 0.01]]
    assert beams(_Table(table), [0], 2, (), 1, 0.0)[0].tokens == (1, 0)  # type: ignore[arg-type]
    assert beams(_Table(table), [0], 2, (), 2, 0.0)[0].tokens == (2, 0)  # type: ignore[arg-type]


def test_the_length_penalty_prefers_longer_sequences() -> None:
    table = [[0.3, 0.4, 0.3], [0.15, 0.45, 0.4], [1 / 3, 1 / 3, 1 / 3]]  # token 2 ends a sequence
    short, long = (beams(_Table(table), [1], 6, (2,), 3, penalty)[0] for penalty in (0.0, 4.0))  # type: ignore[arg-type]
    assert short.is_finished
    assert len(short.tokens) < len(long.tokens)


def test_beam_search_is_the_same_either_way() -> None:
    program, tensors = _started(decoding("pre-norm blocks", _SCORES), Options())
    one, other = (
        beams(_decoder(program, tensors, Options(), 3, incremental), [1, 2], 7, (4,), 3, 0.6)
        for incremental in (True, False)
    )
    assert [h.tokens for h in one] == [h.tokens for h in other]
    np.testing.assert_allclose([h.score for h in one], [h.score for h in other], rtol=1e-5)
