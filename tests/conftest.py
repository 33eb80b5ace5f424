"""Fixtures of all tests: `--update-golden`, and the golden files of the whole session, in one process or several."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from golden import Golden, stale

_USED = pytest.StashKey[set[str]]()
_TOLD = "golden files used"  # the name under which a worker of pytest-xdist tells the controller what it used


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files with what the tests produce")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_USED] = set()


@pytest.fixture(scope="module", autouse=True)
def _no_search_for_cycles_among_what_stays() -> None:
    """Each command but the first collects garbage; the thousands of tests and all modules would make that 0.2 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def code_without_workers() -> Generator[None]:
    """Kernels are compiled by the process of the tests: a worker's start takes as long as the code of a small program.

    A module whose tests are about workers has a fixture of this name that leaves them as they are.
    """
    from compiler.targets.llvm import codegen_worker

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codegen_worker, "TINY_TEXT", sys.maxsize)
        patch.setattr(codegen_worker.WorkerPool, "start_early", lambda self: None)
        yield


@pytest.fixture(scope="session")
def code_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for the tests of all processes: a kernel that several of their programs have is compiled once."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def golden(pytestconfig: pytest.Config) -> Golden:
    """Compares a text with a golden file: `golden("checker/unknown_name.error", text)`."""
    return Golden(update=bool(pytestconfig.getoption("--update-golden")), used=pytestconfig.stash[_USED])


def pytest_sessionfinish(session: pytest.Session) -> None:
    output: dict[str, list[str]] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_TOLD] = sorted(session.config.stash[_USED])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The controller of pytest-xdist hears from a worker that ended; a worker that crashed tells nothing."""
    node.config.stash[_USED].update(getattr(node, "workeroutput", {}).get(_TOLD, ()))


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """After all tests, by whichever processes, a golden file that none of them used is one more failure."""
    result = yield
    if _is_whole_run(session) and (left_over := stale(session.config.stash[_USED])):
        _report_failure(session.config, "no test uses these files below tests/golden:\n" + "\n".join(left_over))
    return result


def _is_whole_run(session: pytest.Session) -> bool:
    """Whether every test of the project ran, so that a golden file which none of them used is stale.

    An option is missing where its plugin is switched off, as `lf` is by `-p no:cacheprovider`.
    """
    config = session.config
    chosen = ("keyword", "markexpr", "deselect", "lf", "ignore", "ignore_glob", "collectonly", "setuponly", "setupplan")
    is_part = hasattr(config, "workerinput") or any(config.getoption(option, None) for option in chosen)
    return not is_part and not session.testsfailed and config.args_source.name == "TESTPATHS"


def _report_failure(config: pytest.Config, message: str) -> None:
    name = "golden files"
    report = pytest.TestReport(name, ("tests/golden", None, name), {}, "failed", message, "call")
    config.hook.pytest_runtest_logreport(report=report)
