"""Extend a text with a trained model, token by token, as the `generate` of the model file says.

With one of --temperature, --top-k, --top-p and --beam, these alone say how tokens are chosen; temperature 0 takes the
likeliest. The same seed gives the same sequences.

Standard error ends with the tokens per second that the model takes, all sequences together, behind the first token of
each; not of a beam, nor of --input-file.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from compiler.errors.diagnostics import UsageError
from runtime.cli.common import expect_settings_of_use, trained_of
from runtime.cli.parser import Namespace, Parser, key_value, number
from runtime.inference.decoding import Decoder
from runtime.inference.generation import Hypothesis, beams, ends_with, generated_from_lines, growing
from runtime.inference.wording import Wording
from runtime.reporting.terminal import exact, say
from runtime.runs.trained import Trained
from runtime.support.files import json_text

EXAMPLES = (
    'dlc generate RUN --prompt "KING: " --temperature 0.8 --top-k 40',
    'dlc generate RUN --prompt "KING: " --prompt "QUEEN: "',
    "dlc generate RUN --n 5 --seed 1 --json",
    "dlc generate RUN --beam 4 --input source='two dogs run'",
    "dlc generate RUN --input-file source=sentences.txt",
)


_AT_LEAST_0 = number("a number of at least 0", lambda value: value >= 0)
_PENALTY = number("a number from 1e-30 to 1e30", lambda value: 1e-30 <= value <= 1e30)
_SHARE = number("a number above 0 and at most 1", lambda value: 1e-9 <= value <= 1)


def configure(parser: Parser) -> None:
    parser.add_trained()
    begin = parser.add_mutually_exclusive_group()
    said = "the text to extend (default: `start` of `generate`); may be repeated: one after the other, as alone"
    begin.add_argument("--prompt", dest="prompts", action="append", metavar="TEXT", help=said)
    said = "the prompt as numbers of tokens; may be repeated"
    begin.add_argument("--prompt-ids", dest="prompts", action="append", type=_tokens, metavar="1,2,3", help=said)
    parser.add_whole("--n", "the number of sequences of each prompt (default: 1)", default=1)
    parser.add_whole("--max", "the most tokens to add")
    parser.add_whole("--seed", "the seed of random draws (default: 0)", least=0, default=0, metavar="S")
    parser.add_option(
        "--temperature", "T", "divide the scores by T: below 1 likelier tokens, above 1 rarer", type=_AT_LEAST_0
    )
    parser.add_whole("--top-k", "draw among the K likeliest tokens", metavar="K")
    parser.add_option("--top-p", "P", "draw among the likeliest tokens whose probabilities add up to P", type=_SHARE)
    said = "divide positive scores of tokens in the window by R, and multiply the others: above 1 against repetition"
    parser.add_option("--repetition-penalty", "R", said, type=_PENALTY)
    parser.add_whole("--beam", "search for the likeliest sequences with B beams", metavar="B")
    said = "the exponent of the length in beam search; 0.6 favours longer sequences"
    parser.add_option("--length-penalty", "A", said, type=_AT_LEAST_0)
    said = "another input of the model, such as the text to translate; may be repeated"
    parser.add_repeated("--input", "NAME=TEXT", said, dest="inputs", type=key_value)
    said = "a file with one text a line for another input: one sequence for each line, in their order"
    parser.add_option("--input-file", "NAME=FILE", said, type=key_value)
    parser.add_flag("--whole", "compute all positions for each token: slower, with the same result")
    parser.add_json("one JSON object a line: text, tokens, and score of a beam")


def run(arguments: Namespace) -> int:
    arguments.settings = [*arguments.settings, *_overrides(arguments)]
    trained = trained_of(arguments)
    expect_settings_of_use(arguments.settings, trained.program, "generate")
    wording = Wording(trained.program, trained.preparation)
    prompts = [wording.prompt(prompt) for prompt in arguments.prompts or [None]]
    program = trained.program
    generation = program.generation
    assert generation is not None  # the wording has asked for it
    if arguments.input_file is not None:
        return _from_lines(arguments, trained, wording, prompts)
    rows = arguments.n if generation.beam is None else generation.beam.width
    if generation.beam is not None and arguments.n > rows:
        raise UsageError(f"a beam of {rows} has {rows} sequences", f"give --beam {arguments.n}, or a smaller --n")
    inputs = wording.inputs(dict(arguments.inputs))
    decoder = Decoder(program, trained.tensors, trained.options, rows, inputs, arguments.seed, not arguments.whole)
    report = _Json(wording) if arguments.json else GrowingText(wording)
    stop, pace = wording.stop(), TokenPace(decoder)
    for prompt in prompts:
        report.begin(prompt)
        if generation.beam is not None:
            found = beams(decoder, prompt, generation.length, stop, rows, generation.beam.length_penalty)
            for hypothesis in found[: arguments.n]:
                report.whole(hypothesis)
            continue
        streams: list[list[int]] = []
        for streams in pace.timed(growing(decoder, prompt, rows, stop)):
            report.grown(streams[0])
        report.end(streams[0])
        for stream in streams[1:]:
            report.whole(Hypothesis(tuple(stream), 0.0, ends_with(stream, stop)))
    if pace.tokens_per_second is not None:
        say(f"{pace.tokens_per_second:,.0f} tokens/s")
    return 0


def _from_lines(arguments: Namespace, trained: Trained, wording: Wording, prompts: Sequence[Sequence[int]]) -> int:
    """A line of output for each line of the file."""
    if arguments.n > 1 or arguments.inputs or len(prompts) > 1:
        raise UsageError("--input-file gives one sequence for each line", "leave out --n, --input and further prompts")
    name, path = arguments.input_file
    report = _Json(wording) if arguments.json else GrowingText(wording)
    report.begin(prompts[0])
    lines = generated_from_lines(trained, wording, prompts[0], name, Path(path), arguments.seed, not arguments.whole)
    for found in lines:
        report.whole(found)
    return 0


class _Compiling(Protocol):
    compiling_seconds: float


class TokenPace:
    """Tokens behind the first one of each sequence, and the seconds that the model takes for them.

    The first waits for the prompt. Neither programs that are compiled on the way nor the terminal count.
    """

    def __init__(self, decoder: _Compiling) -> None:
        self._decoder, self._tokens, self._seconds = decoder, 0, 0.0

    def timed(self, grown: Iterator[list[list[int]]]) -> Iterator[list[list[int]]]:
        first = count = 0
        while True:
            compiling, begun = self._decoder.compiling_seconds, time.perf_counter()
            streams = next(grown, None)
            if streams is None:
                break
            spent = time.perf_counter() - begun - (self._decoder.compiling_seconds - compiling)
            count = sum(map(len, streams))
            self._seconds += spent if first else 0.0
            first = first or count
            yield streams
        self._tokens += count - first

    @property
    def tokens_per_second(self) -> float | None:
        """None where no sequence has a second token."""
        return self._tokens / self._seconds if self._tokens and self._seconds > 0 else None


def _overrides(arguments: Namespace) -> list[tuple[str, str]]:
    """The values of options in the place of those of `generate`."""
    found: list[tuple[str, str]] = []
    if arguments.max is not None:
        found.append(("generate.length", str(arguments.max)))
    if arguments.repetition_penalty is not None:
        found.append(("generate.repetition_penalty", str(arguments.repetition_penalty)))
    form = _way(arguments)
    if form is not None:
        found.append(("generate.sample", form))
    return found


def _way(arguments: Namespace) -> str | None:
    """The way of sampling that the options ask for, as the language says it."""
    temperature, k, p, beam = arguments.temperature, arguments.top_k, arguments.top_p, arguments.beam
    if beam is not None:
        if any(choice is not None for choice in (temperature, k, p)):
            raise UsageError("--beam draws nothing", "leave out --temperature, --top-k and --top-p")
        return f"beam({beam}, length_penalty = {arguments.length_penalty or 0.0})"
    if arguments.length_penalty is not None:
        raise UsageError("--length-penalty goes with --beam", "add --beam B")
    if temperature == 0:
        return "greedy"
    heat = 1.0 if temperature is None else temperature
    if p is not None:
        return f"top_p({p}, temperature = {heat}, k = {k or 0})"
    if k is not None:
        return f"top_k({k}, temperature = {heat})"
    return None if temperature is None else f"temperature({heat})"


class GrowingText:
    """Text on standard output: the first sequence as it grows, then the others.

    A token's text depends on no more than the token before it: those that the last text came from stand for all before.
    """

    def __init__(self, wording: Wording) -> None:
        self._wording = wording
        self._prompt: Sequence[int] = ()
        self._last: list[int] = []
        self._shown = self._seen = 0  # tokens of the last ones whose text is out, and tokens behind the prompt
        self._count = 0

    def begin(self, prompt: Sequence[int]) -> None:
        """The sequences from here on extend `prompt`; a blank line stands before them."""
        if self._count:
            self._write("\n")
        self._prompt, self._last = prompt, list(prompt)
        self._shown = self._seen = 0

    def grown(self, tokens: Sequence[int]) -> None:
        """Print the new text. Bytes of a character that is not whole yet wait for the others."""
        text = self._new_text(tokens)
        if text and not text.endswith("\ufffd"):
            self._write(text)
            self._last = self._last[self._shown :]
            self._shown = len(self._last)

    def end(self, tokens: Sequence[int]) -> None:
        self._write(self._new_text(tokens) + "\n")
        self._count += 1

    def _new_text(self, tokens: Sequence[int]) -> str:
        self._last += tokens[self._seen :]
        self._seen = len(tokens)
        return self._wording.text(self._last)[len(self._wording.text(self._last[: self._shown])) :]

    def whole(self, hypothesis: Hypothesis) -> None:
        text = self._wording.text([*self._prompt, *hypothesis.tokens])
        self._write(("\n" if self._count and "\n" in text.rstrip("\n") else "") + text + "\n")
        self._count += 1

    def _write(self, text: str) -> None:
        out = exact(sys.stdout)
        out.write(text)
        out.flush()


class _Json:
    """A line for each sequence when it is complete. The tokens are those after the prompt."""

    def __init__(self, wording: Wording) -> None:
        self._wording = wording
        self._prompt: Sequence[int] = ()

    def begin(self, prompt: Sequence[int]) -> None:
        """The sequences from here on extend `prompt`."""
        self._prompt = prompt

    def grown(self, tokens: Sequence[int]) -> None:
        return

    def end(self, tokens: Sequence[int]) -> None:
        self._line(tokens, {})

    def whole(self, hypothesis: Hypothesis) -> None:
        score = {} if hypothesis.score == 0.0 else {"score": hypothesis.score, "finished": hypothesis.is_finished}
        self._line(hypothesis.tokens, score)

    def _line(self, tokens: Sequence[int], more: Mapping[str, object]) -> None:
        text = {"text": self._wording.text([*self._prompt, *tokens])} if self._wording.has_words else {}
        line = {**text, "prompt": list(self._prompt), "tokens": list(tokens), **more}
        print(json_text(line), flush=True)


def _tokens(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 0:
        raise argparse.ArgumentTypeError(f"wants tokens such as 1,2,3, not `{text}`")
    return found
