"""Sessions with `dlc lsp`, as an editor leads them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

pytest.importorskip("pygls", reason="the extra `lsp` is not installed")

from editor_session import EditorSession, position_of
from lsprotocol import types as lsp

MODEL = """# é 😀 stands before everything
model Small(hidden = 8) {
    input x: f32[batch, 4]
    h = x |> dense(hidden, bias = false)
        |> tanh
        |> dense(3)
    output y = h
}

train Small {
    target t: f32[batch, 3]
    loss = mse(y, t)
    optimizer = adam(lr = 1e-3)
    batch = 16
    epochs = 2
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def session(folder: Path) -> Iterator[EditorSession]:
    found = EditorSession(folder)
    yield found
    found.close()


@pytest.fixture(scope="module")
def small(session: EditorSession, folder: Path) -> lsp.TextDocumentIdentifier:
    path = folder / "small.dl"
    path.write_text(MODEL, "utf-8")
    return session.open(path)


def checked(path: Path) -> list[dict[str, Any]]:
    """The findings of `dlc check`."""
    command = [sys.executable, "-m", "runtime.cli", "check", str(path), "--json"]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=False).stdout)


def label_of(hint: lsp.InlayHint) -> str:
    assert isinstance(hint.label, str)
    return hint.label


@pytest.mark.parametrize("name", ["examples/xor/model.dl", "examples/gpt/model.dl", "examples/wine/model.dl"])
def test_findings_are_those_of_check(session: EditorSession, folder: Path, name: str) -> None:
    """Lints and what the data has to say included, with codes that lead to the error index."""
    path = ROOT / name
    document = session.open(path)
    session.findings_of(document, 0)
    expected = sorted((d["code"], d["line"]) for d in checked(path))

    def told() -> list[tuple[str, int]]:
        return sorted((str(d.code), d.range.start.line + 1) for d in session.findings[document.uri].diagnostics)

    session.until(lambda: told() == expected)


def test_a_mistake_is_told_with_its_hint_and_its_related_places(session: EditorSession, folder: Path) -> None:
    path = folder / "wrong.dl"
    path.write_text(MODEL.replace("h = x |> dense", "h = x |> dnse").replace("f32[batch, 3]", "f32[batch, 5]"), "utf-8")
    document = session.open(path)
    (unknown,) = session.findings_of(document, 0)
    assert unknown.code == "E0201"
    assert "did you mean `dense`?" in unknown.message
    assert unknown.code_description is not None
    assert unknown.code_description.href.endswith("index.md#e0201")
    assert unknown.range == lsp.Range(lsp.Position(3, 13), lsp.Position(3, 17))
    session.change(document, 1, path.read_text("utf-8").replace("dnse", "dense"))
    (shapes,) = session.findings_of(document, 1)
    assert shapes.code == checked_code(folder, path.read_text("utf-8").replace("dnse", "dense"))
    assert shapes.related_information
    assert {info.location.uri for info in shapes.related_information} == {document.uri}


def checked_code(folder: Path, text: str) -> str:
    path = folder / "compared.dl"
    path.write_text(text, "utf-8")
    return checked(path)[0]["code"]


def test_hints_have_shapes_as_messages_print_them_and_parameters(
    session: EditorSession, small: lsp.TextDocumentIdentifier
) -> None:
    found = [(hint.position.line + 1, label_of(hint)) for hint in session.hints(small)]
    assert found == [
        (3, "f32[batch, 4]"),
        (4, ": f32[batch, 3]"),
        (4, "f32[batch, 8]"),
        (4, "32 parameters"),
        (5, "f32[batch, 8]"),
        (6, "27 parameters"),
        (7, ": f32[batch, 3]"),
        (11, "f32[batch, 3]"),
        (12, ": f32[]"),
    ]


def test_a_half_written_line_leaves_the_shapes_of_the_others(session: EditorSession, folder: Path) -> None:
    path = folder / "half.dl"
    path.write_text(MODEL, "utf-8")
    document = session.open(path)
    session.change(document, 1, MODEL.replace("    output y", "    z = dense(\n    output y"))
    found = {hint.position.line + 1: label_of(hint) for hint in session.hints(document) if hint.kind is not None}
    assert found[4] == ": f32[batch, 3]"
    assert found[8] == ": f32[batch, 3]"
    assert [d.code for d in session.findings_of(document, 1)] == ["E0102"]


