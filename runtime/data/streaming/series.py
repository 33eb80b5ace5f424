"""A running text that memory does not hold to the parts of a training or an evaluation: its tokens are packed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError, size
from runtime.data.cutting import split_steps
from runtime.data.dataset import BlockSource, TextPlan
from runtime.data.formats.lines import TOKENS
from runtime.data.matching import match_fields
from runtime.data.part import LoadedPart, Part
from runtime.data.preparation import Preparation
from runtime.data.specs import Cuts, DataSource, InputSpec, dtype_of
from runtime.data.streaming.cutting import CODES
from runtime.data.streaming.packing import WHOLE, name_of_cuts, name_of_pack, packed
from runtime.data.streaming.packs import Pack, PackWriter
from runtime.data.streaming.texts import learnt_by_pass
from runtime.data.streaming.windows import TOKEN, Window, part_of_windows
from runtime.data.text.rows import check_vocabulary, longest_row
from runtime.data.text.tokenizer import Tokenizer, learnt
from runtime.data.windows import WindowForm
from runtime.support.files import JsonValue

_PARTS = tuple(CODES)  # in the order of their places in the text


def tokenizers_of_text(opened: BlockSource, source: DataSource, cuts: Cuts) -> Mapping[str, Tokenizer]:
    """As `tokenizers_of_series`: from the part of the text for training. Raises DataError."""
    plan = _plan_of(opened)
    (vocabulary,) = {reading.vocabulary for reading in plan.readings.values()}

    def tokenizer() -> dict[str, JsonValue]:
        texts = (text for part, text in _cut_text(opened, cuts) if part == "train")
        return {vocabulary: learnt(plan.rules, texts).to_json()}

    return learnt_by_pass(name_of_pack(opened, (), source, ["text", *name_of_cuts(cuts)]), tokenizer)


def text_preparation(
    specs: Sequence[InputSpec], opened: BlockSource, tokenizers: Mapping[str, Tokenizer]
) -> Preparation:
    columns = match_fields(opened.head, [spec for spec in specs if spec.mask_of is None])
    return Preparation(columns, tokenizers=tokenizers, readings=_plan_of(opened).readings)


def text_parts(
    specs: Sequence[InputSpec], opened: BlockSource, source: DataSource, preparation: Preparation, cuts: Cuts
) -> tuple[dict[str, Part | None], list[str]]:
    """The windows of each part of the text, as `load_series` gives them, and remarks. Raises DataError."""
    (tokenizer,) = preparation.tokenizers.values()
    name = name_of_pack(opened, (), source, ["windows", tokenizer.to_json(), *name_of_cuts(cuts)])
    pack = packed(name, _Tokens(lambda: _cut_text(opened, cuts), tokenizer))
    found: dict[str, Part | None] = {}
    begin = 0
    for part, given in zip(_PARTS, (True, cuts.validation, cuts.test), strict=True):
        if given and not isinstance(given, DataSource):
            found[part] = _windows_of(pack, part, begin, specs, opened, preparation, cuts.stream)
        begin += pack.parts[part].rows if part in pack.parts else 0
    return found, [_note_of(opened, pack, cuts.stream)]


def whole_text(
    specs: Sequence[InputSpec], opened: BlockSource, source: DataSource, preparation: Preparation, block: int
) -> LoadedPart:
    """All windows of a further text, as `series_part`. Raises DataError."""
    (tokenizer,) = preparation.tokenizers.values()
    preparation = text_preparation(specs, opened, preparation.tokenizers)
    name = name_of_pack(opened, (), source, ["windows", tokenizer.to_json()])
    pack = packed(name, _Tokens(lambda: ((WHOLE, piece) for piece in _pieces(opened)), tokenizer))
    part = _windows_of(pack, WHOLE, 0, specs, opened, preparation, block)
    part = replace(part, fingerprints=opened.fingerprints())
    return LoadedPart(part, (_note_of(opened, pack, block),))


class _Tokens:
    """Packs the tokens of the parts of a text."""

    def __init__(self, parts: Callable[[], Iterator[tuple[str, str]]], tokenizer: Tokenizer) -> None:
        self._parts, self._tokenizer = parts, tokenizer

    def made(self, writer: PackWriter, folder: Path) -> Pack:
        del folder
        for part, text in self._parts():
            (numbers,) = self._tokenizer.encode([text])
            if len(numbers):
                writer.append(part, {TOKEN: numbers})
        return writer.finish({})

    def understands(self, pack: Pack) -> bool:
        return all(TOKEN in part.arrays for part in pack.parts.values())


def _plan_of(opened: BlockSource) -> TextPlan:
    assert opened.head.text is not None
    return opened.head.text


def _pieces(opened: BlockSource) -> Iterator[str]:
    """The text of all files. Raises DataError where there is none."""
    is_blank = True
    for block in opened.blocks([TOKENS]):
        (piece,) = block.arrays[TOKENS].tolist()
        is_blank = is_blank and not piece.strip()
        yield piece
    if is_blank:
        raise DataError("there is no text in it", opened.head.path, fix="check that this is the right file")


def _cut_text(opened: BlockSource, cuts: Cuts) -> Iterator[tuple[str, str]]:
    """The pieces of the text, each with its part, cut behind a blank where tokens are longer than a character."""
    whole = sum(map(len, _pieces(opened))) if any(cuts.of_data) else 1
    borders = list(split_steps(whole, cuts, opened.head.path)) if any(cuts.of_data) else []
    may_cut = _plan_of(opened).rules.unit == "char"
    part, place, last = 0, 0, " "
    for piece in _pieces(opened):
        while piece:
            end = len(piece)
            if part < len(borders):
                begin = max(borders[part] - place, 0)
                end, is_over = _end_of_part(piece, begin, last, may_cut)
                if end:
                    yield _PARTS[part], piece[:end]
                    last = piece[end - 1]
                part += is_over
            else:
                yield _PARTS[part], piece
            place, piece = place + end, piece[end:]


def _end_of_part(piece: str, begin: int, last: str, may_cut: bool) -> tuple[int, bool]:
    """Where in a piece a part ends that should end at `begin`, and whether it does; `last` stands before the piece."""
    end = begin
    while end <= len(piece):
        if may_cut or (piece[end - 1] if end else last).isspace():
            return end, True
        end += 1
    return len(piece), False


def _windows_of(
    pack: Pack,
    name: str,
    begin: int,
    specs: Sequence[InputSpec],
    opened: BlockSource,
    preparation: Preparation,
    block: int,
) -> Part:
    windows = _windows_by_spec(specs, opened, preparation)
    longest = max(window.length for window in windows.values())
    steps = max(window.first + window.length for window in windows.values())
    tokens = pack.parts[name].rows if name in pack.parts else 0
    plan = opened.head.windows
    stride = (None if plan is None else plan.stride) or longest
    placed = WindowForm(steps, 0, stride, longest, opened.head.path).placed(name, 0, tokens)
    return part_of_windows(pack, name, block, windows, steps, placed, begin, tokens)


def _windows_by_spec(specs: Sequence[InputSpec], opened: BlockSource, preparation: Preparation) -> dict[str, Window]:
    """What each input and target takes of a window; targets lie a token further on."""
    found: dict[str, Window] = {}
    for spec in specs:
        name = preparation.columns[spec.mask_of or spec.name][0]
        if spec.mask_of is not None:
            found[spec.name] = Window(0, longest_row(spec), np.dtype(np.bool_), is_mask=True)
            continue
        tokenizer = preparation.tokenizers[preparation.readings[name].vocabulary]
        check_vocabulary(spec, tokenizer, opened.head.fields[name])
        found[spec.name] = Window(int(name == "next"), longest_row(spec), dtype_of(spec))
    return found


def _note_of(opened: BlockSource, pack: Pack, block: int) -> str:
    tokens = sum(part.rows for part in pack.parts.values())
    lie = f"{tokens:,} tokens are read in blocks of at most {block:,} windows"
    return f"{opened.head.path.name}: {lie}, from {size(pack.bytes)} in {pack.folder.path}"
