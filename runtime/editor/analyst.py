"""Texts to facts by the worker process, one at a time; one that is no longer asked for and takes long is stopped."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from collections.abc import Callable

from runtime.editor.worker import Answer, Request, read_message, write_message

_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from runtime.editor.worker import main; main()"
_PATIENCE = 1.0
"""Seconds that work for an old text goes on while a newer one waits; a new process needs half of that.

They are more where the last answer took long, and double each time that work was stopped, so that a busy machine gets
ahead.
"""
_MOST_PATIENCE = 16.0


class Analyst:
    """Asks the worker, which is started when it is first needed and again when it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = asyncio.Lock()
        self._work: asyncio.Future[Answer] | None = None
        self._patience = _PATIENCE
        self._is_wanted = True  # whether somebody waits for what the worker does

    async def start(self) -> None:
        """Have a process ready, so that the first text does not wait for it."""
        async with self._turn:
            self._running()

    async def examine(self, request: Request, meanwhile: Callable[[], None] = lambda: None) -> Answer:
        """The facts of a text; `meanwhile` is called when the worker has it.

        Work for which nobody waits any longer is stopped when it keeps another waiting.
        """
        if self._turn.locked():
            asyncio.get_running_loop().call_later(self._patience, self._stop_unwanted, self._work)
        await self._turn.acquire()
        self._is_wanted = True
        work = self._work = asyncio.ensure_future(self._asked(request, meanwhile))
        work.add_done_callback(lambda _: self._turn.release())
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self._is_wanted = False
            raise

    def _stop_unwanted(self, work: asyncio.Future[Answer] | None) -> None:
        if work is None or work is not self._work or work.done() or self._is_wanted:
            return
        if self._process is not None:
            self._patience = min(2 * self._patience, _MOST_PATIENCE)
            self._process.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-P", "-c", _CHILD, json.dumps(sys.path)]
            # threads wait for its pipes: a process of asyncio must be gone before the loop ends, which it may not be
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self._process

    async def _asked(self, request: Request, meanwhile: Callable[[], None]) -> Answer:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            await asyncio.to_thread(write_message, process.stdin, request)
            meanwhile()
            answer = await asyncio.to_thread(read_message, process.stdout)
        except asyncio.CancelledError:
            self.close()  # which ends the thread
            raise
        except (OSError, EOFError, pickle.UnpicklingError):
            answer = None
        if not isinstance(answer, Answer):
            self.close()
            return Answer(None, None, "the examination ended early")
        self._patience = min(max(_PATIENCE, 3 * answer.seconds), _MOST_PATIENCE)
        return answer

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