def test_hover_tells_type_origin_documentation_and_settings(
    session: EditorSession, small: lsp.TextDocumentIdentifier
) -> None:
    def hovered(mark: str, further: int = 0, count: int = 1) -> str:
        params = lsp.HoverParams(small, position_of(MODEL, mark, further, count))
        answer = session.ask(session.client.text_document_hover_async(params))
        assert answer is not None
        return answer.contents.value

    tensor = hovered("h = x")
    assert "h: f32[batch, 3]" in tensor
    assert "`3` comes from `dense(3)`, [line 6]" in tensor
    layer = hovered("dense(hidden", 2)
    assert "z = x W + b" in layer
    assert "Rosenblatt" in layer
    assert "stdlib/layers/dense.dl#L3" in layer
    assert "gives f32[batch, 8]" in layer
    assert "`8` comes from `dense(hidden, bias = false)`, [line 4]" in layer
    step = hovered("tanh", 1)
    assert "gives f32[batch, 8]" in step
    assert "`batch` comes from `batch`, [line 3]" in step
    assert "`8` comes from `dense(hidden, bias = false)`, [line 4]" in step
    assert "`hidden = 8`, from its default" in hovered("hidden, bias")
    assert "`optimizer.lr = 0.001`, from `train`" in hovered("lr = 1e-3")
    assert "`optimizer.beta1 = 0.9`, from its default" in hovered("optimizer")
    assert "How many rows a step takes" in hovered("batch = 16")


def test_completion_offers_what_fits_the_place(session: EditorSession, folder: Path) -> None:
    path = folder / "completed.dl"

    def offered(old: str, new: str) -> list[str]:
        text = MODEL.replace(old, new.replace("¦", ""))
        path.write_text(MODEL, "utf-8")
        document = session.open(path, text)
        place = position_of(MODEL.replace(old, new), "¦")
        answer = session.ask(session.client.text_document_completion_async(lsp.CompletionParams(document, place)))
        session.client.text_document_did_close(lsp.DidCloseTextDocumentParams(document))
        return [item.label for item in sorted(answer.items, key=lambda item: item.sort_text)]

    assert offered("dense(3)", "dense(3, ¦)")[:4] == ["bias", "biases", "units", "weights"]
    assert "glorot_uniform" in offered("dense(3)", "dense(3, weights = ¦)")
    keys = offered("    batch = 16", "    ¦")
    assert "schedule" in keys
    assert "loss" not in keys
    assert "momentum" in offered("optimizer = adam(lr = 1e-3)", "optimizer = ¦")
    assert {"h", "x", "conv2d", "relu"} <= set(offered("output y = h", "output y = ¦"))
    assert "csv" in offered("    epochs = 2", "    data = ¦")
    assert "header" in offered("    epochs = 2", '    data = csv("x.csv", ¦')
    assert "Small" in offered("train Small", "train ¦")
    assert offered("    epochs = 2", "    # ¦") == []


def test_signatures_mark_the_argument(session: EditorSession, small: lsp.TextDocumentIdentifier) -> None:
    def shown(mark: str, further: int) -> tuple[str, str]:
        params = lsp.SignatureHelpParams(small, position_of(MODEL, mark, further))
        answer = session.ask(session.client.text_document_signature_help_async(params))
        signature = answer.signatures[0]
        label = signature.parameters[answer.active_parameter].label
        return signature.label, label if isinstance(label, str) else signature.label[label[0] : label[1]]

    label, active = shown("dense(hidden", 6)
    assert label.startswith("layer dense(units: int, bias = true")
    assert active == "units: int"
    assert shown("bias = false", 8)[1] == "bias = true"
    assert shown("mse(y, t", 7)[1].startswith("target")


def test_definitions_lead_into_the_library(session: EditorSession, small: lsp.TextDocumentIdentifier) -> None:
    def defined(mark: str, further: int = 0) -> tuple[str, int, int]:
        params = lsp.DefinitionParams(small, position_of(MODEL, mark, further))
        answer = session.ask(session.client.text_document_definition_async(params))
        return answer.uri.rpartition("/")[2], answer.range.start.line + 1, answer.range.start.character

    assert defined("dense(3)") == ("dense.dl", 3, 6)
    assert defined("hidden, bias", 1) == ("small.dl", 2, 12)
    assert defined("y, t)") == ("small.dl", 7, 11)
    assert defined("Small {") == ("small.dl", 2, 6)
    assert defined("lr = 1e-3")[0] == "adam.dl"


