"""Experiments that build on others: `train B: A { … }` with an experiment A repeats only what differs."""

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
    """The base with the lines of the other in place of its own. `KEY = none` leaves a line of the base out."""
    given = {entry.key for entry in own.entries}
    replaced = given | {_EXCLUSIVE[key] for key in given & _EXCLUSIVE.keys()}
    entries = (*(e for e in base.entries if e.key not in replaced), *own.entries)
    keys = {entry.key for entry in base.entries}
    return replace(
        own,
        model=base.model,
        settings=_by_name(base.settings, own.settings),
        targets=_by_name(base.targets, own.targets),
        entries=tuple(e for e in entries if not (isinstance(e.value, tree.NoneLiteral) and e.key in keys)),
        augment=own.augment or base.augment,
        updates=_by_name(base.updates, own.updates),
        base=own.model,
    )


def _by_name(base: Sequence[_Part], own: Sequence[_Part]) -> tuple[_Part, ...]:
    """In the order of the base; those of the other stand in place of what they are called as, or behind."""
    given: Mapping[str, _Part] = {part.name: part for part in own}
    known = {part.name for part in base}
    return (*(given.get(part.name, part) for part in base), *(part for part in own if part.name not in known))
