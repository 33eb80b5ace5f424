"""Shrinks a program or a graph that the compiler gets wrong to a small one that it gets wrong in the same way.

    python tests/stress/reduce.py network.dl [--seed 17] [--tree DIR] [--seconds 600] [--output small.dl]
    python tests/stress/reduce.py graph.graph [--batch 5] [--tree DIR]

A file that ends with `.dl` is a program, any other is the text of a graph (`dlc show FILE --stage step`). Each graph of
a program is compiled and compared with the reference; `--seed N` checks it as `check_networks.py` does for this seed
instead, with its thresholds and ways to compile. A smaller text takes the place of the text when it has a fault of
the same kind: a difference from the reference, other bits in one way to run, a failure in one function, a crash.

Texts are judged by the compiler of this checkout, or by that of `--tree`, such as a work tree of an earlier commit, in
processes that a crash or a hang ends. The smallest text so far stands in the output after each step.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_UNJUDGED = "cannot be judged"
_LONGEST = 60  # seconds of a check, beyond which a text hangs


class Judge:
    """A process with the compiler of a checkout, which judges each text in a process of its own."""

    def __init__(self, tree: Path, is_graph: bool, seed: int | None, batch: int) -> None:
        path = (tree, tree / "tests" / "support", _ROOT / "tests" / "support")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
        self._request = {"is_graph": is_graph, "seed": seed, "batch": batch}
        self._server = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tree,
        )
        self.asked = 0

    def kind(self, text: str) -> str | None:
        """The kind of the fault of a text, or None."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self.asked += 1
        self._server.stdin.write(json.dumps({"text": text, **self._request}) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def end(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()


def serve() -> None:
    """Judge the texts on standard input, a line each."""
    for name in ("native", "compiler.driver", "compiler.programs.stages"):  # what every check needs is loaded once
        import_module(name)
    for line in sys.stdin:
        print(json.dumps(_in_a_process(json.loads(line))), flush=True)


def _in_a_process(request: dict[str, object]) -> str | None:
    """What a process finds that may crash or hang."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        from judging import kind_of_fault

        os.dup2(2, 1)
        try:
            kind = kind_of_fault(**request)  # type: ignore[arg-type]
        except Exception as error:
            kind = f"{_UNJUDGED} ({type(error).__name__}: {error})"
        os.write(writer, json.dumps(kind).encode())
        os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], _LONGEST)
    if not ready:
        os.kill(child, signal.SIGKILL)
    answer = os.read(reader, 1 << 16) if ready else b""
    os.close(reader)
    status = os.waitpid(child, 0)[1]
    if not ready:
        return "hangs"
    return json.loads(answer) if answer else f"ends with status {os.waitstatus_to_exitcode(status)}"


def reduce(file: Path, judge: Judge, seconds: float, output: Path, is_graph: bool) -> tuple[str, str]:
    """The kind of the fault and the smallest text that was found to have it in this time."""
    from shrinking import shrunk_graph, shrunk_program

    text, begin = file.read_text(), time.monotonic()
    kind = judge.kind(text)
    if kind is None or kind.startswith(_UNJUDGED):
        sys.exit(f"{file}: {kind or 'it has no fault'}")
    print(f"{file}: {kind}", file=sys.stderr, flush=True)

    def holds(candidate: str) -> bool:
        if time.monotonic() - begin > seconds or judge.kind(candidate) != kind:
            return False
        output.write_text(candidate)
        print(f"{len(candidate)} characters, {judge.asked} texts judged", file=sys.stderr, flush=True)
        return True

    output.write_text(text)
    return kind, (shrunk_graph if is_graph else shrunk_program)(text, holds)


def main() -> None:
    if sys.argv[1:] == ["--serve"]:
        serve()
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--batch", type=int, default=5, metavar="N", help="rows that a graph is run on")
    parser.add_argument("--tree", type=Path, default=_ROOT, metavar="DIR", help="the checkout whose compiler judges")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--output", type=Path, metavar="FILE", help="by default FILE with `small` in its name")
    arguments = parser.parse_args()
    sys.path.insert(0, str(_ROOT / "tests" / "support"))
    file, is_graph = arguments.file, arguments.file.suffix != ".dl"
    judge = Judge(arguments.tree.resolve(), is_graph, arguments.seed, arguments.batch)
    try:
        output = arguments.output or file.with_stem(f"{file.stem}-small")
        kind, text = reduce(file, judge, arguments.seconds, output, is_graph)
    finally:
        judge.end()
    print(f"# {kind}\n{text.rstrip()}")


if __name__ == "__main__":
    main()
