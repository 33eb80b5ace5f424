"""Files to programs: elaborated once, then found in the cache as long as no file of theirs changes.

The cache keeps an outline: everything but the nodes of the graphs, which nobody asks for while the compiled code is
cached too. A mistake in a file is never kept, so its message is always made anew.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, fields, replace
from functools import cache as remembered
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler.errors.diagnostics import CompilerBug, Diagnostic, Source
from compiler.frontend.data_parts import Cuts
from compiler.frontend.program import DataQuestion, DimensionsOf, Program
from compiler.frontend.update_rules import Clip
from compiler.graph.ir import Graph
from compiler.interface import Options
from compiler.support.cache import ObjectCache, compiler_version, default_folder
from compiler.support.record import record
from compiler.types import DType, TensorType

if TYPE_CHECKING:
    from compiler.frontend.elaborate import Watch
    from compiler.frontend.trace import Subject
    from compiler.syntax.modules import Loaded

Overrides = tuple[tuple[str, str], ...]


@record
class Outline(Program):
    """A program from the cache: its graphs have inputs and outputs, but no nodes. `elaborated` gives the whole one."""

    elaborated: Callable[[], Program] = field(kw_only=True)


@record
class _Checked:
    """Files without a mistake."""

    sources: tuple[Source, ...]
    warnings: tuple[Diagnostic, ...]


def load(
    root: str | Path | Source,
    experiment: str | None = None,
    overrides: Overrides = (),
    dimensions_of: DimensionsOf | None = None,
    within: Path | None = None,
) -> Program:
    """Check and elaborate an experiment of a file or text, or its model where it has no `train`.

    `dimensions_of` is asked for dimensions that only the data knows. Imports of the file lie in the folder `within`,
    by default that of the file. The result may be an outline from the cache. Raises SourceError and UsageError.
    """
    root = Path(root) if isinstance(root, str) else root
    cache = ObjectCache(None)
    name = _entry_name("program", root, experiment, overrides, within and str(within.resolve()))
    known = _restored(cache.get(name))
    if isinstance(known, Program) and _is_current(known.sources, root) and _fits_data(known, dimensions_of):
        return _outline(known)
    # the front end is loaded only for what the cache does not know
    from compiler.choices.limits import with_limits
    from compiler.frontend.elaborate import elaborate
    from compiler.syntax.modules import load_modules

    modules = load_modules(root, default_folder(), within)
    program = with_limits(elaborate(modules, experiment, overrides, dimensions_of, _looked_at))
    program = replace(program, overrides=overrides)
    cache.put(name, _stored(program))
    return program


def load_text(
    text: str,
    name: str,
    experiment: str | None = None,
    overrides: Overrides = (),
    dimensions_of: DimensionsOf | None = None,
) -> Program:
    """As `load`, from text; `name` stands for the file in messages."""
    return load(Source(name, text), experiment, overrides, dimensions_of)


def resized(program: Program, dimensions: Mapping[str, int]) -> Program:
    """The program for data of other `dimensions`, by name: of those that its data decided. Raises SourceError."""
    decided = data_dimensions(program)
    wanted = {name: dimensions.get(name, extent) for name, extent in decided.items()}
    if wanted == decided:
        return program
    cache = ObjectCache(None)
    texts = [(source.name, source.text) for source in program.sources]
    name = repr(("resized", compiler_version(), program.name, texts, program.overrides, wanted))
    known = _restored(cache.get(name))
    if isinstance(known, Program):
        return _outline(known)
    found = _elaborated_again(program, wanted)
    cache.put(name, _stored(found))
    return found


def complete(program: Program) -> Program:
    """The program with all its graphs."""
    return program.elaborated() if isinstance(program, Outline) else program


def check(
    path: Path,
    experiment: str | None = None,
    overrides: Overrides = (),
    dimensions_of: DimensionsOf | None = None,
    within: Path | None = None,
) -> tuple[Diagnostic, ...]:
    """Every error and warning of a file; the arguments as in `load`, and without `experiment` all are checked."""
    cache = ObjectCache(None)
    name = _entry_name("check", path, experiment, overrides, within and str(within.resolve()))
    known = _restored(cache.get(name))
    if isinstance(known, _Checked) and _is_current(known.sources, path):
        return known.warnings
    asked: list[DataQuestion] = []

    def answer(question: DataQuestion) -> Mapping[str, int]:
        asked.append(question)
        return {} if dimensions_of is None else dimensions_of(question)

    found, sources = findings(path, cache.folder, answer, within, experiment, overrides)
    # the dimensions of the data may be others tomorrow
    if not asked and all(finding.severity != "error" for finding in found):
        cache.put(name, _stored(_Checked(sources, found)))
    return found


def findings(
    root: Path | Source,
    folder: Path | None,
    dimensions_of: DimensionsOf | None = None,
    within: Path | None = None,
    experiment: str | None = None,
    overrides: Overrides = (),
) -> tuple[tuple[Diagnostic, ...], tuple[Source, ...]]:
    """The errors and warnings of a file or text, and all files that were read. `folder` is that of the cache."""
    # the front end is loaded only for what the cache does not know
    from compiler.syntax.modules import read_modules

    loaded = read_modules(root, folder, within)
    return findings_in(loaded, dimensions_of, experiment, overrides), loaded.sources


def findings_in(
    loaded: Loaded,
    dimensions_of: DimensionsOf | None = None,
    experiment: str | None = None,
    overrides: Overrides = (),
    keep: Callable[[Subject], None] | None = None,
    watch: Watch | None = None,
) -> tuple[Diagnostic, ...]:
    """The errors and warnings of files that were read; `watch` as in `elaborate.check`.

    `keep` is given each program without a mistake, with what was recorded beside it.
    """
    from compiler.frontend import elaborate  # the front end is loaded only for what the cache does not know
    from compiler.syntax.suppressions import idle_suppressions, without_suppressed

    if not loaded.has_root:
        return loaded.mistakes

    def looked_at(subject: Subject) -> Iterator[Diagnostic]:
        if keep is not None:
            keep(subject)
        return _looked_at(subject)

    found = elaborate.check(
        loaded.modules, loaded.mistakes, loaded.incomplete, dimensions_of, looked_at, experiment, overrides, watch
    )
    has_errors = any(finding.severity == "error" for finding in found)
    # beside a mistake, a suppression without effect may be of use
    idle = () if has_errors else idle_suppressions(loaded.sources, found)
    return (*without_suppressed(found), *idle)


def subjects(path: Path | Source, within: Path | None = None) -> tuple[str, ...]:
    """The experiments of a file or text, and its models that no experiment trains, by the names that choose them."""
    from compiler.syntax import tree
    from compiler.syntax.modules import load_modules

    declarations = load_modules(path, default_folder(), within)[-1].declarations
    trains = [d for d in declarations if isinstance(d, tree.Train)]
    trained = {train.model.id for train in trains}
    models = [d.name for d in declarations if isinstance(d, tree.Model) and d.name not in trained]
    return (*(train.name or train.model.id for train in trains), *models)


def _looked_at(subject: Subject) -> Iterator[Diagnostic]:
    """The warnings about a program in which elaboration found no mistake."""
    from compiler.choices.limits import mistakes  # the reference, which a cached program does without
    from compiler.lints import lint

    yield from mistakes(subject.program)
    yield from lint(subject)


def _outline(known: Program) -> Outline:
    def elaborated() -> Program:
        return _elaborated_again(known, data_dimensions(known))

    parts: dict[str, Any] = {part.name: getattr(known, part.name) for part in fields(Program)}
    return Outline(**parts, elaborated=remembered(elaborated))


def _elaborated_again(known: Program, dimensions: Mapping[str, int]) -> Program:
    """From the texts that a program was checked with: the files may have changed since."""
    from compiler.frontend.elaborate import elaborate  # only where the compiled code is not cached
    from compiler.syntax.parser import ParseCache

    parsed = ParseCache(default_folder())
    modules = tuple(map(parsed.parse, known.sources))
    program = elaborate(modules, known.name, known.overrides, lambda _: dimensions)
    return replace(program, overrides=known.overrides)


def data_dimensions(program: Program) -> dict[str, int]:
    """The dimensions of a program that its data decided, by name."""
    decided = {setting.name: setting.value for setting in program.settings if setting.origin == "data"}
    return {name: extent for name, extent in decided.items() if isinstance(extent, int)}


def _fits_data(program: Program, dimensions_of: DimensionsOf | None) -> bool:
    dimensions = data_dimensions(program)
    if not dimensions or dimensions_of is None:
        return not dimensions
    plan = program.plan
    source, cuts = (None, Cuts()) if plan is None else (plan.data, plan.cuts)
    targets = tuple(spec.name for spec in program.inputs if spec.is_target)
    return dimensions_of(DataQuestion(tuple(dimensions), program.inputs, source, cuts, targets)) == dimensions


def _entry_name(kind: str, root: Path | Source, *choices: object) -> str:
    """A name that no other request has: messages show the name of a file as it was given, and it may be relative."""
    given = (root.name, root.text) if isinstance(root, Source) else (str(root),)
    return repr((kind, compiler_version(), os.path.abspath(given[0]), given, choices))


def _is_current(sources: tuple[Source, ...], root: Path | Source) -> bool:
    """Whether each file still holds the text that was elaborated. The name of a source is its path."""
    return all(source == root or _holds(source) for source in sources)


def _holds(source: Source) -> bool:
    try:
        return Path(source.name).read_bytes().decode("utf-8-sig") == source.text
    except (OSError, ValueError):
        return False


def _stored(value: Program | _Checked) -> bytes:
    if isinstance(value, Program):
        value = replace(value, axes=None, applications=())
    stream = io.BytesIO()
    _OutlinePickler(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return stream.getvalue()


def _restored(content: bytes | None) -> object:
    if content is None:
        return None
    try:
        return pickle.loads(content)  # our own file: checksummed, in a folder that only this user can write
    except Exception:  # of another version, in spite of its name: anything can be wrong with it
        return None


class _OutlinePickler(pickle.Pickler):
    """Leaves out the nodes of graphs, and the function that makes the graphs of a clip."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Graph):
            return Graph, (obj.name, obj.inputs, (), obj.outputs)
        return (Clip, (obj.form, obj.is_global, _left_out)) if isinstance(obj, Clip) else NotImplemented


def _left_out(type_: TensorType) -> Graph:
    raise CompilerBug("programs", f"the outline of a program has no graph that clips {type_}")


def options_of(program: Program, options: Options) -> Options:
    """The options with the precision that `train` asks for; who asks for f64 on the command line gets it anyway."""
    wide = program.plan is not None and program.plan.is_double
    return replace(options, dtype="f64") if wide else options


def with_wide_inputs(program: Program, options: Options) -> Program:
    """The program whose inputs say f64 where they are so when it runs: then doubles of the data are not rounded."""
    if options_of(program, options).dtype != "f64":
        return program
    f64 = DType.F64
    wide = (replace(s, type=replace(s.type, dtype=f64)) if s.type.dtype is DType.F32 else s for s in program.inputs)
    return replace(program, inputs=tuple(wide))


def in_precision(program: Program, options: Options) -> Program:
    """The program with the precision of the options, which its step must know before it is differentiated."""
    if options.dtype != "f64" or program.plan is None:
        return program
    return replace(program, plan=replace(program.plan, precision="f64"))
