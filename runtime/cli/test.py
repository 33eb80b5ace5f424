"""Check the derivatives of models, and run the tests that stand in their files.

The gradient of the loss, and of each layer by itself, is compared with central differences in f64, along random
directions; the message names the line of a wrong derivative. A comment there suppresses it: `# dlc: ignore[W1001]`.
The exit code is 1 where a derivative is wrong or a test fails.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from compiler import driver
from compiler.diagnosis.reports import GradientReport, GradientTextCheck, LayerCheck, TestResult
from compiler.errors.diagnostics import Diagnostic, SourceError
from compiler.errors.rendering import render, to_json
from compiler.errors.suggestions import counted
from compiler.support.record import record
from runtime.cli.common import compile_options, folder_of_imports, model_files, print_json
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.tables import Column, laid_out
from runtime.reporting.terminal import print_wrapped, say, styled, wants_colour, width_of
from runtime.support.files import finite

EXAMPLES = ("dlc test model.dl", "dlc test examples --only 'softmax*'", "dlc test model.dl --full --json")


def configure(parser: Parser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="model files, or folders of them")
    parser.add_settings()
    parser.add_flag("--full", "compare the derivative in each element of each layer")
    parser.add_option("--only", "PATTERN", "run the tests of these names, and check no derivatives")
    said = "take the rows of the check from here (default: the data of `train`, or made-up rows)"
    parser.add_option("--data", "PATH", said, type=Path)
    parser.add_whole("--batch", "the number of rows (default: 4)", default=4)
    parser.add_whole("--seed", "the seed of parameters and directions (default: 0)", least=0, default=0)
    parser.add_flag("--gradient", "run the derivative that `dlc show --stage gradient` prints, and compare bits")
    parser.add_flag("--native", "compute the values of tests with compiled code")
    parser.add_json("print the findings as JSON")
    parser.set_defaults(
        threads=None, no_fuse=False, without=[], dtype="f32", verify=False, persistent_loops=False, cache_dir=None
    )
    parser.set_defaults(target="reference", runs_code=True, no_tuning=True)


@record
class _Checked:
    """The derivatives of one experiment or model."""

    name: str
    report: GradientReport
    is_real: bool  # the rows are those of the data
    text: GradientTextCheck | None = None  # where it was asked for, and there is a loss

    @property
    def is_right(self) -> bool:
        return self.report.is_right and (self.text is None or not self.text.differing)

    def to_json(self) -> dict[str, object]:
        checks = [_check_as_json(check) for check in self.report.checks]
        findings = [to_json(finding) for finding in self.report.findings]
        found: dict[str, object] = {
            "name": self.name,
            "made_up_data": not self.is_real,
            "checks": checks,
            "findings": findings,
        }
        return found if self.text is None else {**found, "gradient_text": _text_as_json(self.text)}


def run(arguments: Namespace) -> int:
    files = model_files(arguments.files)
    results = [_run_file(file, arguments) for file in files]
    checked = [one for checks, _ in results for one in checks]
    tests = [one for _, tests in results for one in tests]
    if arguments.json:
        print_json([_file_as_json(*parts) for parts in zip(files, results, strict=True)])
    say(_summary(checked, tests))
    return int(any(not one.is_right for one in checked) or any(test.failures for test in tests))


def _run_file(file: Path, arguments: Namespace) -> tuple[list[_Checked], Sequence[TestResult]]:
    from compiler.diagnosis.test_run import run_tests  # the whole compiler; `--help` must not pay for it

    checked: list[_Checked] = []
    within = folder_of_imports(arguments)
    if arguments.only is None:
        for name in [arguments.experiment] if arguments.experiment else driver.subjects(file, within):
            checked.append(_check(file, name, arguments))
            if not arguments.json:
                _print_checked(file, checked[-1], arguments.batch)
    if arguments.native:
        arguments.target = "native"

    def is_chosen(name: str) -> bool:
        return arguments.only is None or fnmatchcase(name, arguments.only)

    tests = run_tests(file, is_chosen, arguments.seed, compile_options(arguments), within)
    if not arguments.json:
        _print_tests(file, tests)
    return checked, tests


def _check(file: Path, name: str, arguments: Namespace) -> _Checked:
    from compiler.diagnosis.gradient_check import check_gradients
    from runtime.analysis.made_up_steps import rows_for_check
    from runtime.data.dimensions import dimensions_if_there, dimensions_of
    from runtime.inference.model import runtime_settings
    from runtime.runs.position import Length

    data = arguments.data
    known = dimensions_if_there if data is None else dimensions_of(data)
    program = driver.load(file, name, tuple(arguments.settings), known, folder_of_imports(arguments))
    rows, is_real = rows_for_check(program, data, arguments.batch, arguments.seed)
    settings = runtime_settings(program, Length(arguments.batch, arguments.batch, 1))
    if arguments.gradient and program.plan is not None:
        from compiler.diagnosis.gradient_text import check_gradient_text

        options = compile_options(arguments)
        text = check_gradient_text(program, rows, settings, arguments.batch, arguments.seed, options)
        return _Checked(name, GradientReport((), ()), is_real, text)
    report = check_gradients(program, rows, settings, arguments.batch, arguments.seed, arguments.full)
    return _Checked(name, report, is_real)


# As text


def _print_checked(file: Path, checked: _Checked, batch: int) -> None:
    rows = f"{batch} rows of {'the' if checked.is_real else 'made-up'} data"
    what = "derivatives in f64" if checked.text is None else "the printed derivative"
    print(styled(f"{file}: {checked.name}", "bold", sys.stdout) + f", {what}, {rows}")
    checks = checked.report.checks
    _print_rows(
        [{True: "ok", False: "WRONG", None: "?"}[check.is_right] for check in checks],
        ["(all)" if check.path is None else check.path or "(outside of layers)" for check in checks],
        ["" if check.span is None else f"line {check.span.line}" for check in checks],
        [f"{c.error:7.1e}" + (f", {c.elements} elements" if c.elements else "") for c in checks],
    )
    if any(check.is_right is None for check in checks):
        print_wrapped("  Where values are not finite, there is no derivative: give rows by --data PATH.")
    if checked.text is not None:
        _print_text(checked.text)
    _print_findings(checked.report.findings)


def _print_text(text: GradientTextCheck) -> None:
    if text.refusal:
        print_wrapped(f"  The derivative is not printed: {text.refusal}")
        return
    said = f"other bits in {', '.join(text.differing)}" if text.differing else "the same bits"
    verdict = "WRONG" if text.differing else "ok"
    _print_rows([verdict], ["printed gradients"], [""], [f"{text.gradients} compared: {said}"])


def _print_tests(file: Path, tests: Sequence[TestResult]) -> None:
    if tests:
        print(styled(f"{file}: tests", "bold", sys.stdout))
    _print_rows(
        ["FALSE" if test.failures else "ok" for test in tests],
        [test.name for test in tests],
        [f"line {test.span.line}" for test in tests],
        [counted(t.claims, "claim") + (f", {len(t.failures)} of them false" if t.failures else "") for t in tests],
    )
    _print_findings([failure for test in tests for failure in test.failures])


def _print_rows(verdicts: Sequence[str], names: Sequence[str], places: Sequence[str], said: Sequence[str]) -> None:
    columns = [
        Column(" " * 7, verdicts),
        Column("", names, is_text=True, least=16),
        Column("", places, 1, is_text=True),
        Column("", said, is_text=True, least=16, wraps=True),
    ]
    for line in laid_out(columns, width_of(sys.stdout))[1:]:
        print(line)


def _print_findings(findings: Sequence[Diagnostic]) -> None:
    if findings:
        print()
        print(render(SourceError(tuple(findings)), wants_colour(sys.stdout), width_of(sys.stdout)))
        print()


def _summary(checked: Sequence[_Checked], tests: Sequence[TestResult]) -> str:
    wrong = sum(not one.is_right for one in checked)
    failed = sum(bool(test.failures) for test in tests)
    parts: list[str] = []
    if checked:
        found = f"{wrong} with mistakes" if wrong else "no mistakes"
        parts.append(f"derivatives of {counted(len(checked), 'model')} checked: {found}")
    if tests:
        parts.append(f"{counted(len(tests), 'test')}: " + (f"{failed} failed" if failed else "passed"))
    return "; ".join(parts) or "nothing to test: no model, no experiment, no `test`"


# As JSON


def _check_as_json(check: LayerCheck) -> dict[str, object]:
    return {
        "layer": check.path,
        "line": None if check.span is None else check.span.line,
        "error": finite(check.error),
        "right": check.is_right,
        "elements": check.elements,
    }


def _text_as_json(text: GradientTextCheck) -> dict[str, object]:
    return {"gradients": text.gradients, "differing": list(text.differing), "refusal": text.refusal or None}


def _file_as_json(file: Path, result: tuple[list[_Checked], Sequence[TestResult]]) -> dict[str, object]:
    checked, tests = result
    return {
        "file": str(file),
        "derivatives": [one.to_json() for one in checked],
        "tests": [
            {
                "name": test.name,
                "line": test.span.line,
                "claims": test.claims,
                "failures": [to_json(failure) for failure in test.failures],
            }
            for test in tests
        ],
    }
