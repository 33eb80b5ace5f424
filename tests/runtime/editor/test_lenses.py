"""Lenses of a text whose model nothing trains, and times in files of the same name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pygls", reason="the extra `lsp` is not installed")

from editor_session import EditorSession
from lsprotocol import types as lsp

USER = """import "parts/model.dl"

model Net(hidden = 64) {
    input x: f32[batch, 32]
    output y = twice(hidden)(x)
}
"""
PARTS = "layer twice(units: int)(x: [batch, n]) {\n    h = x |> dense(units)\n    return h |> tanh |> dense(units)\n}\n"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[EditorSession]:
    found = EditorSession(tmp_path)
    yield found
    found.close()


def test_an_untrained_model_is_profiled_and_times_stand_in_its_own_file(session: EditorSession, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "model.dl").write_text(PARTS, "utf-8")
    (tmp_path / "model.dl").write_text(USER, "utf-8")
    document = session.open(tmp_path / "model.dl")
    lenses = session.ask(session.client.text_document_code_lens_async(lsp.CodeLensParams(document)))
    (lens,) = [lens for lens in lenses if lens.command.command == "dlc.profile"]
    params = lsp.ExecuteCommandParams(lens.command.command, arguments=lens.command.arguments)
    session.ask(session.client.workspace_execute_command_async(params))
    session.until(lambda: any("a step of 1 rows takes" in m or "error" in m for m in session.messages))
    assert not any("error" in message for message in session.messages), session.messages
    timed = {hint.position.line + 1 for hint in session.hints(document) if str(hint.label).endswith("%")}
    assert timed <= {5}, "lines 2 and 3 of the other file have the time"
    other = session.open(tmp_path / "parts" / "model.dl")
    assert not any(str(hint.label).endswith("%") for hint in session.hints(other))
