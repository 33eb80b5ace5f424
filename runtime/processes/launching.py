"""A launcher of several processes on this machine: what it prints passes through, and who was killed is told.

The launcher is a child, because it says of a process that was killed no more than a number, and not always the right
one. The first of the processes leaves a note of all, and of the run, in a file that the environment names.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.errors.diagnostics import UsageError
from compiler.support.record import record
from runtime.processes.joining import started_together
from runtime.support.files import missing

if TYPE_CHECKING:
    from runtime.processes.mpi import MpiPeers

_NOTE = "DLC_LAUNCH_NOTE"
# Open MPI on one machine: more processes than cores are no mistake, and threads are not bound to one core.
_OPEN_MPI = {
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
}
_FORWARDED = (signal.SIGINT, signal.SIGTERM)
_OF_A_TERMINAL = 0x80  # the origin of a signal (`si_code`) that the system sends to all processes of a terminal
_SIGNAL_OF_PARENT = 1  # `prctl`: the signal that a process gets when its parent ends
_KEPT = 1 << 14  # bytes of what was printed last
# What MPICH and Open MPI say of a process that a signal has ended.
_BY_SIGNAL = re.compile(rb"EXIT STRING: .*\(signal (\d+)\)|exited on\s+signal (\d+)")
_BETWEEN_LOOKS = 0.1  # seconds, until there is a note


@record
class Killed:
    """A process that a signal has ended, as messages name it, and the run that it worked for, if there was one."""

    name: str
    signal: int
    run: Path | None

    @property
    def reason(self) -> str:
        """The words for the signal."""
        return signal.strsignal(self.signal) or f"signal {self.signal}"


def launched(processes: int, command_line: Sequence[str]) -> tuple[int, Killed | None]:
    """Run so many processes with this command line: the exit code, and who was killed. Raises UsageError."""
    if started_together() > 1:
        raise UsageError("--processes does not go with mpiexec, which has started several", "leave one of them out")
    command = [_launcher(), "-n", str(processes), sys.executable, "-P", "-m", "runtime.cli", *command_line]
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryDirectory(prefix="dlc-") as folder:
        note = Path(folder) / "note"
        environment = {**_OPEN_MPI, **os.environ, _NOTE: str(note)}
        watcher = _Watcher(note)
        code, printed = _run(command, environment, watcher)
        return code, _killed(printed, watcher.ended())


def tell_launcher(peers: MpiPeers, run: Path | None) -> None:
    """Leave a note of all processes and of their run, once there is one, for the launcher, where `launched` has started
    it."""
    name = os.environ.get(_NOTE)
    if name is None or peers.rank:
        return
    names = {str(number): peers.name_of(rank) for rank, (_, number) in enumerate(peers.places)}
    told = {"names": names, "run": None if run is None else str(run)}
    before = Path(f"{name}.new")
    with suppress(OSError):  # a disk that is full is no reason to end a training
        before.write_text(json.dumps(told))
        before.replace(name)


def _launcher() -> str:
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.is_file() else shutil.which("mpiexec")
    if found is None:
        raise missing("mpi4py", "mpi", "`--processes`")
    return found


def _run(command: Sequence[str], environment: Mapping[str, str], watcher: threading.Thread) -> tuple[int, bytes]:
    """The exit code of a command, and the end of what it printed. Signals to this process are sent on to it.

    Threads, such as the `watcher`, are started behind it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    system = ctypes.CDLL(None)
    is_linux = sys.platform.startswith("linux")

    def let_signals_through() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if is_linux:  # whoever kills this process means the training
            system.prctl(_SIGNAL_OF_PARENT, signal.SIGTERM)

    try:
        child = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=let_signals_through
        )
        assert child.stdout is not None
        assert child.stderr is not None
        outlets = [_Outlet(child.stdout.fileno(), 1), _Outlet(child.stderr.fileno(), 2)]
        watcher.start()
        threading.Thread(target=_forward_signals, args=(child,), daemon=True).start()
        for outlet in outlets:
            outlet.join()
        return child.wait(), b"\n".join(outlet.printed for outlet in outlets)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _forward_signals(child: subprocess.Popen[bytes]) -> None:
    """A signal to this process alone is for the child, which has one of the terminal already."""
    while child.returncode is None:
        found = signal.sigtimedwait(_FORWARDED, 1.0)
        if found is not None and found.si_code != _OF_A_TERMINAL and child.returncode is None:
            child.send_signal(found.si_signo)


class _Outlet(threading.Thread):
    """Passes on what comes from a file until it ends; `printed` is the last of it."""

    def __init__(self, source: int, outlet: int) -> None:
        super().__init__(daemon=True)
        self._source, self._outlet, self.printed = source, outlet, b""
        self.start()

    def run(self) -> None:
        while piece := os.read(self._source, 1 << 16):
            self.printed = (self.printed + piece)[-_KEPT:]
            left = memoryview(piece)
            while left:
                try:
                    left = left[os.write(self._outlet, left) :]
                except OSError:  # nobody reads it any more
                    break


class _Watcher(threading.Thread):
    """Waits for the note of the processes, and then for the first of them that ends: the launcher ends the others.

    `epoll` lists what happened in the order in which it did, also to a thread that gets a processor late.
    """

    def __init__(self, note: Path) -> None:
        super().__init__(daemon=True)
        self._note, self._is_over = note, threading.Event()
        self._names: Mapping[str, str] = {}
        self._first: list[str] = []

    def run(self) -> None:
        while not self._note.is_file():
            if self._is_over.wait(_BETWEEN_LOOKS):
                return
        self._names = json.loads(self._note.read_text())["names"]
        numbers: dict[int, str] = {}
        with select.epoll() as watched:
            for number in self._names:
                try:
                    descriptor = os.pidfd_open(int(number))
                except OSError:  # it has ended
                    self._first.append(number)
                    continue
                numbers[descriptor] = number
                watched.register(descriptor, select.EPOLLIN)
            while not self._first and not self._is_over.is_set():
                self._first = [numbers[descriptor] for descriptor, _ in watched.poll(1.0)[:1]]
        for descriptor in numbers:
            os.close(descriptor)

    def ended(self) -> _Ended:
        """What was seen, once the launcher has ended."""
        self._is_over.set()
        self.join()
        run = json.loads(self._note.read_text())["run"] if self._names else None  # known later than the processes
        return _Ended(tuple(f"{self._names[number]} (process {number})" for number in self._first), run)


@record
class _Ended:
    """The first of the processes that have ended, as messages name them, and their run. There are several where these
    had ended before anybody watched."""

    names: tuple[str, ...]
    run: str | None


def _killed(printed: bytes, ended: _Ended) -> Killed | None:
    """Who was killed, where the launcher says that a signal has ended one."""
    found = _BY_SIGNAL.search(printed)
    if found is None:
        return None
    listed = ", ".join(ended.names)
    name = listed if len(ended.names) == 1 else f"one of {listed}" if listed else "one process"
    return Killed(name, int(found[1] or found[2]), None if ended.run is None else Path(ended.run))
