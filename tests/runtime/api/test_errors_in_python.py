"""What a caller in Python sees of a mistake: the message, and below it what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

import dlc


def test_errors_in_python_say_what_to_do(tmp_path: Path) -> None:
    """Below the message, where a traceback shows it; what a caller sets stands in the call, not on a command line."""
    with pytest.raises(dlc.SourceError) as caught:
        dlc.loads("model M(hidden = 3) {\n    input x: f32[batch, 4]\n    output y = x |> dense(hidde)\n}\n")
    assert "hint: did you mean `hidden`?" in caught.value.__notes__[0]
    assert "--> <text>:3:27" in caught.value.__notes__[0]
    text = "model M(hidden = 3) {\n    input x: f32[batch, 4]\n    output y = x |> dense(hidden)\n}\n"
    with pytest.raises(dlc.SourceError) as caught:
        dlc.loads(text, hidden="many")
    assert str(caught.value).startswith("settings:1:")
    assert "command line" not in caught.value.__notes__[0]
    assert "--set" not in caught.value.__notes__[0]
    assert "hidden=" in caught.value.__notes__[0]
    with pytest.raises(dlc.UsageError) as refused:
        dlc.loads(text, target="cuda")
    assert refused.value.__notes__ == ["hint: it is native or gpu or gpu-emulator or reference"]
    assert str(refused.value) == "`target` cannot be 'cuda'"
    with pytest.raises(dlc.DlcError) as absent:
        dlc.load(tmp_path / "absent.dl")
    assert absent.value.__notes__[0].startswith("hint: ")
