"""Layers of a model with those of a file: matched by shape, then by name, number and order; what stays open is told."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import takewhile
from typing import TypeAlias, TypeVar

from compiler.support.record import record
from runtime.imports.weights.foreign_layers import ForeignLayer
from runtime.imports.weights.layouts import Layouts
from runtime.imports.weights.model_layers import ModelLayer
from runtime.imports.weights.words import numbered, word_of

BY_SHAPE, BY_NUMBER, BY_ORDER, BY_PLACE = "alone in its shape", "by number", "by order", "beside what is matched"
Pair: TypeAlias = tuple[ModelLayer, ForeignLayer, str]
_Item = TypeVar("_Item")
_Key = TypeVar("_Key", bound=Hashable)


@record
class LayerMatch:
    """`pairs` hold the reason of each. `open`: layers of the model, each group with the layers that may be theirs."""

    pairs: tuple[Pair, ...]
    open: tuple[tuple[tuple[ModelLayer, ...], tuple[ForeignLayer, ...]], ...]


@record
class _Class:
    """Layers of one shape that are still to be matched."""

    models: tuple[ModelLayer, ...]
    layers: tuple[ForeignLayer, ...]


def match_layers(
    models: Sequence[ModelLayer], layers: Sequence[ForeignLayer], layouts: Layouts, is_ordered: bool
) -> LayerMatch:
    """Match what can be told; a layer of the model that several would fit stays open."""
    classes = _classes(models, layers, layouts)
    pairs: list[Pair] = []
    while True:
        before = len(pairs)
        classes = [rest for one in classes for rest in _by_words(one, pairs, is_ordered)]
        classes = [rest for one in classes for rest in _by_siblings(one, pairs)]
        if len(pairs) == before and is_ordered and _in_order(pairs):
            classes = [rest for one in classes for rest in _by_order(one, pairs)]
        if len(pairs) == before:
            break
    fitting = [(one.models, one.layers) for one in classes if one.models]
    return LayerMatch(tuple(pairs), tuple(fitting))


def _classes(models: Sequence[ModelLayer], layers: Sequence[ForeignLayer], layouts: Layouts) -> list[_Class]:
    """The layers of the model by shape, each class with the layers of the file that belong to it alone."""
    groups = _grouped(models, lambda model: model.signature)
    belonging: dict[Hashable, list[ForeignLayer]] = {key: [] for key in groups}
    for layer in layers:
        fitting = [key for key, members in groups.items() if layouts.made(members[0], layer)]
        for key in _likely(fitting, groups, layer):
            belonging[key].append(layer)
    return [_Class(tuple(groups[key]), tuple(belonging[key])) for key in groups]


def _likely(
    fitting: Sequence[_Key], groups: Mapping[_Key, Sequence[ModelLayer]], layer: ForeignLayer
) -> Sequence[_Key]:
    """Of the classes that a layer fits, those whose layers have its word; else those of the library's layers."""
    if len(fitting) < 2:
        return fitting
    word = word_of(layer.scope)
    named = [key for key in fitting if word is not None and any(word_of(m.scope) == word for m in groups[key])]
    if named:
        return named
    kinds = {key: groups[key][0].kind for key in fitting}
    for wanted in (("linear", "convolution", "transposed", "norm", "recurrent"), ("table",)):
        if chosen := [key for key in fitting if kinds[key] in wanted]:
            return chosen
    return fitting


