"""The requests of the protocol, each with its answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcInvalidParams

from compiler.editing.completion import completions
from compiler.editing.context import call_at
from compiler.editing.document import Document
from compiler.editing.hints import hints
from compiler.editing.hover import hover
from compiler.editing.outline import Entry, folds, outline
from compiler.editing.patterns import PatternPlace, patterns_with
from compiler.editing.renaming import conflict, places_of, reason_against, sees
from compiler.editing.signatures import signature_text
from compiler.editing.symbols import LOCAL, Occurrence, Symbol
from compiler.editing.tokens import coloured
from compiler.errors.diagnostics import Diagnostic, Edit, SourceError, Span
from compiler.syntax.format import format_source
from compiler.syntax.recovery import LARGEST_READ
from runtime.editor import commands, convert
from runtime.editor.files import is_path
from runtime.editor.server import HINTS_WAIT, DlServer

_MOST_SYMBOLS = 500
_TOO_LARGE = f"a text of more than {LARGEST_READ:,} characters is not read here"
_SIGNATURE = lsp.SignatureHelpOptions(trigger_characters=["(", ","], retrigger_characters=["="])
_COMPLETION = lsp.CompletionOptions(trigger_characters=[".", "(", ",", "=", ">", " ", "["], resolve_provider=True)
_RENAMING = lsp.RenameOptions(prepare_provider=True)
_TOKENS = lsp.SemanticTokensLegend(convert.TOKEN_CLASSES, convert.TOKEN_MODIFIERS)
_ACTIONS = lsp.CodeActionOptions(code_action_kinds=[lsp.CodeActionKind.QuickFix, lsp.CodeActionKind.SourceFixAll])


def register(server: DlServer) -> None:
    """Give a server all its requests."""
    for feature, options, answer in _ANSWERS:
        server.feature(feature, options)(answer)
    commands.register(server)


def _initialize(ls: DlServer, params: lsp.InitializeParams) -> None:
    ls.begin(params)


def _initialized(ls: DlServer, params: lsp.InitializedParams) -> None:
    ls.watch_files()
    ls.beside(asyncio.ensure_future(ls.warm_up()))


def _folders_changed(ls: DlServer, params: lsp.DidChangeWorkspaceFoldersParams) -> None:
    ls.change_folders([f.uri for f in params.event.added], [f.uri for f in params.event.removed])


def _files_changed(ls: DlServer, params: lsp.DidChangeWatchedFilesParams) -> None:
    ls.files_changed(change.uri for change in params.changes)


def _shutdown(ls: DlServer, params: None) -> None:
    ls.end()


def _exit(ls: DlServer, params: None) -> None:
    ls.exit()


def _did_open(ls: DlServer, params: lsp.DidOpenTextDocumentParams) -> None:
    ls.open(params.text_document)


def _did_change(ls: DlServer, params: lsp.DidChangeTextDocumentParams) -> None:
    if params.content_changes:
        version = params.text_document.version
        ls.change(params.text_document.uri, version, params.content_changes[-1].text)


def _did_save(ls: DlServer, params: lsp.DidSaveTextDocumentParams) -> None:
    ls.save(params.text_document.uri)


def _did_close(ls: DlServer, params: lsp.DidCloseTextDocumentParams) -> None:
    ls.close(params.text_document.uri)


async def _hovered(ls: DlServer, params: lsp.HoverParams) -> lsp.Hover | None:
    uri = params.text_document.uri
    facts = await ls.facts_of(uri, HINTS_WAIT)
    line, column = ls.place(params.text_document.uri, params.position)
    found = hover(ls.document_at(uri), facts, line, column, lambda span: _link(ls, span))
    return (
        None if found is None else lsp.Hover(convert.markdown(found.text), ls.positions_at(uri).range_of(found.place))
    )


def _completed(ls: DlServer, params: lsp.CompletionParams) -> lsp.CompletionList:
    found = completions(ls.document_at(params.text_document.uri), *ls.place(params.text_document.uri, params.position))
    if _is_typed_blank(ls, params) and not any(c.rank == 1 for c in found):
        found = []
    ls.suggested = {c.name: c.document for c in found}
    return lsp.CompletionList(False, [convert.completion(c) for c in found])


def _documented(ls: DlServer, params: lsp.CompletionItem) -> lsp.CompletionItem:
    if told := ls.suggested.get(params.label):
        params.documentation = convert.markdown(told)
    return params


def _signature(ls: DlServer, params: lsp.SignatureHelpParams) -> lsp.SignatureHelp | None:
    return _signature_at(ls.document_at(params.text_document.uri), *ls.place(params.text_document.uri, params.position))


def _definition(ls: DlServer, params: lsp.DefinitionParams) -> lsp.Location | None:
    document = ls.document_at(params.text_document.uri)
    line, column = ls.place(params.text_document.uri, params.position)
    imported = document.import_at(line)
    if imported is not None and is_path(imported):
        return lsp.Location(ls.files.uri_of(imported), lsp.Range(lsp.Position(0, 0), lsp.Position(0, 0)))
    occurrence = document.occurrence_at(line, column)
    symbol = occurrence.symbol if occurrence is not None else None
    return None if symbol is None or symbol.place is None else _location(ls, symbol.place)


def _references(ls: DlServer, params: lsp.ReferenceParams) -> list[lsp.Location]:
    found = _occurrences_everywhere(ls, params.text_document.uri, params.position)
    symbol = found[0][1].symbol if found else None
    own = [
        _location(ls, o.place)
        for _, o in found
        if params.context.include_declaration or symbol is None or o.place != symbol.place
    ]
    return own + _references_in_patterns(ls, params, symbol)


def _highlighted(ls: DlServer, params: lsp.DocumentHighlightParams) -> list[lsp.DocumentHighlight]:
    document = ls.document_at(params.text_document.uri)
    occurrence = document.occurrence_at(*ls.place(params.text_document.uri, params.position))
    if occurrence is None or occurrence.symbol is None:
        return []
    positions = ls.positions_at(params.text_document.uri)
    kinds = {True: lsp.DocumentHighlightKind.Write, False: lsp.DocumentHighlightKind.Read}
    return [
        lsp.DocumentHighlight(positions.range_of(o.place), kinds[o.is_written])
        for o in places_of(document, occurrence.symbol)
    ]


def _prepared(ls: DlServer, params: lsp.PrepareRenameParams) -> lsp.Range | None:
    document = ls.document_at(params.text_document.uri)
    occurrence = document.occurrence_at(*ls.place(params.text_document.uri, params.position))
    if occurrence is None or reason_against(document, occurrence):
        return None
    return ls.positions_at(params.text_document.uri).range_of(occurrence.place)


async def _inlay(ls: DlServer, params: lsp.InlayHintParams) -> list[lsp.InlayHint]:
    uri = params.text_document.uri
    facts = await ls.facts_of(uri, HINTS_WAIT if ls.can_refresh_hints else None)
    if facts is None:
        return []
    positions = ls.positions_at(uri)
    found = [convert.hint(h, positions) for h in hints(ls.document_at(uri), facts, ls.times_of(uri))]
    return [h for h in found if params.range.start.line <= h.position.line <= params.range.end.line]


def _symbols(ls: DlServer, params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
    positions = ls.positions_at(params.text_document.uri)
    return [convert.symbol(entry, positions) for entry in outline(ls.document_at(params.text_document.uri))]


def _folded(ls: DlServer, params: lsp.FoldingRangeParams) -> list[lsp.FoldingRange]:
    return [convert.fold(found) for found in folds(ls.document_at(params.text_document.uri))]


def _tokens(ls: DlServer, params: lsp.SemanticTokensParams) -> lsp.SemanticTokens:
    uri = params.text_document.uri
    return lsp.SemanticTokens(convert.token_data(coloured(ls.document_at(uri)), ls.positions_at(uri)))


def _formatted(ls: DlServer, params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit] | None:
    document = ls.document_at(params.text_document.uri)
    source = document.source
    if document.syntax.is_too_large:
        raise JsonRpcInvalidParams(f"{_TOO_LARGE}: `dlc fmt` formats it")
    try:
        after = format_source(source)
    except SourceError:  # the findings say why
        return None
    if after == source.text:
        return []
    return [lsp.TextEdit(ls.positions_at(params.text_document.uri).whole, after)]


def _link(ls: DlServer, span: Span) -> str:
    return f"{ls.files.uri_of(span.source.name)}#L{span.line}"


def _location(ls: DlServer, span: Span) -> lsp.Location:
    return convert.location(span, ls.files.uri_of, ls.positions_of)


def _is_typed_blank(ls: DlServer, params: lsp.CompletionParams) -> bool:
    """Whether a blank asked, behind which only few places have something of their own to offer."""
    return params.context is not None and params.context.trigger_character in (" ", ",")


def _signature_at(document: Document, line: int, column: int) -> lsp.SignatureHelp | None:
    call = call_at(document, line, column)
    if call is None or call.callee is None:
        return None
    text = signature_text(call.callee)
    active: int | None = None
    in_group = [n for n, p in enumerate(text.parameters) if p.group == call.group]
    if call.keyword:
        active = next((n for n, p in enumerate(text.parameters) if p.name == call.keyword), None)
    elif in_group:
        beyond = in_group[-1] if text.parameters[in_group[-1]].is_variadic else None
        active = in_group[call.index] if call.index < len(in_group) else beyond
    return lsp.SignatureHelp([convert.signature(text, active)], 0, active)


def _occurrences_everywhere(ls: DlServer, uri: str, position: lsp.Position) -> list[tuple[Document, Occurrence]]:
    """All places of the name at a place, in all files that an editor has open or finds below its folders."""
    document = ls.document_at(uri)
    occurrence = document.occurrence_at(*ls.place(uri, position))
    if occurrence is None or occurrence.symbol is None:
        return []
    symbol = occurrence.symbol
    found: list[tuple[Document, Occurrence]] = []
    for name in _files_with(ls, document, symbol):
        other = ls.files.document(name)
        found += [(other, place) for place in places_of(other, symbol)]
    return found


def _references_in_patterns(ls: DlServer, params: lsp.ReferenceParams, symbol: Symbol | None) -> list[lsp.Location]:
    """Words of patterns of parameter names that stand for a name."""
    if symbol is None:
        return []
    names = _files_with(ls, ls.document_at(params.text_document.uri), symbol)
    words = (word for name in names for word in patterns_with(ls.files.document(name), symbol, ""))
    return [_location(ls, word.place) for word in words]


def _files_with(ls: DlServer, document: Document, symbol: Symbol) -> Sequence[str]:
    names = [document.source.name, *ls.files.names_everywhere(symbol.name)]
    if symbol.place is not None:
        names.append(symbol.place.source.name)
    return tuple(dict.fromkeys(names))


def _rename(ls: DlServer, params: lsp.RenameParams) -> lsp.WorkspaceEdit:
    document = ls.document_at(params.text_document.uri)
    occurrence = document.occurrence_at(*ls.place(params.text_document.uri, params.position))
    reason = _TOO_LARGE if document.syntax.is_too_large else reason_against(document, occurrence)
    if reason or occurrence is None or occurrence.symbol is None:
        raise JsonRpcInvalidParams(reason)
    for name in _files_with(ls, document, occurrence.symbol):
        if ls.files.is_too_large(name):
            raise JsonRpcInvalidParams(f"{_TOO_LARGE}: {os.path.basename(name)} may have the name, too")
    found = _occurrences_everywhere(ls, params.text_document.uri, params.position)
    for other in _touched(ls, [d for d, _ in found], occurrence.symbol, params.new_name):
        if reason := conflict(other, occurrence.symbol, params.new_name):
            where = "" if other is document else f", in {os.path.basename(other.source.name)}"
            raise JsonRpcInvalidParams(f"{reason}{where}")
    places = [o.place for _, o in found]
    for name in _files_with(ls, document, occurrence.symbol):
        for word in patterns_with(ls.files.document(name), occurrence.symbol, params.new_name):
            if not word.is_the_name:
                raise JsonRpcInvalidParams(_pattern_against(word, occurrence.symbol.name))
            places.append(word.place)
    edits = [Edit(place, params.new_name) for place in places]
    return convert.workspace_edit(edits, ls.files.uri_of, ls.positions_of)


def _touched(ls: DlServer, named: Sequence[Document], symbol: Symbol, new: str) -> Iterable[Document]:
    """The files in which a name stands, and those that would see the new one where they name something so already."""
    others = (ls.files.document(name) for name in ls.files.names_everywhere(new)) if symbol.kind not in LOCAL else ()
    return {id(d): d for d in (*named, *(other for other in others if sees(other, symbol)))}.values()


def _pattern_against(word: PatternPlace, name: str) -> str:
    where = f"line {word.place.line} of {os.path.basename(word.place.source.name)}"
    return f'the pattern "{word.pattern}" in {where} selects parameters by `{name}`: change it first'


def _symbols_everywhere(ls: DlServer, params: lsp.WorkspaceSymbolParams) -> list[lsp.WorkspaceSymbol]:
    """Declarations of the user's files whose names hold the letters of the query in their order."""
    found: list[lsp.WorkspaceSymbol] = []
    for name in ls.files.names_everywhere(""):
        document = ls.files.document(name)
        for entry in outline(document):
            if _is_like(entry, params.query):
                where = _location(ls, entry.place)
                found.append(
                    lsp.WorkspaceSymbol(where, entry.name, convert.symbol_kind(entry.kind), container_name=entry.detail)
                )
        if len(found) > _MOST_SYMBOLS:
            break
    return found[:_MOST_SYMBOLS]