def test_a_rename_reaches_other_files(session: EditorSession, folder: Path) -> None:
    layers = folder / "layers.dl"
    layers.write_text("layer twice(units = 3)(x: [batch, n]) = x |> dense(units) |> dense(units)\n", "utf-8")
    user = folder / "user.dl"
    user.write_text(
        'import "layers.dl"\n\nmodel User {\n    input a: f32[batch, 2]\n    output b = twice(units = 5)(a)\n}\n'
    )
    text = layers.read_text("utf-8")
    document = session.open(layers)

    def renamed(mark: str, new: str) -> dict[str, list[tuple[int, int]]]:
        params = lsp.RenameParams(document, position_of(text, mark), new)
        answer = session.ask(session.client.text_document_rename_async(params))
        return {
            uri.rpartition("/")[2]: sorted((e.range.start.line, e.range.start.character) for e in edits)
            for uri, edits in answer.changes.items()
        }

    assert renamed("twice", "double_dense") == {"layers.dl": [(0, 6)], "user.dl": [(4, 15)]}
    assert renamed("units", "width") == {"layers.dl": [(0, 12), (0, 51), (0, 67)], "user.dl": [(4, 21)]}
    references = lsp.ReferenceParams(lsp.ReferenceContext(False), document, position_of(text, "twice"))
    found = session.ask(session.client.text_document_references_async(references))
    assert [location.uri.rpartition("/")[2] for location in found] == ["user.dl"]
    for new in ("x", "for", "2x", "a b"):
        with pytest.raises(Exception, match="`"):
            renamed("units", new)


PATTERNS = """layer scaled(units = 2)(x: [batch, n]) {
    param gain: [n] = ones
    return (x * gain) |> dense(units)
}

model Patterned {
    input a: f32[batch, 2]
    hidden = a |> scaled(units = 3) |> relu
    output b = hidden |> dense(1)
}

train Patterned {
    data = csv("none.csv")
    target t: f32[batch, 1]
    loss = mse(b, t)
    optimizer = sgd(lr = 0.1, decay_on = ["hidden.*", "*.gain"])
    freeze = ["hidden.dense.W", "hidd*.b"]
}
"""


def test_a_rename_reaches_patterns_or_is_refused(session: EditorSession, folder: Path) -> None:
    path = folder / "patterned.dl"
    text = PATTERNS.replace(', "hidd*.b"', "")

    def renamed(document: lsp.TextDocumentIdentifier, mark: str) -> list[tuple[int, int]]:
        params = lsp.RenameParams(document, position_of(text, mark), "first")
        answer = session.ask(session.client.text_document_rename_async(params))
        return sorted((e.range.start.line, e.range.start.character) for e in answer.changes[document.uri])

    document = session.open(path, text)
    assert renamed(document, "hidden = ") == [(7, 4), (8, 15), (15, 43), (16, 15)]
    place = position_of(text, "hidden = ")
    references = lsp.ReferenceParams(lsp.ReferenceContext(True), document, place)
    assert len(session.ask(session.client.text_document_references_async(references))) == 4
    with pytest.raises(
        Exception, match=r'the pattern "\*\.gain" in line 16 of patterned\.dl selects parameters by `gain`'
    ):
        renamed(document, "gain:")
    assert renamed(document, "a |>") == [(6, 10), (7, 13)]
    session.change(document, 2, PATTERNS)
    with pytest.raises(Exception, match=r'the pattern "hidd\*\.b" in line 17'):
        renamed(document, "hidden = ")


def test_a_value_of_train_is_renamed_but_not_to_a_key(session: EditorSession, folder: Path) -> None:
    text = MODEL.replace("loss = mse(y, t)", "gap = y - t\n    loss = mean(gap ^ 2)")
    document = session.open(folder / "valued.dl", text)

    def renamed(new: str) -> list[tuple[int, int]]:
        params = lsp.RenameParams(document, position_of(text, "gap ="), new)
        answer = session.ask(session.client.text_document_rename_async(params))
        return sorted((e.range.start.line, e.range.start.character) for e in answer.changes[document.uri])

    assert renamed("error") == [(11, 4), (12, 16)]
    with pytest.raises(Exception, match="`seed` is a key of `train`"):
        renamed("seed")
    with pytest.raises(Exception, match="`x` is an input of `Small` already"):
        renamed("x")


