"""Programs compiled by a second process beside this one: lowering is Python, which keeps one processor busy.

The process gets graphs on its standard input and leaves what becomes of them in the cache, where a target finds
it. It tells nothing: this process meets each error again when it compiles the program itself.
"""

from __future__ import annotations

import contextlib
import gc
import pickle
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryFile

from compiler.programs.compilation import Graphs, compile_graphs


@contextlib.contextmanager
def compiled_beside(graphs: Graphs, elsewhere: bool = False) -> Generator[None]:
    """Compiles the graphs while the body of the `with` statement runs, and waits for them at its end."""
    process = _started(graphs, elsewhere) if graphs else None
    try:
        yield
        if process is not None:
            process.wait()
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()


def _started(graphs: Graphs, elsewhere: bool) -> subprocess.Popen[bytes] | None:
    """None where no process can be started. A file, unlike a pipe, does not wait for the process to read."""
    root = Path(__file__).parents[2]
    start = f"import sys; sys.path.insert(0, {str(root)!r}); from compiler.programs.second_process import main; main()"
    with contextlib.suppress(OSError), TemporaryFile() as request:
        pickle.dump((dict(graphs), elsewhere), request, pickle.HIGHEST_PROTOCOL)
        request.seek(0)
        # in a group of its own, so that Ctrl-C in the terminal reaches only its parent
        return subprocess.Popen(
            [sys.executable, "-P", "-c", start],
            stdin=request,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
    return None


def main() -> None:
    """Compile the graphs on standard input."""
    gc.disable()  # it ends soon
    given: tuple[Graphs, bool] = pickle.load(sys.stdin.buffer)  # from the process that started this one
    graphs, elsewhere = given
    compile_graphs(graphs, workers=1, elsewhere=elsewhere)