def _by_words(one: _Class, pairs: list[Pair], is_ordered: bool) -> list[_Class]:
    """Layers whose paths have a word in common, as often in the model as in the file; and the others by number."""
    models, layers = _grouped(one.models, lambda m: word_of(m.scope)), _grouped(one.layers, lambda s: word_of(s.scope))
    rest: list[_Class] = []
    done: set[str | None] = set()
    for word in models:
        if word is not None and len(models[word]) == len(layers.get(word, ())):
            part = _Class(tuple(models[word]), tuple(layers[word]))
            rest += _by_number(part, pairs, f"by name ({word})", is_ordered)
            done.add(word)
    others = _Class(
        tuple(m for m in one.models if word_of(m.scope) not in done),
        tuple(s for s in one.layers if word_of(s.scope) not in done),
    )
    words = {word_of(m.scope) for m in others.models} - {None}, {word_of(s.scope) for s in others.layers} - {None}
    if all(words) and not words[0] & words[1]:  # both say what they are, and not the same
        return [*rest, others]
    return [*rest, *_by_number(others, pairs, BY_SHAPE, is_ordered)]


def _by_number(one: _Class, pairs: list[Pair], alone: str, is_ordered: bool) -> list[_Class]:
    """As many layers on both sides, in the order of the model and of the numbers in the file's names."""
    if len(one.models) != len(one.layers) or not one.models:
        return [one] if one.models or one.layers else []
    order = numbered([layer.scope for layer in one.layers])
    if len(one.models) > 1:
        if order is None or (is_ordered and order != sorted(order, key=lambda k: one.layers[k].place)):
            return [one]
        alone = alone if alone != BY_SHAPE else BY_NUMBER
    for model, place in zip(one.models, order or [0], strict=True):
        pairs.append((model, one.layers[place], alone))
    return []


def _by_siblings(one: _Class, pairs: list[Pair]) -> list[_Class]:
    """Layers that stand beside matched ones: a norm is one of the block that has the convolutions beside it."""
    homes: dict[str, list[list[str]]] = {}
    for model, layer, _ in pairs:
        homes.setdefault(_parent(layer.scope), []).append(_parent(model.scope).split("."))
    groups: dict[str | None, list[ForeignLayer]] = _grouped(
        one.layers, lambda layer: _common(homes[_parent(layer.scope)]) if _parent(layer.scope) in homes else None
    )
    rest: list[_Class] = []
    models, layers = list(one.models), list(one.layers)
    for home in sorted((home for home in groups if home is not None), key=len, reverse=True):
        inside = [model for model in models if f"{model.scope}.".startswith(f"{home}." if home else "")]
        # Where some stand nowhere, which of those beside nothing are meant is not known.
        if len(inside) != len(groups[home]) or (not home and None in groups):
            continue
        left = _by_number(_Class(tuple(inside), tuple(groups[home])), pairs, BY_PLACE, False)
        rest += left
        models = [model for model in models if model not in inside]
        layers = [layer for layer in layers if layer not in groups[home]]
    others = _Class(tuple(models), tuple(layers))
    return [*rest, others] if others.models or others.layers else rest


def _common(paths: Sequence[Sequence[str]]) -> str:
    """The beginning that all paths have."""
    same = takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    return ".".join(parts[0] for parts in same)


def _by_order(one: _Class, pairs: list[Pair]) -> list[_Class]:
    """As many layers on both sides, each in its order."""
    if len(one.models) != len(one.layers) or not one.models:
        return [one] if one.models or one.layers else []
    layers = sorted(one.layers, key=lambda layer: layer.place)
    if numbered([layer.scope for layer in layers]) not in (None, list(range(len(layers)))):
        return [one]  # the numbers in the names say another order
    pairs.extend((model, layer, BY_ORDER) for model, layer in zip(one.models, layers, strict=True))
    return []


def _in_order(pairs: Sequence[Pair]) -> bool:
    """Whether the layers matched so far stand in the file as they do in the model, so that its order says something."""
    places = [layer.place for _, layer, _ in sorted(pairs, key=lambda pair: pair[0].place)]
    return places == sorted(places)


def _parent(scope: str) -> str:
    return scope.rpartition(".")[0]


def _grouped(items: Sequence[_Item], key: Callable[[_Item], _Key]) -> dict[_Key, list[_Item]]:
    found: dict[_Key, list[_Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found
