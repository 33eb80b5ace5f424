"""Large bodies to requests in a process beside the server: to read 16 MiB of JSON takes a quarter of a second.

That work holds Python's lock, so a thread would stop the loop as well. The process begins with the first such body; it
ends with its standard input, and so with the server.
"""

from __future__ import annotations

import asyncio
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime.serving.refusals import Refusal
from runtime.serving.requests import InferenceRequest, Interface, inference_request

LARGE = 1 << 18  # bytes of JSON, which take some 4 ms


class LargeRequests:
    """Reads one body after the other; all but `read` and `close` runs on a thread that waits for the process."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._thread = ThreadPoolExecutor(1, "dlc-reading")
        self._process: subprocess.Popen[bytes] | None = None

    async def read(self, body: bytes, header_length: int | None) -> InferenceRequest:
        """As `inference_request`. Raises Refusal."""
        found = await asyncio.get_running_loop().run_in_executor(self._thread, self._exchange, body, header_length)
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """End the process, behind what it still reads."""
        self._thread.submit(self._end)
        self._thread.shutdown()

    def _exchange(self, body: bytes, header_length: int | None) -> InferenceRequest | Exception:
        try:
            process = self._process = self._process or _started()
            assert process.stdin is not None
            assert process.stdout is not None
            pickle.dump((body, header_length, self._interface), process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            return pickle.load(process.stdout)  # from a process of our own
        except (OSError, EOFError, pickle.UnpicklingError):
            self._end()
            message, fix = "the process that reads large bodies has ended", "send fewer rows in a request, or try again"
            return Refusal(503, message, "the server", fix, [(b"retry-after", b"1")])

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def _started() -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    start = f"import sys; sys.path.insert(0, {str(root)!r}); from runtime.serving.large_requests import main; main()"
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-P", "-c", start], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)


def main() -> None:
    """Read the bodies on standard input, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the server, too
    while True:
        try:
            body, header_length, interface = pickle.load(sys.stdin.buffer)  # from the server
        except EOFError:
            return
        try:
            found: InferenceRequest | Exception = inference_request(body, header_length, interface)
        except Exception as error:
            found = error
        pickle.dump(found, sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)
        sys.stdout.buffer.flush()