def test_corrections_come_from_fix_and_from_hints(session: EditorSession, folder: Path) -> None:
    path = folder / "corrected.dl"
    text = MODEL.replace("    output y", "    unused = 3\n    output y").replace("|> tanh", "|> tnh")
    path.write_text(text, "utf-8")
    document = session.open(path)
    whole = lsp.Range(lsp.Position(0, 0), lsp.Position(100, 0))

    def actions(version: int) -> dict[str, list[str]]:
        session.findings_of(document, version)
        params = lsp.CodeActionParams(document, whole, lsp.CodeActionContext([]))
        found = session.ask(session.client.text_document_code_action_async(params))
        return {a.title: [e.new_text for edits in a.edit.changes.values() for e in edits] for a in found}

    assert actions(0) == {"Did you mean `tanh`": ["tanh"]}
    session.change(document, 1, text.replace("tnh", "tanh"))
    offered = actions(1)
    assert offered["Remove it, or begin its name with `_`"] == ["_unused"]
    assert offered["Suppress W0102 in this line"] == ["  # dlc: ignore[W0102]"]
    assert offered["Apply all corrections that keep the meaning"] == ["_unused"]


def test_symbols_folds_colours_lenses_and_formatting(session: EditorSession, small: lsp.TextDocumentIdentifier) -> None:
    client = session.client
    symbols = session.ask(client.text_document_document_symbol_async(lsp.DocumentSymbolParams(small)))
    assert [(s.name, s.detail, [part.name for part in s.children]) for s in symbols] == [
        ("Small", "model", ["hidden", "x", "y"]),
        ("Small", "train Small", ["t", "loss", "optimizer", "batch", "epochs"]),
    ]
    folds = session.ask(client.text_document_folding_range_async(lsp.FoldingRangeParams(small)))
    assert [(fold.start_line, fold.end_line) for fold in folds] == [(1, 6), (9, 14)]
    everywhere = session.ask(client.workspace_symbol_async(lsp.WorkspaceSymbolParams("smal")))
    assert "Small" in {symbol.name for symbol in everywhere}
    lenses = session.ask(client.text_document_code_lens_async(lsp.CodeLensParams(small)))
    assert {lens.command.command for lens in lenses} >= {"dlc.train", "dlc.plan", "dlc.profile"}
    assert {lens.range.start.line for lens in lenses} == {9}
    tokens = session.ask(client.text_document_semantic_tokens_full_async(lsp.SemanticTokensParams(small)))
    legend = session.capabilities.semantic_tokens_provider.legend.token_types
    words = list(words_of(MODEL, list(tokens.data), legend))
    assert words[:4] == [
        ("# é 😀 stands before everything", "comment"),
        ("model", "keyword"),
        ("Small", "class"),
        ("(", "operator"),
    ]
    assert ("dense", "class") in words
    assert ("hidden", "parameter") in words
    options = lsp.FormattingOptions(4, True)
    params = lsp.DocumentFormattingParams(small, options)
    assert session.ask(client.text_document_formatting_async(params)) == ()


def words_of(text: str, data: list[int], legend: list[str]) -> Iterator[tuple[str, str]]:
    """The words of a text that tokens mark, with their classes; columns count code units of UTF-16."""
    lines = [line.encode("utf-16-le") for line in text.split("\n")]
    line = start = 0
    for step, gap, length, class_, _ in zip(*(iter(data),) * 5, strict=True):
        line, start = line + step, gap if step else start + gap
        yield lines[line][2 * start : 2 * (start + length)].decode("utf-16-le"), legend[class_]


def test_positions_count_code_units_of_utf_16(session: EditorSession, folder: Path) -> None:
    """Behind an emoji in a string, and with lines that end in `\\r\\n`."""
    text = 'model A {\r\n    input x: f32[batch, 2]\r\n    require(true, "😀é") ; y = 1\r\n    output z = x\r\n}\r\n'
    document = session.open(folder / "wide.dl", text)
    found = session.findings_of(document, 0)
    (semicolon,) = [d for d in found if d.code == "E0103"]
    assert semicolon.range == lsp.Range(lsp.Position(2, 25), lsp.Position(2, 26))


def test_a_string_that_does_not_end_ends_before_the_end_of_its_line(session: EditorSession, folder: Path) -> None:
    document = session.open(folder / "ended.dl", 'model A {\r\n    x = "b c\r\n}\r\n')
    answer = session.ask(session.client.text_document_semantic_tokens_full_async(lsp.SemanticTokensParams(document)))
    words = [answer.data[place : place + 5] for place in range(0, len(answer.data), 5)]
    assert [(step, start, length) for step, start, length, _, _ in words][-2:] == [(0, 2, 4), (1, 0, 1)]


