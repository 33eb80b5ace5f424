"""The functions that callers of an exported library see, as LLVM text: each runs one program, or several."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.support.record import record
from compiler.targets.cpu.library_layout import Function, Settings, settings_of
from compiler.targets.cpu.library_limits import checks_of_settings
from compiler.targets.cpu.library_program import filled, lines, parameters
from compiler.targets.manifest import InputSlot, ResultSlot, most_divided
from compiler.targets.target import LibraryForm, LibrarySignature

_OF_A_STEP = ("counting", "accumulating", "updating")
_OF_A_SEQUENCE = ("window", "prompt", "position")
_MOST_TOKENS = (1 << 31) - 1


@record
class Call:
    """A function, the programs that it runs, and the settings that its caller gives."""

    name: str
    programs: tuple[Function, ...]
    settings: Settings

    @property
    def inputs(self) -> tuple[InputSlot, ...]:
        """Those of all programs, each once, in the order of the program that reads the most."""
        by_number = sorted((program.manifest.inputs for program in self.programs), key=len, reverse=True)
        return tuple({item.name: item for inputs in by_number for item in inputs}.values())

    @property
    def outputs(self) -> tuple[ResultSlot, ...]:
        return tuple(self.programs[-1].results)

    @property
    def signature(self) -> LibrarySignature:
        limits = self.programs[0].program.limits
        own = {name: limits[name] for name, _, _ in self.settings if name in limits}
        return LibrarySignature(self.name, self.inputs, self.outputs, self.settings, own, self.most_rows)

    @property
    def most_rows(self) -> int:
        """How many rows a call takes; 0 where it may be any, and where an update takes several batches."""
        return self.programs[0].manifest.most_rows if len(self.programs) == 1 else 0

    @property
    def checks(self) -> list[str]:
        """Lines that leave at `%wrong.settings` for a setting that is none, and go on at `%settled`."""
        return checks_of_settings(self.settings, self.programs[0].program.limits)

    def program(self, name: str) -> Function:
        return next(program for program in self.programs if program.program.name == name)


def calls_of(functions: Sequence[Function]) -> list[Call]:
    """The functions of a library, those of several programs last."""
    several = {"step": _OF_A_STEP, "generate_next": _OF_A_SEQUENCE}
    parts = {part for names in several.values() for part in names}
    found = [Call(f.program.name, (f,), settings_of([f])) for f in functions if f.program.name not in parts]
    for name, names in several.items():
        if chosen := tuple(function for function in functions if function.program.name in names):
            found.append(Call(name, chosen, settings_of(chosen)))
    return found


def call_text(call: Call, form: LibraryForm, sequence: int) -> str:
    """The text of a function; at `sequence` in the caller's memory stand the tokens that the states hold."""
    if call.name == "generate_next":
        return _sequence_text(call, form, sequence)
    if call.name == "step" and form.batches:
        return _accumulated_text(call, form)
    function = call.program(call.name)
    given = parameters(function, call.settings)
    words = {
        "NAME": call.name,
        "TRAINS": str(function.program.trains).lower(),
        "MOST_ROWS": min(call.most_rows or (1 << 63) - 1, *(most_divided(f.manifest) for f in call.programs)),
        "PARAMETERS": _listed(given),
        "NULLS": lines(_null_checks(["%memory", *given])),
        "CHECKS": lines(call.checks),
    }
    return filled("function", words)


def _accumulated_text(call: Call, form: LibraryForm) -> str:
    """A step from batches: each program gets the rows of its batch, and the last one none."""
    number = {item.name: n for n, item in enumerate(call.inputs)}
    settings = ["%settings"] if call.settings else []
    outputs = [f"%out.{n}" for n in range(len(call.outputs))]
    given = [*settings, *(f"%in.{n}" for n in number.values()), *outputs]

    def passed(name: str, by: str) -> str:
        return _listed([*settings, *(f"%{by}.{number[item.name]}" for item in call.program(name).manifest.inputs)])

    counts = any(program.program.name == "counting" for program in call.programs)
    counting = ""
    if counts:
        counting = f"call i32 @run_counting(ptr %memory, i64 %some, i64 %seed, i64 %step{passed('counting', 'part')})"
    words = {
        "PARAMETERS": _listed(given),
        "NULLS": lines(_null_checks(["%memory", *given])),
        "CHECKS": lines(call.checks),
        "MOST_ROWS_OF_UPDATE": form.batch * form.batches,
        "BATCHES": form.batches,
        "BATCH": form.batch,
        "FIRST_PASS": int(not counts),
        "PARTS": lines(_parts(call.inputs)),
        "COUNT": f"  %counted.now = {counting}" if counts else "  %counted.now = add i32 0, 0",
        "ACCUMULATING": passed("accumulating", "part"),
        "UPDATING": passed("updating", "in") + _listed(outputs),
    }
    return filled("accumulated", words)


def _parts(inputs: Sequence[InputSlot]) -> list[str]:
    """Where the rows of a batch begin in each input."""
    rows: list[str] = []
    for number, item in enumerate(inputs):
        of_row = item.row_bytes if item.batch_axis is not None else 0
        rows.append(f"%part.{number}.offset = mul i64 %done, {of_row}")
        rows.append(f"%part.{number} = getelementptr i8, ptr %in.{number}, i64 %part.{number}.offset")
    return rows


def _sequence_text(call: Call, form: LibraryForm, sequence: int) -> str:
    (tokens,) = call.inputs
    settings = ["%settings"] if call.settings else []
    words = {
        "SETTINGS": _listed(settings),
        "NULLS": lines(_null_checks(["%memory", *settings, "%tokens", "%token"])),
        "CHECKS": lines(call.checks),
        "MOST_TOKENS": _MOST_TOKENS,
        "SEQUENCE": sequence,
        "TOKEN_BYTES": tokens.dtype.size,
        "WINDOW_BYTES": form.window * tokens.dtype.size,
        "WINDOW": form.window,
        "POSITIONS": form.positions,
    }
    return filled("sequence", words)


def _listed(names: Sequence[str]) -> str:
    return "".join(f", ptr {name}" for name in names)


def _null_checks(names: Sequence[str]) -> list[str]:
    rows: list[str] = []
    for number, name in enumerate(names):
        following = f"check.{number + 1}" if number + 1 < len(names) else "nonnull"
        rows.append(f"%null.{number} = icmp eq ptr {name}, null")
        rows.append(f"br i1 %null.{number}, label %null, label %{following}")
        if number + 1 < len(names):
            rows.append(f"{following}:")
    return rows
