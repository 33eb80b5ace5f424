"""A call to its callee: a declaration with its signature, or a function that the compiler provides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from compiler.editing.bindings import Bindings, places_in, symbol_of
from compiler.editing.symbols import Kind, Symbol
from compiler.frontend.builtins.functions import BUILTINS
from compiler.frontend.builtins.table import Builtin
from compiler.frontend.scope import OWN_FORMS, ModuleScope, Named, Namespace, Signature, signature_of
from compiler.support.record import record
from compiler.syntax import tree

_Made = TypeVar("_Made")
_MOST = 50_000
_TEXTS_BETWEEN = 100


@record(eq=False)
class Declared:
    """A declaration that can be called, and the file that it stands in."""

    declaration: tree.Callable | tree.Model
    scope: ModuleScope


class Callees:
    """Finds what is called; signatures, names of models and the like are made once for each declaration."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, object], tuple[Named | tree.Sample, Any]] = {}
        self._names: dict[str, object] = {}  # what each text declares
        self._met = 0

    def kept(self, declaration: Named, make: Callable[[Any], _Made]) -> _Made:
        """What `make` gives for a declaration, from an earlier time where it was made before."""
        key = (id(declaration), make)
        known = self._kept.get(key)
        if known is None or known[0] is not declaration:
            if len(self._kept) > _MOST:
                self._kept.clear()
            known = self._kept[key] = declaration, make(declaration)
        return known[1]

    def meet(self, module: tree.Module, imports: Iterable[tree.Module]) -> None:
        """A text was read anew. Where its names have other meanings than before, and now and then, forget what was made
        for declarations of users."""
        declared = (declaration for read in (module, *imports) for declaration in read.declarations)
        names = tuple((type(d), d.name) for d in declared if isinstance(d, Named))
        self._met += 1
        if names != self._names.get(module.source.name) or self._met % _TEXTS_BETWEEN == 0:
            self._names[module.source.name] = names
            self._kept = {key: made for key, made in self._kept.items() if made[0].span.source.is_library}

    def signature(self, declaration: tree.Callable | tree.Model | tree.Sample, scope: ModuleScope) -> Signature:
        known = self._kept.get((id(declaration), signature_of))
        if known is None or known[0] is not declaration:
            return self.kept_as(declaration, signature_of, signature_of(declaration, scope, BUILTINS.__contains__))
        return known[1]

    def names_in(self, declaration: tree.Callable | tree.Model, scope: ModuleScope) -> dict[str, Symbol]:
        """The names that a layer or model binds; experiments see some of them."""
        known = self._kept.get((id(declaration), Bindings))
        if known is not None and known[0] is declaration:
            return known[1]
        bindings = Bindings(places_in(declaration.span.source), scope, declaration.name)
        bindings.bind_signature(self.signature(declaration, scope))
        bindings.bind_block(declaration.body)
        return self.kept_as(declaration, Bindings, bindings.names)

    def losses(self, scope: ModuleScope) -> Iterator[tuple[str, Symbol]]:
        """The losses that layers and models of users state, as a file sees them."""
        for part in (scope, *scope.beyond):
            own = () if part.is_library else (part.own.get(n, {}) for n in (Namespace.VALUE, Namespace.MODEL))
            for found in (located for declared in own for located in declared.values()):
                if isinstance(found.declaration, tree.Callable | tree.Model):
                    names = self.names_in(found.declaration, found.scope)
                    yield from ((name, symbol) for name, symbol in names.items() if symbol.kind is Kind.LOSS)

    def kept_as(self, declaration: Named | tree.Sample, key: object, value: _Made) -> _Made:
        self._kept[id(declaration), key] = declaration, value
        return value

    def symbol(self, declaration: Named) -> Symbol:
        """The symbol of a declaration."""
        return self.kept(declaration, symbol_of)

    def of(
        self, call: tree.Call, scope: ModuleScope, local: Mapping[str, Symbol], keyword: str
    ) -> Declared | Builtin | None:
        """What a call applies, whose keywords it may name; None for a local name."""
        function = call.function
        while isinstance(function, tree.Call):
            function = function.function
        return None if not isinstance(function, tree.Name) else self.named(function.id, scope, local, keyword)

    def named(
        self, name: str, scope: ModuleScope, local: Mapping[str, Symbol], keyword: str
    ) -> Declared | Builtin | None:
        """What a name stands for where it is called."""
        if name in local:
            return self._layer_of(local[name], scope)
        namespaces = [Namespace.VALUE, *([OWN_FORMS[keyword]] if keyword in OWN_FORMS else [])]
        if keyword in ("test", "sample"):
            namespaces.append(Namespace.MODEL)
        for namespace in namespaces:
            found = scope.lookup(namespace, name)
            if found is not None:
                declaration = found.declaration
                return None if isinstance(declaration, tree.Const) else Declared(declaration, found.scope)
            if namespace is Namespace.VALUE and name in BUILTINS:
                return BUILTINS[name]
        return None

    def _layer_of(self, symbol: Symbol, scope: ModuleScope) -> Declared | Builtin | None:
        """The layer that a name was given: `embed` of `embed = embedding(vocabulary, width)`."""
        match symbol.node:
            case tree.Assign((_,), tree.Call(tree.Name(name))):
                return self.named(name, scope, {}, "layer")
            case _:
                return None
