"""Experiments that build on others: `train B: A { … }` with an experiment A states only the differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from compiler.syntax import tree

_EXCLUSIVE = {"epochs": "steps", "steps": "epochs"}


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Part = TypeVar("_Part", bound=_Named)


def with_bases(modules: Sequence[tree.Module]) -> tuple[tree.Module, ...]:
    """The modules with the whole text of each experiment that builds on another, in its own file or an imported one.

    One whose base is unknown, or follows from itself, stays as it is: its model is then no model.
    """
    return tuple(
        replace(
            module,
            declarations=tuple(
                _whole(d, (module, *modules)) if isinstance(d, tree.Train) else d for d in module.declarations
            ),
        )
        if any(bases_of(train, (module, *modules)) for train in _trains((module,)))
        else module
        for module in modules
    )


def bases_of(train: tree.Train, modules: Sequence[tree.Module]) -> tuple[tree.Train, ...]:
    """The experiments on which one builds, the nearest first; in a circle, up to where it returns."""
    found: list[tree.Train] = []
    while train.name is not None and not _is_model(train.model.id, modules):
        base = next((other for other in _trains(modules) if other.name == train.model.id), None)
        if base is None:
            break
        is_circle = base in found
        found.append(base)
        if is_circle:
            break
        train = base
    return tuple(found)


def _trains(modules: Iterable[tree.Module]) -> Iterator[tree.Train]:
    return (d for module in modules for d in module.declarations if isinstance(d, tree.Train))


def _is_model(name: str, modules: Sequence[tree.Module]) -> bool:
    return any(isinstance(d, tree.Model) and d.name == name for m in modules for d in m.declarations)


def _whole(train: tree.Train, modules: Sequence[tree.Module]) -> tree.Train:
    chain = bases_of(train, modules)
    if not chain or not _is_model(chain[-1].model.id, modules):
        return train
    whole = chain[-1]
    for one in (*reversed(chain[:-1]), train):
        whole = _joined(whole, one)
    return whole


def _joined(base: tree.Train, own: tree.Train) -> tree.Train:
    """The base with the parts of the other in place of its own. `NAME = none` leaves out a part of the base."""
    out = {entry.key for entry in own.entries if isinstance(entry.value, tree.NoneLiteral)}
    out -= {part.name for part in (*own.targets, *own.updates)} | ({"augment"} if own.augment is not None else set())
    known = {part.name for part in (*base.targets, *base.updates)} | {"augment" for _ in (base.augment,) if _}
    return replace(
        own,
        model=base.model,
        settings=_by_name(base.settings, own.settings),
        targets=tuple(part for part in _by_name(base.targets, own.targets) if part.name not in out),
        entries=tuple(entry for entry in _joined_entries(base.entries, own.entries) if entry.key not in out & known),
        augment=own.augment or (None if "augment" in out else base.augment),
        updates=tuple(part for part in _joined_updates(base.updates, own.updates) if part.name not in out),
        base=own.model,
    )


def _joined_entries(base: Sequence[tree.Entry], own: Sequence[tree.Entry]) -> tuple[tree.Entry, ...]:
    """The lines of the base that no own one replaces, and the own ones but for those that leave one of the base out."""
    before = {entry.key: entry for entry in base}
    given = {entry.key for entry in own}
    replaced = given | {_EXCLUSIVE[key] for key in given & _EXCLUSIVE.keys()}
    kept = (e for e in own if not (isinstance(e.value, tree.NoneLiteral) and e.key in before))
    joined = (replace(e, value=_joined_values(before[e.key].value, e.value)) if e.key in before else e for e in kept)
    return (*(entry for entry in base if entry.key not in replaced), *joined)


def _joined_values(base: tree.Expression, own: tree.Expression) -> tree.Expression:
    """Values by name, as those of `auxiliary`: those of the base that are not given, and the own ones."""
    if not isinstance(base, tree.ByName) or not isinstance(own, tree.ByName):
        return own
    return replace(own, items=_by_name(base.items, own.items))


def _joined_updates(base: Sequence[tree.Update], own: Sequence[tree.Update]) -> tuple[tree.Update, ...]:
    """An `update` that the base has too repeats only the keys that differ."""
    before = {block.name: block for block in base}
    known = (block for block in own if block.name in before)
    joined = [replace(b, entries=_joined_entries(before[b.name].entries, b.entries)) for b in known]
    return _by_name(base, (*joined, *(block for block in own if block.name not in before)))


def _by_name(base: Sequence[_Part], own: Sequence[_Part]) -> tuple[_Part, ...]:
    """In the order of the base; those of the other stand in place of what they are called as, or behind."""
    given: Mapping[str, _Part] = {part.name: part for part in own}
    known = {part.name for part in base}
    return (*(given.get(part.name, part) for part in base), *(part for part in own if part.name not in known))