def _is_like(entry: Entry, query: str) -> bool:
    letters = iter(entry.name.casefold())
    return all(letter in letters for letter in query.casefold())


def _actions(ls: DlServer, params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
    """Corrections of the findings in a range, and one action that makes all those which keep the meaning."""
    opened = ls.opened_at(params.text_document.uri)
    if opened is None or opened.facts_text != ls.files.opened.get(opened.name):
        return []
    wanted = params.context.only or (lsp.CodeActionKind.QuickFix, lsp.CodeActionKind.SourceFixAll)
    found: list[lsp.CodeAction] = []
    for finding, told in opened.told:
        if finding.span.source.name == opened.name and _touch(told.range, params.range):
            found += convert.actions(finding, told, ls.files.uri_of, ls.positions_of)
    if edits := _all_edits([finding for finding, _ in opened.told if finding.span.source.name == opened.name]):
        change = convert.workspace_edit(edits, ls.files.uri_of, ls.positions_of)
        title = "Apply all corrections that keep the meaning"
        found.append(lsp.CodeAction(title, lsp.CodeActionKind.SourceFixAll, edit=change))
    kinds = [str(getattr(kind, "value", kind)) for kind in wanted]
    return [a for a in found if any(str(getattr(a.kind, "value", a.kind)).startswith(kind) for kind in kinds)]


def _touch(one: lsp.Range, other: lsp.Range) -> bool:
    return _order(one.start) <= _order(other.end) and _order(other.start) <= _order(one.end)


def _order(position: lsp.Position) -> tuple[int, int]:
    return position.line, position.character


def _all_edits(findings: Sequence[Diagnostic]) -> list[Edit]:
    """The edits of all findings that have some; of those that overlap, the first."""
    kept: list[Edit] = []
    for finding in findings:
        if not any(_overlap(edit.span, other.span) for edit in finding.edits for other in kept):
            kept += finding.edits
    return kept


def _overlap(one: Span, other: Span) -> bool:
    starts = (one.line, one.column) < (other.end_line, other.end_column)
    return starts and (other.line, other.column) < (one.end_line, one.end_column)


_ANSWERS: Sequence[tuple[str, Any, Callable[[DlServer, Any], object]]] = (
    # of a session
    (lsp.INITIALIZE, None, _initialize),
    (lsp.INITIALIZED, None, _initialized),
    (lsp.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS, None, _folders_changed),
    (lsp.WORKSPACE_DID_CHANGE_WATCHED_FILES, None, _files_changed),
    (lsp.SHUTDOWN, None, _shutdown),
    (lsp.EXIT, None, _exit),
    (lsp.TEXT_DOCUMENT_DID_OPEN, None, _did_open),
    (lsp.TEXT_DOCUMENT_DID_CHANGE, None, _did_change),
    (lsp.TEXT_DOCUMENT_DID_SAVE, None, _did_save),
    (lsp.TEXT_DOCUMENT_DID_CLOSE, None, _did_close),
    # about one place of a text
    (lsp.TEXT_DOCUMENT_HOVER, None, _hovered),
    (lsp.TEXT_DOCUMENT_COMPLETION, _COMPLETION, _completed),
    (lsp.COMPLETION_ITEM_RESOLVE, None, _documented),
    (lsp.TEXT_DOCUMENT_SIGNATURE_HELP, _SIGNATURE, _signature),
    (lsp.TEXT_DOCUMENT_DEFINITION, None, _definition),
    (lsp.TEXT_DOCUMENT_REFERENCES, None, _references),
    (lsp.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT, None, _highlighted),
    (lsp.TEXT_DOCUMENT_PREPARE_RENAME, None, _prepared),
    (lsp.TEXT_DOCUMENT_RENAME, _RENAMING, _rename),
    # about a whole text, or all of them
    (lsp.TEXT_DOCUMENT_INLAY_HINT, None, _inlay),
    (lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL, None, _symbols),
    (lsp.WORKSPACE_SYMBOL, None, _symbols_everywhere),
    (lsp.TEXT_DOCUMENT_FOLDING_RANGE, None, _folded),
    (lsp.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL, _TOKENS, _tokens),
    (lsp.TEXT_DOCUMENT_FORMATTING, None, _formatted),
    (lsp.TEXT_DOCUMENT_CODE_ACTION, _ACTIONS, _actions),
)
"""Each request of the protocol with its options and the function that answers it."""
