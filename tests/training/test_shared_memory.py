"""Memory that processes of one machine see of each other, and the reasons why they may not."""

from __future__ import annotations

import errno
import multiprocessing
import os
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from runtime.processes.shared_memory import NotSharedError, Offer, offered, opened


def _change(offer: Offer, done: Connection) -> None:
    opened(offer)[:] = 7
    done.send(None)
    done.recv()


def test_another_process_sees_and_changes_it() -> None:
    offer = offered(1 << 20)
    seen = opened(offer)
    assert seen.nbytes == 1 << 20
    assert not seen.any()
    here, there = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(target=_change, args=(offer, there))
    other.start()
    here.recv()
    assert (seen == 7).all()
    other.kill()
    other.join()
    os.close(offer.descriptor)
    assert (seen == 7).all(), "it lasts as long as somebody sees it"


def test_a_process_that_has_ended_offers_nothing() -> None:
    offer = replace(offered(4096), process=2**22)
    with pytest.raises(NotSharedError, match=r"/proc/4194304/fd/\d+: No such file"):
        opened(offer)
    os.close(offer.descriptor)


def test_a_number_of_another_process_is_recognised() -> None:
    """As in a container, whose processes have numbers of their own."""
    first, second = offered(4096), offered(4096)
    with pytest.raises(NotSharedError, match="another one here"):
        opened(replace(first, descriptor=second.descriptor))
    for offer in (first, second):
        os.close(offer.descriptor)


def test_the_reason_of_a_process_that_offers_nothing_is_passed_on() -> None:
    with pytest.raises(NotSharedError, match="no room"):
        opened("no room")


def test_more_memory_than_there_is_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.processes.shared_memory.available_memory", lambda: 3 << 20)
    with pytest.raises(NotSharedError, match="4 MiB of memory, where 3 are left"):
        offered(4 << 20)


def test_memory_that_the_system_refuses_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NotSharedError, match="a file of 4 MiB in memory: No space left"):
        offered(4 << 20)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_system_without_files_in_memory_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(NotSharedError, match="this system has no files in memory"):
        offered(4096)


def test_an_array_keeps_it_and_nothing_else_does() -> None:
    offer = offered(4096)
    seen: np.ndarray | None = opened(offer)
    os.close(offer.descriptor)
    maps = Path("/proc/self/maps")
    assert "memfd:dlc" in maps.read_text()
    del seen
    assert "memfd:dlc" not in maps.read_text()
