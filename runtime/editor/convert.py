"""Findings and facts of the compiler about a text to the types of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lsprotocol import types as lsp
from pygls.uris import from_fs_path

from compiler.editing.completion import Completion
from compiler.editing.corrections import corrections
from compiler.editing.hints import Hint
from compiler.editing.outline import Entry, Fold
from compiler.editing.signatures import SignatureText
from compiler.editing.symbols import Kind
from compiler.editing.tokens import Class, Coloured
from compiler.errors.diagnostics import Diagnostic, Edit, Note, Span
from compiler.errors.index import ERRORS, PAGE
from compiler.support.harmless import harmless_lines
from runtime.editor.positions import Positions

PositionsOf = Callable[[str], Positions]
"""The positions of a file by its name."""

TOKEN_CLASSES = [class_.value for class_ in Class]
TOKEN_MODIFIERS = ["declaration", "defaultLibrary"]
_SYMBOLS = {
    Kind.CONST: lsp.SymbolKind.Constant,
    Kind.FN: lsp.SymbolKind.Function,
    Kind.LAYER: lsp.SymbolKind.Class,
    Kind.INIT: lsp.SymbolKind.Function,
    Kind.OPTIMIZER: lsp.SymbolKind.Function,
    Kind.SCHEDULE: lsp.SymbolKind.Function,
    Kind.MODEL: lsp.SymbolKind.Module,
    Kind.TRAIN: lsp.SymbolKind.Event,
    Kind.TEST: lsp.SymbolKind.Method,
    Kind.SAMPLE: lsp.SymbolKind.Method,
    Kind.SETTING: lsp.SymbolKind.Property,
    Kind.KEY: lsp.SymbolKind.Key,
    Kind.PARAM: lsp.SymbolKind.Field,
    Kind.STATE: lsp.SymbolKind.Field,
}
_COMPLETIONS = {
    Kind.CONST: lsp.CompletionItemKind.Constant,
    Kind.FN: lsp.CompletionItemKind.Function,
    Kind.LAYER: lsp.CompletionItemKind.Class,
    Kind.INIT: lsp.CompletionItemKind.Function,
    Kind.OPTIMIZER: lsp.CompletionItemKind.Function,
    Kind.SCHEDULE: lsp.CompletionItemKind.Function,
    Kind.MODEL: lsp.CompletionItemKind.Module,
    Kind.SETTING: lsp.CompletionItemKind.Property,
    Kind.OPTION: lsp.CompletionItemKind.Property,
    Kind.ATTRIBUTE: lsp.CompletionItemKind.Property,
    Kind.KEY: lsp.CompletionItemKind.Keyword,
    Kind.BUILTIN: lsp.CompletionItemKind.Function,
    Kind.CONSTANT: lsp.CompletionItemKind.Constant,
    Kind.TYPE: lsp.CompletionItemKind.TypeParameter,
    Kind.FORMAT: lsp.CompletionItemKind.Function,
}


def markdown(text: str) -> lsp.MarkupContent:
    return lsp.MarkupContent(lsp.MarkupKind.Markdown, harmless_lines(text))


def diagnostic(finding: Diagnostic, uri_of: Callable[[str], str], positions_of: PositionsOf) -> lsp.Diagnostic:
    """A finding of `dlc check`: its notes with a place become related information, the others lines of the message."""
    said = [f"{note.kind}: {note.message}" for note in _notes(finding) if note.span is None]
    related = [
        lsp.DiagnosticRelatedInformation(
            location(note.span, uri_of, positions_of), harmless_lines(f"{note.kind}: {note.message}")
        )
        for note in finding.notes
        if note.span is not None
    ]
    found = lsp.Diagnostic(
        range=_range(finding.span, positions_of),
        message=harmless_lines("\n".join((finding.message, *said))),
        severity=lsp.DiagnosticSeverity.Error if finding.severity == "error" else lsp.DiagnosticSeverity.Warning,
        code=finding.code,
        source="dlc",
        related_information=related or None,
    )
    if finding.code in ERRORS:
        found.code_description = lsp.CodeDescription(f"{from_fs_path(str(PAGE))}#{finding.code.lower()}")
    if finding.code in ("W0101", "W0102", "W0103"):
        found.tags = [lsp.DiagnosticTag.Unnecessary]
    return found


def _notes(finding: Diagnostic) -> tuple[Note, ...]:
    """Its notes, with the hint of its code where it has none of its own."""
    entry = ERRORS.get(finding.code)
    if entry is None or any(note.kind == "hint" for note in finding.notes):
        return finding.notes
    return (*finding.notes, Note(entry.hint, None, "hint"))


def _range(span: Span, positions_of: PositionsOf) -> lsp.Range:
    return positions_of(span.source.name).range_of(span)


def location(span: Span, uri_of: Callable[[str], str], positions_of: PositionsOf) -> lsp.Location:
    return lsp.Location(uri_of(span.source.name), _range(span, positions_of))


def actions(
    finding: Diagnostic, told: lsp.Diagnostic, uri_of: Callable[[str], str], positions_of: PositionsOf
) -> list[lsp.CodeAction]:
    """The corrections of a finding as quick fixes."""
    return [
        lsp.CodeAction(
            title=correction.title,
            kind=lsp.CodeActionKind.QuickFix,
            diagnostics=[told],
            is_preferred=correction.keeps_meaning or (number == 0 and finding.severity == "error"),
            edit=workspace_edit(correction.edits, uri_of, positions_of),
        )
        for number, correction in enumerate(corrections(finding))
    ]


def workspace_edit(edits: Sequence[Edit], uri_of: Callable[[str], str], positions_of: PositionsOf) -> lsp.WorkspaceEdit:
    changes: dict[str, list[lsp.TextEdit]] = {}
    for edit in edits:
        found = changes.setdefault(uri_of(edit.span.source.name), [])
        found.append(lsp.TextEdit(_range(edit.span, positions_of), edit.text))
    return lsp.WorkspaceEdit(changes=dict(changes))


def symbol(entry: Entry, positions: Positions) -> lsp.DocumentSymbol:
    whole, own = positions.range_of(entry.span), positions.range_of(entry.place)
    return lsp.DocumentSymbol(
        name=entry.name or "?",
        detail=entry.detail or None,
        kind=_SYMBOLS.get(entry.kind, lsp.SymbolKind.Variable),
        range=whole,
        selection_range=own,
        children=[symbol(part, positions) for part in entry.parts],
    )


def symbol_kind(kind: Kind) -> lsp.SymbolKind:
    return _SYMBOLS.get(kind, lsp.SymbolKind.Variable)


def completion(found: Completion) -> lsp.CompletionItem:
    """A suggestion; the client orders by `sort_text`, and asks for the documentation of the one that is chosen."""
    return lsp.CompletionItem(
        label=found.name,
        kind=_COMPLETIONS.get(found.kind, lsp.CompletionItemKind.Variable),
        detail=found.detail or None,
        sort_text=f"{found.rank}{found.name}",
        insert_text=found.inserted or None,
    )


def signature(found: SignatureText, active: int | None) -> lsp.SignatureInformation:
    parameters: list[lsp.ParameterInformation] = []
    end = found.label.find("(") + 1
    for parameter in found.parameters:
        begin = found.label.find(parameter.text, end)
        end = max(begin + len(parameter.text), end)
        where = parameter.text if begin < 0 else (_units(found.label[:begin]), _units(found.label[:end]))
        document = markdown(parameter.document) if parameter.document else None
        parameters.append(lsp.ParameterInformation(where, document))
    document = markdown(found.document) if found.document else None
    return lsp.SignatureInformation(found.label, document, parameters, active)


def _units(text: str) -> int:
    """The length of a text in code units of UTF-16."""
    return len(text) + sum(character > "\uffff" for character in text)


def fold(found: Fold) -> lsp.FoldingRange:
    kinds = {"comment": lsp.FoldingRangeKind.Comment, "imports": lsp.FoldingRangeKind.Imports}
    return lsp.FoldingRange(found.first - 1, found.last - 1, kind=kinds.get(found.kind, lsp.FoldingRangeKind.Region))


def hint(found: Hint, positions: Positions) -> lsp.InlayHint:
    return lsp.InlayHint(
        position=positions.position(found.line, found.column),
        label=found.text,
        kind=lsp.InlayHintKind.Type if found.is_type else None,
        tooltip=found.tip or None,
        padding_left=not found.is_type,
    )


def token_data(words: Sequence[Coloured], positions: Positions) -> list[int]:
    """Words in the protocol's form: five numbers each, places counted from the word before."""
    data: list[int] = []
    classes = {class_: number for number, class_ in enumerate(Class)}
    line = character = 0
    for word in words:
        begin_line, begin = positions.numbers(word.line, word.column)
        end_line, end = positions.numbers(word.line, word.column + word.length)
        step = begin_line - line
        start = begin - (character if step == 0 else 0)
        if begin_line != end_line or end <= begin or step < 0 or start < 0:
            continue
        modifiers = word.is_declaration | word.is_library << 1
        data += (step, start, end - begin, classes[word.class_], modifiers)
        line, character = begin_line, begin
    return data
