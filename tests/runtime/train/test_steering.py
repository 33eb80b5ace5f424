"""Trainings that pages follow, pause and stop: the same bits, and files of others mean nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from killing import FinalState, final_state, write_project

from compiler.errors.diagnostics import DataError
from runtime.cli.main import INTERRUPTED, main
from runtime.runs import live
from runtime.runs.listing import summary_of
from runtime.runs.live import Asked, Order
from runtime.runs.position import Position
from runtime.support.files import JsonObject
from runtime.train import steering

RUN = Path("run")


class Page:
    """Asks and orders on a thread, as a page does: `steps` is called again and again with the status and a number."""

    def __init__(self, steps: Callable[[Page, int], None], run: Path = RUN) -> None:
        self.run, self.training = run, ""
        self.states: list[str] = []
        self.copies: set[int] = set()
        self.status: JsonObject = {}
        self._steps, self._is_over = steps, False
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> Page:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join(30)

    def tell(self, what: str, number: int, training: str | None = None) -> None:
        live.write_order(self.run, Order(training or self.training, number, what))

    def leave(self) -> None:
        self._is_over = True

    def _follow(self) -> None:
        number = 0
        while not self._is_over:
            self.training = live.training_of(self.run) or ""
            if self.training:
                number += 1
                live.write_asked(self.run, Asked(self.training, number, number))
                self._note()
                self._steps(self, number)
            time.sleep(0.005)

    def _note(self) -> None:
        status, state = live.read_status(self.run), live.read_state(self.run)
        if status is not None:
            self.status = status
            if self.states[-1:] != [status["state"]]:
                self.states.append(str(status["state"]))
        if state is not None:
            self.copies.add(state[1].step)


@pytest.fixture(autouse=True)
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training in a folder of its own that looks for pages whenever it can."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(steering, "_SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(steering, "_SECONDS_OF_A_PAUSE", 0.001)
    monkeypatch.setattr(steering, "_SHARE", 1e6)
    monkeypatch.setattr(steering, "_SHARE_OF_ORDERS", 1.0)
    write_project(tmp_path, epochs=60)


def trained(out: str = "run") -> FinalState:
    assert main(["train", "model.dl", "--out", out, "--json"]) == 0
    return final_state(Path(out))


def test_pauses_and_looks_change_no_bit(capsys: pytest.CaptureFixture[str]):
    alone = trained("alone")
    capsys.readouterr()

    def steps(page: Page, number: int) -> None:
        if number % 4 == 1:
            page.tell(live.PAUSE, number)
        if number % 4 == 3:
            page.tell(live.GO_ON, number)

    with Page(steps) as page:
        followed = trained()
    assert followed == alone
    assert steering.PAUSED in page.states
    assert page.copies  # tensors were copied on the way
    printed = capsys.readouterr().out
    assert '{"event": "pause", ' in printed
    assert '{"event": "go on", ' in printed


def test_stop_after_the_epoch_is_resumed_to_the_same_bits():
    alone = trained("alone")
    with Page(lambda page, number: page.tell(live.STOP, 1)):
        assert main(["train", "model.dl", "--out", "run", "--json"]) == INTERRUPTED
    summary = summary_of(RUN)
    assert summary.state == "interrupted"
    assert 0 < summary.epochs < 60
    assert not (RUN / "live" / live.STATUS).exists()
    assert not (RUN / "live" / live.STATE).exists()
    assert main(["train", "--resume", "run", "--json"]) == 0
    assert final_state(RUN) == alone


def test_a_slow_answer_keeps_no_order_waiting(monkeypatch: pytest.MonkeyPatch):
    """An answer of 0.1 s is the last one for 25 s."""
    write, begin, orders = live.write_status, time.monotonic(), (live.PAUSE, live.STOP, live.GO_ON)

    def slowly(folder: Path, status: JsonObject) -> None:
        time.sleep(0.1)
        write(folder, status)

    def steps(page: Page, _: int) -> None:
        heard = int(str(page.status.get("order", 0)))
        if page.status and heard < len(orders):
            page.tell(orders[heard], heard + 1)

    write_project(Path(), epochs=100_000)
    monkeypatch.setattr(live, "write_status", slowly)
    monkeypatch.setattr(steering, "_SHARE", 0.005)
    monkeypatch.setattr(steering, "_SHARE_OF_ORDERS", 0.001)
    with Page(steps) as page:
        assert main(["train", "model.dl", "--out", "run", "--json"]) == INTERRUPTED
    assert steering.PAUSED in page.states
    assert time.monotonic() - begin < 15


def test_a_look_that_was_held_up_once_keeps_no_order_waiting(monkeypatch: pytest.MonkeyPatch):
    """A look of 0.1 s is the last one for `_LONGEST_BETWEEN_LOOKS`, and not for 100 s."""
    read, begin, orders = live.read_order, time.monotonic(), (live.PAUSE, live.STOP, live.GO_ON)

    def slowly(folder: Path) -> live.Order | None:
        found = read(folder)
        if found is not None:
            time.sleep(0.1)
        return found

    def steps(page: Page, _: int) -> None:
        heard = int(str(page.status.get("order", 0)))
        if page.status and heard < len(orders):
            page.tell(orders[heard], heard + 1)

    write_project(Path(), epochs=100_000)
    monkeypatch.setattr(live, "read_order", slowly)
    monkeypatch.setattr(steering, "_SHARE_OF_ORDERS", 0.001)
    monkeypatch.setattr(steering, "_LONGEST_BETWEEN_LOOKS", 0.5)
    with Page(steps) as page:
        assert main(["train", "model.dl", "--out", "run", "--json"]) == INTERRUPTED
    assert steering.PAUSED in page.states
    assert time.monotonic() - begin < 15


def test_a_stop_can_be_taken_back():
    def steps(page: Page, number: int) -> None:
        orders = (live.PAUSE, live.STOP, live.KEEP_ON, live.GO_ON)
        heard = int(str(page.status.get("order", 0)))
        if heard < len(orders):
            page.tell(orders[heard], heard + 1)

    with Page(steps) as page:
        trained()
    assert int(str(page.status["order"])) >= 3
    assert summary_of(RUN).state == "finished"


def test_orders_for_another_training_and_damaged_files_are_passed_over():
    def steps(page: Page, number: int) -> None:
        folder = page.run / live.FOLDER
        match number % 5:
            case 0:
                page.tell(live.STOP, number, "process 1 on elsewhere since yesterday")
            case 1:
                (folder / live.ORDER).write_bytes(b'{"training": "' + page.training.encode())
            case 2:
                (folder / live.ORDER).write_bytes(b"[" * 100_000)
            case 3:
                (folder / live.ASKED).write_bytes(b"\xff\x00")
            case _:
                page.tell("format the disk", number)

    with Page(steps):
        trained()
    assert summary_of(RUN).state == "finished"


def test_orders_that_a_killed_training_left_are_gone():
    trained()
    (RUN / live.FOLDER).mkdir(exist_ok=True)
    (RUN / live.FOLDER / live.ORDER).write_text("{}")
    assert main(["train", "--resume", "run", "--epochs", "70", "--json"]) == 0
    assert not (RUN / live.FOLDER).exists()


def test_a_training_without_a_page_leaves_no_file():
    trained()
    assert not (RUN / live.FOLDER).exists()


def test_a_folder_that_a_link_leads_to_is_not_written_to(tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run = tmp_path / "other"
    run.mkdir()
    (run / live.FOLDER).symlink_to(elsewhere)
    assert live.live_folder(run) is None
    with pytest.raises(DataError):
        live.write_order(run, Order("", 1, live.STOP))
    assert not list(elsewhere.iterdir())


def test_the_recent_loss_is_that_of_the_rows_since_the_last_look():
    before = Position(step=12, sums={"loss": 20.0}, rows=10)
    assert steering.recent_means(before, Position(step=14, sums={"loss": 50.0}, rows=25), 10) == {"loss": 2.0}
    next_epoch = Position(step=24, sums={"loss": 30.0}, rows=20)
    assert steering.recent_means(before, next_epoch, 10) == {"loss": 1.5}
    assert steering.recent_means(before, Position(step=20), 10) == {}


def test_ctrl_c_ends_a_pause():
    def steps(page: Page, number: int) -> None:
        page.tell(live.PAUSE, 1)
        if steering.PAUSED in page.states:
            os.kill(os.getpid(), signal.SIGINT)
            page.leave()

    write_project(Path(), epochs=100_000)
    with Page(steps):
        assert main(["train", "model.dl", "--out", "run", "--json"]) == INTERRUPTED
    assert summary_of(RUN).state == "interrupted"
