"""The page of a run that this process trains, served by a second process, so that no step waits for it.

The second process gets a socket that listens and, on its standard input, the run and the token. It ends when this
input does: with the process that began it, however that ends.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from compiler.driver import Options


class PageBeside:
    """A page that is served while the `with` statement runs; `url` is its address, with the token."""

    def __init__(self, run: Path, listening: socket.socket) -> None:
        token = secrets.token_urlsafe(24)
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/?token={token}"
        root = Path(__file__).parents[2]
        start = f"import sys; sys.path.insert(0, {str(root)!r}); from runtime.view.beside import main; main()"
        handle = listening.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(handle,),
            process_group=0,  # Ctrl-C in the terminal reaches only its parent
        )
        listening.close()  # it is the other's
        self._tell({"run": str(run.absolute()), "socket": handle, "token": token})

    def __enter__(self) -> PageBeside:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process.kill()
        self._process.wait()

    def stay(self) -> None:
        """Wait until Ctrl-C, or until nothing is served any more."""
        with suppress(KeyboardInterrupt):
            self._process.wait()

    def _tell(self, what: dict[str, str | int]) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()


def main() -> None:
    """Serve the page of the run that standard input names, until the input ends."""
    told = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    from runtime.view.server import serve  # packages of the extra, which the training does without
    from runtime.view.viewed import viewed_run

    viewed = viewed_run(Path(told["run"]), Options(threads=1), ())
    serve(viewed, socket.socket(fileno=told["socket"]), lambda url, reading: None, told["token"])


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)  # SIGINT is ignored by what a shell begins in the background