def test_times_of_a_profile_stand_in_the_lines(session: EditorSession, small: lsp.TextDocumentIdentifier) -> None:
    before = len(session.messages)
    params = lsp.ExecuteCommandParams("dlc.profile", arguments=[small.uri, "Small"])
    session.ask(session.client.workspace_execute_command_async(params))
    session.until(lambda: any("a step of 16 rows takes" in m for m in session.messages[before:]))
    shown = [label_of(hint) for hint in session.hints(small) if hint.position.line == 3]
    assert any("%" in label and label.split(",")[0].endswith(("µs", "ms")) for label in shown), shown


def test_the_lens_of_the_page_shows_its_address(session: EditorSession, small: lsp.TextDocumentIdentifier) -> None:
    pytest.importorskip("starlette", reason="the extra `view` is not installed")
    before = len(session.messages)
    params = lsp.ExecuteCommandParams("dlc.view", arguments=[small.uri, "Small"])
    session.ask(session.client.workspace_execute_command_async(params))
    session.until(lambda: any("dlc view" in message for message in session.messages[before:]))
    assert any("http://127.0.0.1:" in message for message in session.messages[before:]), session.messages[before:]


def test_a_plan_is_shown_from_its_lens(session: EditorSession, small: lsp.TextDocumentIdentifier) -> None:
    before = len(session.messages)
    params = lsp.ExecuteCommandParams("dlc.plan", arguments=[small.uri, "Small"])
    session.ask(session.client.workspace_execute_command_async(params))
    session.until(lambda: any(message.endswith("-plan.txt)") for message in session.messages[before:]))
    (file,) = [m.rpartition("(")[2][:-1] for m in session.messages[before:] if m.endswith("-plan.txt)")]
    assert "parameters" in Path(file).read_text("utf-8")
    Path(file).unlink()


def test_an_unknown_option_is_refused() -> None:
    command = [sys.executable, "-m", "runtime.cli", "lsp", "--port", "3"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert answer.returncode == 2
    assert "unexpected argument `--port`" in answer.stderr


SESSIONS = [  # some end while the worker is still starting
    (("initialize", "exit"), 1),
    (("initialize", "initialized", "exit"), 1),
    (("initialize", "shutdown", "exit"), 0),
    (("initialize", "initialized", "shutdown", "exit"), 0),
]


@pytest.mark.parametrize(("methods", "code"), SESSIONS)
def test_the_exit_code_says_whether_the_session_was_shut_down(methods: tuple[str, ...], code: int) -> None:
    command = [sys.executable, "-m", "runtime.cli", "lsp"]
    bodies = []
    for number, method in enumerate(methods):
        body: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        body |= {} if method in ("exit", "initialized") else {"id": number}
        body |= {"params": {}} if method == "initialized" else {}
        body |= {"params": {"processId": None, "rootUri": None, "capabilities": {}}} if method == "initialize" else {}
        bodies.append(json.dumps(body).encode())
    messages = b"".join(b"Content-Length: %d\r\n\r\n%s" % (len(body), body) for body in bodies)
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, input=messages, timeout=60)
    assert answer.returncode == code
    assert answer.stderr == b""


@pytest.mark.parametrize("size", [10**12, 10**30])
def test_a_message_that_no_memory_holds_is_refused(size: int) -> None:
    command = [sys.executable, "-m", "runtime.cli", "lsp"]
    messages = b"Content-Length: %d\r\n\r\n{}" % size
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, input=messages, timeout=60)
    assert answer.returncode == 2
    assert answer.stderr.startswith(f"error: a message of {size:,} bytes was announced".encode())


def test_a_message_that_is_no_json_is_told_without_a_traceback() -> None:
    command = [sys.executable, "-m", "runtime.cli", "lsp"]
    messages = b'Content-Length: 5\r\n\r\n{"a":'
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, input=messages, timeout=60)
    assert b"Expecting value" in answer.stdout
    assert answer.stderr == b"Unable to handle message\n"


def test_a_server_that_loses_its_client_ends(folder: Path) -> None:
    command = [sys.executable, "-m", "runtime.cli", "lsp"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, input=b"", timeout=60)
    assert answer.returncode == 0
    assert answer.stdout == b""
