"""The page on a server: only its own browser is answered, edits follow at once, and nothing is saved unless asked."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT
from view_pages import SMALL, browser, opened, written

from compiler.errors.diagnostics import DlcError, UsageError
from compiler.interface import Options
from runtime.cli.main import main
from runtime.view import document, viewed
from runtime.view.server import Server
from runtime.view.session import Session
from runtime.view.viewed import viewed_file, viewed_run

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")
httpx = pytest.importorskip("httpx2", reason="httpx2 is not installed")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[str, Path]]:
    """The address that `dlc view --json` prints, and the file; SIGINT ends it with exit code 0."""
    path = written(tmp_path_factory.mktemp("served"))
    command = [sys.executable, "-m", "runtime.cli", "view", str(path), "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        yield json.loads("".join(lines))["url"], path
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.fixture
def client(served: tuple[str, Path]) -> Generator[Any]:
    address, token = served[0].split("/?token=")
    with httpx.Client(base_url=address, headers={"x-dlc-token": token}, trust_env=False, timeout=30) as found:
        yield found


def whole(client: Any) -> Any:
    """The document once its code is there."""
    for _ in range(200):
        document = client.get("/document").json()
        if document["live"]["whole"]:
            return document
        time.sleep(0.1)
    raise AssertionError("no code was made")


def test_only_who_knows_the_token_is_answered(served: tuple[str, Path]):
    address, token = served[0].split("/?token=")
    with httpx.Client(base_url=address, trust_env=False) as stranger:
        for path in ("/", "/document", "/events", "/code/k", "/?token=wrong"):
            assert stranger.get(path).status_code == 403, path
        for path in ("/text", "/save", "/profile", "/values"):
            assert stranger.post(path, json={"text": ""}).status_code == 403, path
        assert stranger.get(f"/?token={token}").status_code == 303
        assert "HttpOnly" in stranger.get(f"/?token={token}").headers["set-cookie"]
        assert "SameSite=strict" in stranger.get(f"/?token={token}").headers["set-cookie"]
        assert stranger.get("/document").status_code == 200  # by the cookie


def test_other_names_and_other_sites_are_refused(client: Any):
    assert client.get("/document", headers={"host": "attacker.example"}).status_code == 421
    assert client.get("/?token=x", headers={"host": "attacker.example"}).status_code == 421
    assert client.post("/text", json={"text": ""}, headers={"origin": "http://attacker.example"}).status_code == 403
    assert client.post("/text", json={"text": ""}, headers={"origin": "null"}).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"text": 1}',
        b"\xff",
        b'{"text": "\\ud800"}',
        b"[" * 200_000,
        json.dumps({"text": "x" * (1 << 21)}).encode(),
    ],
    ids=["empty", "list", "number", "bytes", "half of a pair", "nested", "long"],
)
def test_what_is_no_text_is_refused(client: Any, body: bytes):
    for path in ("/text", "/save"):
        answer = client.post(path, content=body)
        assert answer.status_code == 400
        assert set(answer.json()) == {"error", "fix"}


def test_an_edit_is_followed_and_nothing_is_saved_unless_asked(client: Any, served: tuple[str, Path]):
    path = served[1]
    found = client.post("/text", json={"text": SMALL.replace("hidden = 12", "hidden = 20")}).json()
    assert [b["rounds"][0]["shape"] for b in found["bindings"] if b["line"] == 6] == ["f32[batch, 20]"]
    assert not found["live"]["saved"]
    assert path.read_text() == SMALL
    document = whole(client)
    assert document["plan"]["parameters"] == 6 * 20 + 20 + 20 * 20 + 20 + 20 * 3 + 3
    symbol = document["kernels"][0]["symbol"]
    assert "ret" in client.get(f"/code/{symbol}").json()["asm"]["text"]
    assert client.get("/code/none").status_code == 404
    wrong = client.post("/text", json={"text": SMALL.replace("dense(3)", "dens(3)")}).json()
    assert [finding["severity"] for finding in wrong["findings"]] == ["error"]
    assert client.post("/text", json={"text": SMALL}).json()["live"]["saved"]


@pytest.mark.parametrize("text", ["model M {\n", "@", "", "model M {\n    output y = " + "(" * 5000 + "\n}\n"])
def test_a_text_that_does_not_parse_stays_on_the_page(client: Any, text: str):
    document = client.post("/text", json={"text": text}).json()
    assert [source["text"] for source in document["sources"]] == [text]
    assert document["findings"]
    assert client.post("/text", json={"text": SMALL}).json()["sources"][0]["text"] == SMALL


def test_a_page_reads_its_text_once_and_makes_the_code_of_the_same_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    counts = {"read": 0, "forms_of": 0}

    def counted(module: Any, name: str) -> None:
        work = getattr(module, name)

        def counting(*given: Any) -> Any:
            counts[name] += 1
            return work(*given)

        monkeypatch.setattr(module, name, counting)

    counted(viewed, "read")
    counted(document, "forms_of")
    told = threading.Event()
    session = Session(
        viewed.viewed_file(written(tmp_path), Options(threads=1), None, (), None), lambda kind, data: told.set()
    )
    try:
        assert told.wait(60)
        assert session.shown.is_whole
        assert counts == {"read": 1, "forms_of": 1}
    finally:
        session.close()


def test_a_text_is_saved_unless_the_file_has_changed(tmp_path: Path):
    path = written(tmp_path)
    session = Session(viewed_file(path, Options(threads=1), None, (), None), lambda kind, data: None)
    try:
        session.save(SMALL + "# one\n")
        assert path.read_text() == SMALL + "# one\n"
        path.write_text(SMALL + "# by another editor\n")
        with pytest.raises(UsageError, match="has changed"):
            session.save(SMALL + "# two\n")
        assert path.read_text() == SMALL + "# by another editor\n"
    finally:
        session.close()


def test_a_file_that_another_editor_saves_is_shown_unless_there_are_changes_here(tmp_path: Path):
    path = written(tmp_path)
    told: list[str] = []
    session = Session(viewed_file(path, Options(threads=1), None, (), None), lambda kind, data: told.append(kind))
    try:
        path.write_text(SMALL.replace("dense(3)", "dense(3, bias = false)"))
        session.follow_file()
        assert "changed" in told
        assert "bias = false" in session.shown.text
        session.edit(SMALL)
        path.write_text(SMALL + "# by another editor\n")
        session.follow_file()
        assert session.shown.text == SMALL
    finally:
        session.close()


def test_a_file_that_is_gone_is_told_of_and_can_be_saved_anew(tmp_path: Path):
    path = written(tmp_path)
    told: list[str] = []
    session = Session(viewed_file(path, Options(threads=1), None, (), None), lambda kind, data: told.append(kind))
    try:
        path.unlink()
        for _ in range(2):
            session.follow_file()
        assert told.count("failed") == 1
        live: Any = session.document(session.shown)["live"]
        assert not live["saved"]
        session.save(SMALL)
        assert path.read_text() == SMALL
        path.unlink()
        path.mkdir()
        with pytest.raises(DlcError):
            session.save(SMALL)
    finally:
        session.close()


def test_a_text_without_a_model_has_its_mistake_on_the_page(tmp_path: Path):
    viewed = viewed_file(written(tmp_path, text="fn twice(x) = 2 * x\n"), Options(threads=1), None, (), None)
    reading = viewed.reading()
    assert [finding.code for finding in reading.findings] == ["E0609"]
    assert "lines" not in viewed.page(reading).document


def test_a_step_is_measured_when_it_is_asked_for(client: Any):
    client.post("/text", json={"text": SMALL})
    measured = client.post("/profile", json={}).json()
    assert measured["step_ms"] > 0
    assert {row["line"] for row in measured["lines"]} >= {6, 10}


def test_a_browser_edits_and_follows(served: tuple[str, Path]):
    with browser() as running, opened(running, served[0]) as tab:
        assert "token" not in tab.url
        tab.keyboard.press("e")
        area = tab.get_by_label("the text of the model")
        area.fill(SMALL.replace("dense(3)", "dense(3, bias = false)"))
        tab.locator("#line-0-10 .shape", has_text="f32[batch, 3]").wait_for()
        tab.locator("#line-0-10 .r", has_text="36").first.wait_for()
        area.fill(SMALL.replace("dense(3)", "dens(3)"))
        tab.locator(".strip", has_text="dens").wait_for()
        assert tab.inner_text("#title") == "Net", "a text with mistakes is called as before"
        area.fill(SMALL)
        tab.keyboard.press("Escape")
        tab.locator("#line-0-10").click()
        tab.locator("#tabs").get_by_role("tab", name="Assembly").click()
        tab.wait_for_selector(".listing .l.own", timeout=30_000)
    assert served[1].read_text() == SMALL


def test_a_browser_shows_values_and_curves_of_a_run(tmp_path: Path):
    folder = tmp_path / "run"
    digits = ROOT / "examples" / "digits" / "model.dl"
    assert main(["train", str(digits), "--epochs", "2", "--out", str(folder), "--threads", "1"]) == 0
    command = [sys.executable, "-m", "runtime.cli", "view", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            with browser() as running, opened(running, process.stdout.readline().strip()) as tab:
                assert tab.get_by_role("button", name="Edit").count() == 0  # a run keeps its text
                tab.locator("#line-0-4").click()
                tab.keyboard.press("8")
                tab.locator(".value", has_text="logits").first.wait_for()
                first = tab.inner_text("#body")
                tab.get_by_label("next row").click()
                tab.wait_for_selector("input[type=number][value='1'], .value")
                tab.wait_for_timeout(200)
                assert tab.locator("input[type=number]").input_value() == "1"
                assert tab.inner_text("#body") != first
                expect_no_cells_behind_the_last(tab)
                change_a_weight(tab)
                tab.keyboard.press("r")
                assert tab.locator("#run svg path").count() >= 2
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0


def expect_no_cells_behind_the_last(tab: Any) -> None:
    """A vector of 128 stands in rows of 12, the last of which has 8 elements."""
    canvas = tab.locator(".value", has_text="logits.dense.b").locator("canvas.goes").first
    last = "canvas => [...canvas.getContext('2d').getImageData(0, canvas.height - 1, 12, 1).data]"
    assert canvas.evaluate(last)[3::4] == [255] * 8 + [0] * 4


def change_a_weight(tab: Any) -> None:
    """An element is chosen in a picture and changed; the outputs and the differences of lines follow; it is undone."""
    tab.locator(".value", has_text="logits.dense.b").locator("canvas.goes").first.click()
    tab.locator("select[aria-label=tensor] option:checked", has_text="logits.dense.b").wait_for(state="attached")
    place = tab.get_by_label("which elements").input_value()
    assert 0 <= int(place) < 128
    tab.get_by_label("value", exact=True).fill("100")
    tab.keyboard.press("Enter")
    tab.locator(".chip", has_text=f"logits.dense.b[{place}] = 100").wait_for()
    tab.locator(".differences a").first.wait_for()
    assert tab.locator(".outputs td", has_text="+").count() + tab.locator(".outputs td", has_text="−").count() > 0
    tab.get_by_label("gradients").check()
    tab.locator(".value", has_text="gradient of the loss in logits").first.wait_for()
    tab.get_by_label("undo").click()
    tab.locator(".chip").wait_for(state="detached")


def test_mistakes_are_told_in_the_terminal_too(tmp_path: Path):
    path = written(tmp_path, text=SMALL.replace("dense(3)", "dens(3)"))
    command = [sys.executable, "-m", "runtime.cli", "view", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "token" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 0
    assert "dens" in said
    assert "net.dl:10" in said


def test_a_missing_file_is_told_before_anything_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["view", str(tmp_path / "none.dl")]) == 2
    assert "there is no file" in capsys.readouterr().err


@contextmanager
def served_alone(path: Path) -> Generator[tuple[str, Any]]:
    command = [sys.executable, "-m", "runtime.cli", "view", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def test_no_page_saves_over_what_another_has_saved(tmp_path: Path):
    path = written(tmp_path)
    with served_alone(path) as (url, _), browser() as running:
        context = running.new_context()
        one, other = context.new_page(), context.new_page()
        for tab in (one, other):
            tab.goto(url)
            tab.wait_for_selector(".row.head")
        one.keyboard.press("e")
        one.get_by_label("the text of the model").fill(SMALL.replace("dense(3)", "dense(3, bias = false)"))
        other.locator("#line-0-10", has_text="bias").wait_for()  # what is not edited there follows
        other.keyboard.press("e")
        other.get_by_label("the text of the model").fill(SMALL.replace("relu", "tanh"))
        other.keyboard.press("Control+s")
        other.locator(".state", has_text="saved").wait_for()
        assert "bias" in one.get_by_label("the text of the model").input_value()
        one.get_by_label("the text of the model").focus()
        one.keyboard.press("Control+s")
        one.locator(".state", has_text="was saved elsewhere").wait_for()
        assert path.read_text() == SMALL.replace("relu", "tanh")


@pytest.mark.parametrize("text", [SMALL, SMALL.replace("relu", "tanh")])
def test_the_terminal_tells_of_changes_that_were_not_saved(tmp_path: Path, text: str):
    with served_alone(written(tmp_path)) as (url, process), browser() as running:
        tab = running.new_page()
        tab.goto(url)
        tab.wait_for_selector(".row.head")
        tab.keyboard.press("e")
        tab.get_by_label("the text of the model").fill(text + " ")
        tab.get_by_label("the text of the model").fill(text)
        tab.locator("#line-0-6 .shape", has_text="f32[batch, 12]").wait_for()
        tab.wait_for_timeout(500)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    assert ("were not saved" in said) is (text != SMALL)


def test_no_page_is_told_the_code_or_the_values_of_another_text(client: Any):
    version = client.post("/text", json={"text": SMALL}).json()["live"]["version"]
    symbol = whole(client)["kernels"][0]["symbol"]
    asked = ("GET", f"/code/{symbol}"), ("POST", "/values"), ("POST", "/profile")
    for method, path in asked:
        refused = client.request(method, path, headers={"x-dlc-version": str(version - 1)}, json={})
        assert (refused.status_code, refused.json()["error"]) == (409, "another page shows another text")
    assert client.get(f"/code/{symbol}", headers={"x-dlc-version": str(version)}).status_code == 200


def test_a_page_whose_server_was_killed_says_so_and_keeps_the_text(tmp_path: Path):
    with served_alone(written(tmp_path)) as (url, process), browser() as running:
        tab = running.new_page()
        wrong: list[str] = []
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(url)
        tab.wait_for_selector(".row.head")
        tab.locator(".figures", has_text="memory").wait_for(timeout=60_000)  # its code is there
        process.kill()
        tab.locator(".state", has_text="the server has ended").wait_for()
        tab.locator("#line-0-10").click()
        for key in ("7", "8"):
            tab.keyboard.press(key)
            tab.locator("#body .error", has_text="the server has ended").first.wait_for()
        tab.keyboard.press("p")
        tab.keyboard.press("Escape")
        tab.keyboard.press("e")
        tab.get_by_label("the text of the model").fill("# mine\n")
        tab.keyboard.press("Control+s")
        tab.locator(".state", has_text="can be copied").wait_for()
        assert tab.get_by_label("the text of the model").input_value() == "# mine\n"
        assert wrong == []


def test_the_page_of_a_run_that_was_deleted_says_so(tmp_path: Path):
    model = ROOT / "examples" / "xor" / "model.dl"
    assert main(["train", str(model), "--epochs", "1", "--out", str(tmp_path / "run"), "--json"]) == 0
    server = Server(viewed_run(tmp_path / "run", Options(threads=1), ()), 80)
    shutil.rmtree(tmp_path / "run")

    async def asked(path: str) -> Any:
        found = httpx.ASGITransport(app=server.application)
        headers = {"x-dlc-token": server.token, "host": "127.0.0.1:80"}
        async with httpx.AsyncClient(transport=found, base_url="http://127.0.0.1:80", headers=headers) as client:
            return await client.get(path)

    try:
        for path in ("/", "/document"):
            answer = asyncio.run(asked(path))
            assert answer.status_code == 409
            assert "there is no such run" in answer.text
    finally:
        server.session.close()
