"""The tensors of layers that `frozen("w.safetensors", layer)` makes: found in their files, and put in place.

A training reads them once. From then on they are states of the model, which every checkpoint has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from compiler.driver import Array, ParameterSpec, Program, Stored, Tensors
from compiler.errors.diagnostics import CheckpointError, Diagnostic, Note, SourceError, UsageError, hint
from compiler.errors.suggestions import counted, did_you_mean, quoted
from compiler.support.record import record
from runtime.runs.start_weights import file_of, put_recorded_weights, weights_at
from runtime.runs.tensor_files import match_tensors
from runtime.support.files import JsonValue, fingerprint

FROZEN = "frozen.json"  # in a run: which files its frozen layers were read from
_SHOWN = 10  # lines about tensors in an error


@record
class FrozenLayer:
    """The layer `owner` stays as `source` has it; `matched` are its tensors, with their names there."""

    owner: str
    source: str
    fingerprint: str
    matched: Mapping[str, str]
    weights: Mapping[str, Array]

    def __str__(self) -> str:
        return f"{counted(len(self.matched), 'tensor')} of `{self.owner}` stay as they are in {self.source}"

    def to_json(self) -> dict[str, JsonValue]:
        place = str(Path(self.source).absolute())
        return {"owner": self.owner, "source": place, "fingerprint": self.fingerprint, "matched": dict(self.matched)}


def put_frozen_weights(program: Program, tensors: Tensors) -> tuple[FrozenLayer, ...]:
    """Read the files of all frozen layers. Raises SourceError where one is not there or does not fit."""
    found: list[FrozenLayer] = []
    mistakes: list[Diagnostic] = []
    for owner, stored, specs in _frozen_layers(program):
        try:
            found.append(_found(program, owner, stored, specs))
        except (CheckpointError, UsageError) as error:
            mistakes.append(_mistake(stored, error))
    if mistakes:
        raise SourceError(tuple(mistakes))
    for layer in found:
        for path, name in layer.matched.items():
            tensors.write(path, layer.weights[name])
    return tuple(found)


def frozen_findings(program: Program) -> Iterator[Diagnostic]:
    """What `dlc check` has to say of the files of frozen layers; one that is not there yet is a warning."""
    for owner, stored, specs in _frozen_layers(program):
        if not _place(program, stored).exists():
            message = f"the weights `{stored.file}` are not there, so that nothing says whether they fit `{owner}`"
            yield Diagnostic("W0119", message, stored.span, (hint("train them, or put them there"),), "warning")
            continue
        try:
            _found(program, owner, stored, specs)
        except (CheckpointError, UsageError) as error:
            yield _mistake(stored, error)


def put_recorded_layers(tensors: Tensors, recorded: JsonValue, place: Path) -> None:
    """Put the tensors of frozen layers in place, as a run's `frozen.json` tells. Raises CheckpointError."""
    for layer in recorded if isinstance(recorded, Sequence) and not isinstance(recorded, str) else ():
        put_recorded_weights(tensors, layer, place)


def _frozen_layers(program: Program) -> Iterator[tuple[str, Stored, list[ParameterSpec]]]:
    """The path of each, its file, and its tensors."""
    found: dict[str, tuple[str, Stored, list[ParameterSpec]]] = {}
    for spec in program.parameters:
        if spec.stored is not None:
            found.setdefault(spec.twin, (spec.twin, spec.stored, []))[2].append(spec)
    yield from found.values()


def _place(program: Program, stored: Stored) -> Path:
    """A relative path counts from the folder of the model file."""
    return Path(program.sources[-1].name).absolute().parent / Path(stored.file).expanduser()


def _found(program: Program, owner: str, stored: Stored, specs: Sequence[ParameterSpec]) -> FrozenLayer:
    weights, source = weights_at(_place(program, stored))
    inner = {spec.path.removeprefix(f"{owner}."): spec for spec in specs}
    at = _within(owner, stored, tuple(inner), tuple(weights), source)
    found = {name.removeprefix(at): array for name, array in weights.items() if name.startswith(at)}
    if at and not found:
        layers = sorted({name[:end] for name in weights for end, letter in enumerate(name) if letter == "."})
        known = f"there is {quoted(layers)}" if layers else "leave `at` out: its tensors belong to no layer"
        fix = did_you_mean(at[:-1], layers) or known
        raise CheckpointError(f"there is no layer `{at[:-1]}`", source, fix)
    match = match_tensors(found, {name: _shape(spec) for name, spec in inner.items()})
    if not match.is_complete:
        where = f" below `{at[:-1]}`" if at else ""
        lines = [line for line in match.lines() if not line.startswith("not used")]
        listed = "\n".join(lines[:_SHOWN])
        fix = "freeze a layer with the settings that it was trained with, or take other weights"
        raise CheckpointError(f"the weights{where} do not fit `{owner}`:\n{listed}", source, fix)
    matched = {inner[name].path: at + name for name in match.matched}
    return FrozenLayer(owner, str(source), fingerprint(file_of(source)), matched, weights)


def _shape(spec: ParameterSpec) -> tuple[int, ...]:
    return tuple(extent for extent in spec.type.shape if isinstance(extent, int))


def _within(owner: str, stored: Stored, inner: Sequence[str], names: Sequence[str], source: Path) -> str:
    """What stands before the names of the layer's tensors in a file: nothing, or a path and a point."""
    if stored.at is not None:
        return f"{stored.at}." if stored.at else ""
    first = inner[0]
    known = set(names)
    begins = [name.removesuffix(first) for name in names if name == first or name.endswith(f".{first}")]
    whole = [begin for begin in begins if all(begin + name in known for name in inner)]
    if len(whole) > 1:
        listed = ", ".join(f'`at = "{begin[:-1]}"`' for begin in whole)
        message = f"the file holds {len(whole)} layers that `{owner}` could be"
        raise CheckpointError(message, source, f"say which one: {listed}")
    return (whole or [max(begins, key=lambda begin: sum(begin + name in known for name in inner), default="")])[0]


def _mistake(stored: Stored, error: CheckpointError | UsageError) -> Diagnostic:
    notes: tuple[Note, ...] = (hint(error.fix),) if error.fix else ()
    return Diagnostic("E0509", str(error), stored.span, notes)
