"""Edits texts at random in a running `dlc lsp`, and asks every question at random places.

    python tests/stress/attack_editor.py [--edits 500] [--seed 0]

Edits insert, delete, paste stretches of other files, characters of several code units, ends of lines of other systems
and huge lines. Every answer must lie within the text, counted in UTF-16; the server must go on, and its memory and that
of its worker must not grow with the number of edits. It ends with exit status 1 otherwise.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS / "support")]

from editor_session import EditorSession  # noqa: E402
from lsprotocol import types as lsp  # noqa: E402

_STRANGE = (
    "😀",
    "é",
    "\r\n",
    "\r",
    "\t",
    "\0",
    "\u2028",
    "𝒳 = ",
    '"',
    "{",
    "}",
    "(",
    " |> ",
    "##",
    "freeze = [",
    "\ufeff",
)
_MOST_GROWTH = 1.5
"""Times the memory at a third of the edits."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        attack = Attack(Path(folder), random.Random(arguments.seed))
        faults = attack.run(arguments.edits)
    print("\n".join([*faults, f"{arguments.edits} edits, {attack.asked} questions, {len(faults)} faults"]))
    return 1 if faults else 0


class Attack:
    def __init__(self, folder: Path, chooser: random.Random) -> None:
        self.chooser, self.asked = chooser, 0
        examples = sorted((_TESTS.parent / "examples").glob("*/model.dl"))
        self.texts = [path.read_text("utf-8") for path in examples if path.stat().st_size < 4_000]
        self.text = chooser.choice(self.texts)
        self.session = EditorSession(folder, refreshes_hints=True)
        (folder / "model.dl").write_text(self.text, "utf-8")
        self.document = self.session.open(folder / "model.dl")

    def run(self, edits: int) -> list[str]:
        faults: list[str] = []
        early: list[int] = []
        for number in range(1, edits + 1):
            self.text = self._edited()
            self.session.change(self.document, number, self.text)
            for name, asked in self._questions():
                try:
                    answer = self.session.ask(asked)
                except Exception as error:  # every refusal and every crash is looked at
                    if "JsonRpcInvalidParams" not in type(error).__name__:
                        faults.append(f"edit {number}: {name}: {type(error).__name__}: {error}")
                    continue
                self.asked += 1
                outside = [place for place in _ranges(answer, self.document.uri) if not self._is_inside(place)]
                faults += [f"edit {number}: {name}: {place} lies outside of the text" for place in outside[:1]]
            if number == max(edits // 3, 1):
                early = self._memory()
            if number % 50 == 0:
                print(number, "edits; MiB of server and worker:", [size >> 20 for size in self._memory()], flush=True)
        self.session.findings_of(self.document, edits)
        late = self._memory()
        faults += [f"memory grew: {a:,} to {b:,}" for a, b in zip(early, late, strict=False) if b > _MOST_GROWTH * a]
        faults += [message for message in self.session.messages if "Error" in message]
        self.session.close()
        return faults

    def _edited(self) -> str:
        text, choose = self.text, self.chooser
        begin = choose.randrange(len(text) + 1)
        end = min(len(text), begin + choose.choice((0, 1, 5, 60, 400)))
        match choose.randrange(8):
            case 0:
                return text[:begin] + text[end:]
            case 1:
                return text[:begin] + choose.choice(_STRANGE) + text[begin:]
            case 2:
                other = choose.choice(self.texts)
                first = choose.randrange(len(other))
                return text[:begin] + other[first : first + choose.randrange(600)] + text[end:]
            case 3:
                return text[:begin] + choose.choice("abcxyz(){}= \n") + text[begin:]
            case 4 if choose.random() < 0.1:
                return text[:begin] + "x + " * 20_000 + text[begin:]
            case 5 if choose.random() < 0.1:
                return text.replace("\n", "\r\n")
            case _:
                return (
                    choose.choice(self.texts)
                    if len(text) > 20_000 or choose.random() < 0.3
                    else text[:begin] + text[end:]
                )

    def _position(self) -> lsp.Position:
        lines = _lines(self.text)
        line = self.chooser.randrange(len(lines))
        beyond = self.chooser.choice((0, 0, 0, 3))
        return lsp.Position(line, self.chooser.randrange(_units(lines[line]) + 1) + beyond)

    def _questions(self) -> Iterator[tuple[str, Any]]:
        client, document, place = self.session.client, self.document, self._position()
        whole = lsp.Range(lsp.Position(0, 0), lsp.Position(1 << 20, 0))
        context = lsp.CodeActionContext([])
        yield "hover", client.text_document_hover_async(lsp.HoverParams(document, place))
        yield "completion", client.text_document_completion_async(lsp.CompletionParams(document, place))
        yield "signature", client.text_document_signature_help_async(lsp.SignatureHelpParams(document, place))
        yield "definition", client.text_document_definition_async(lsp.DefinitionParams(document, place))
        including = lsp.ReferenceContext(True)
        yield "references", client.text_document_references_async(lsp.ReferenceParams(including, document, place))
        yield "highlights", client.text_document_document_highlight_async(lsp.DocumentHighlightParams(document, place))
        yield "may be renamed", client.text_document_prepare_rename_async(lsp.PrepareRenameParams(document, place))
        yield "rename", client.text_document_rename_async(lsp.RenameParams(document, place, "another"))
        yield "hints", client.text_document_inlay_hint_async(lsp.InlayHintParams(document, whole))
        yield "symbols", client.text_document_document_symbol_async(lsp.DocumentSymbolParams(document))
        yield "folds", client.text_document_folding_range_async(lsp.FoldingRangeParams(document))
        yield "colours", client.text_document_semantic_tokens_full_async(lsp.SemanticTokensParams(document))
        yield "lenses", client.text_document_code_lens_async(lsp.CodeLensParams(document))
        yield "actions", client.text_document_code_action_async(lsp.CodeActionParams(document, whole, context))
        options = lsp.FormattingOptions(4, True)
        yield "format", client.text_document_formatting_async(lsp.DocumentFormattingParams(document, options))

    def _is_inside(self, place: lsp.Position) -> bool:
        lines = _lines(self.text)
        return place.line < len(lines) and place.character <= _units(lines[place.line])

    def _memory(self) -> list[int]:
        server = self.session.process
        workers = Path(f"/proc/{server}/task/{server}/children").read_text("ascii").split()
        sizes = [int(Path(f"/proc/{n}/statm").read_text("ascii").split()[1]) for n in (str(server), *workers[-1:])]
        return [size * 4096 for size in sizes]


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _ranges(answer: Any, uri: str) -> Iterator[lsp.Position]:
    """The places of an answer that lie in the text."""
    if isinstance(answer, lsp.SemanticTokens):
        line = character = 0
        for step, start, length, _, _ in zip(*(iter(answer.data),) * 5, strict=True):
            line, character = line + step, start if step else character + start
            yield lsp.Position(line, character + length)
    elif isinstance(answer, list):
        for item in answer:
            yield from _ranges(item, uri)
    elif isinstance(answer, lsp.WorkspaceEdit):
        yield from _ranges((answer.changes or {}).get(uri, []), uri)
    elif isinstance(answer, lsp.Location):
        yield from _ranges(answer.range, uri) if answer.uri == uri else ()
    elif isinstance(answer, lsp.Range):
        yield from (answer.start, answer.end)
    elif isinstance(answer, lsp.InlayHint):
        yield answer.position
    elif isinstance(answer, lsp.FoldingRange):
        yield lsp.Position(answer.end_line, 0)
    elif getattr(answer, "range", None) is not None:
        yield from _ranges(answer.range, uri)


if __name__ == "__main__":
    sys.exit(main())
