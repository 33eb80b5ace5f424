"""The syntax of a text to every name in it, with the meaning of the name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from compiler.editing.bindings import Bindings, Places, parameter_symbol, visible_in_train
from compiler.editing.callees import Callees, Declared
from compiler.editing.symbols import Kind, Occurrence, Symbol
from compiler.errors.diagnostics import Span
from compiler.frontend.builtins.functions import BUILTINS, CONSTANTS, ELEMENT_TYPES
from compiler.frontend.builtins.table import Builtin
from compiler.frontend.samplers import ROW
from compiler.frontend.scope import OWN_FORMS, ModuleScope, Namespace
from compiler.frontend.train.entries import lines_of, local_entries
from compiler.support.data_formats import CUTS, OPTIONS
from compiler.syntax import tree
from compiler.syntax.walk import parts_of, statements_of, values_of

FORMS = {
    "optimizer": Namespace.OPTIMIZER,
    "penalty": Namespace.PENALTY,
    "schedule": Namespace.SCHEDULE,
    "clip": Namespace.CLIP,
    "sample": Namespace.SAMPLE,
}
"""The keys of `train` and `generate` whose names are looked up in a namespace of their own."""
SOURCES = ("data", "validation", "test")
_KNOWN = ("training", "total_steps", "steps_per_epoch", "batch")
_BY_KIND = {"init": Namespace.INIT, "schedule": Namespace.SCHEDULE}


class Walker:
    """Walks the declarations of one file; `found` are the names, in no order."""

    def __init__(self, places: Places, scope: ModuleScope, callees: Callees) -> None:
        self.places, self.scope, self.callees = places, scope, callees
        self.found: list[Occurrence] = []
        self.bindings: dict[int, dict[str, Symbol]] = {}  # of each declaration, by its line
        self._names: dict[str, Symbol] = {}
        self._keyword = ""
        self._experiments: dict[str, tree.Train] = {}  # by their names

    def walk(self, declarations: Iterable[tree.Declaration]) -> None:
        listed = tuple(declarations)
        self._experiments = {d.name: d for d in listed if isinstance(d, tree.Train) and d.name is not None}
        for declaration in listed:  # models first: experiments see their names
            if not isinstance(declaration, tree.Train | tree.Generate | tree.Sample):
                self._declaration(declaration)
        for declaration in listed:
            if isinstance(declaration, tree.Train | tree.Generate | tree.Sample):
                self._declaration(declaration)

    def _declaration(self, declaration: tree.Declaration) -> None:
        self._names, self._keyword = {}, keyword_of(declaration)
        match declaration:
            case tree.Const():
                self._define(self.callees.symbol(declaration))
                self._expression(declaration.value)
            case tree.Callable():
                self._callable(declaration)
            case tree.Model():
                self._define(self.callees.symbol(declaration))
                bindings = self._bindings(declaration)
                types = self.callees.signature(declaration, self.scope).types
                self._parameters(declaration.settings, Kind.SETTING, types)
                bindings.bind_block(declaration.body)
                self._block(declaration.body)
            case tree.Train():
                self._train(declaration)
            case tree.Generate():
                self._generate(declaration)
            case tree.Sample():
                self._sample(declaration)
            case tree.Test():
                place = self.places.of_name(declaration.span, declaration.name, 1)
                self._define(Symbol(Kind.TEST, declaration.name, place, declaration))
                bindings = Bindings(self.places, self.scope, declaration.name)
                bindings.bind_block(declaration.body)
                self._names = bindings.names
                self._block(declaration.body)
            case tree.Import():
                pass
        self.bindings[declaration.span.line] = self._names

    def _define(self, symbol: Symbol) -> None:
        assert symbol.place is not None
        self.found.append(Occurrence(symbol.place, symbol.kind, symbol, True))

    def _bindings(self, declaration: tree.Callable | tree.Model) -> Bindings:
        bindings = Bindings(self.places, self.scope, declaration.name)
        results = declaration.results if isinstance(declaration, tree.Callable) else ()
        bindings.bind_signature(self.callees.signature(declaration, self.scope), results)
        self._names = bindings.names
        return bindings

    def _callable(self, declaration: tree.Callable) -> None:
        self._define(self.callees.symbol(declaration))
        bindings = self._bindings(declaration)
        signature = self.callees.signature(declaration, self.scope)
        self._parameters(signature.settings, Kind.SETTING, signature.types)
        self._parameters(signature.tensors, Kind.TENSOR)
        for annotation in declaration.results:
            self._annotation(annotation)
        head = dict(bindings.names)
        bindings.bind_block(declaration.body)
        self._block(declaration.body)
        if declaration.gradient is not None:
            body = self._names
            inner = Bindings(self.places, self.scope, declaration.name)
            inner.names = head
            for parameter in declaration.gradient.parameters:
                inner.bind(Kind.TENSOR, parameter.id, parameter.span, None)
            inner.bind_block(declaration.gradient.body)
            self._names = inner.names
            for parameter in declaration.gradient.parameters:
                self._local(parameter, is_written=True)
            self._block(declaration.gradient.body)
            self._names = inner.names | body

    def _parameters(
        self, parameters: Sequence[tree.Parameter], kind: Kind, types: dict[str, str] | None = None
    ) -> None:
        for parameter in parameters:
            symbol = self._names.get(parameter.name)
            if symbol is None or symbol.node is not parameter:
                symbol = parameter_symbol(parameter, kind, "")
            self._define(symbol)
            if isinstance(parameter.annotation, tree.TensorAnnotation):
                self._annotation(parameter.annotation)
            elif parameter.annotation is not None:
                self.found.append(Occurrence(parameter.annotation.span, Kind.TYPE))
            if parameter.default is not None:
                self._value((types or {}).get(parameter.name, ""), parameter.default)

    # Experiments

    def _model_names(self, name: tree.Name) -> dict[str, Symbol]:
        """The names that a model offers to an experiment; the name of the model is recorded."""
        found = self.scope.lookup(Namespace.MODEL, name.id)
        if found is None and name.id in self._experiments:
            self.found.append(Occurrence(name.span, Kind.TRAIN, self._symbol_of(self._experiments[name.id])))
            found = self.scope.lookup(Namespace.MODEL, self._model_of(name.id))
            if found is not None and isinstance(found.declaration, tree.Model):
                return dict(visible_in_train(self.callees.names_in(found.declaration, found.scope)))
            return {}
        if found is None or not isinstance(found.declaration, tree.Model):
            self.found.append(Occurrence(name.span, Kind.MODEL))
            return {}
        self.found.append(Occurrence(name.span, Kind.MODEL, self.callees.symbol(found.declaration)))
        return dict(visible_in_train(self.callees.names_in(found.declaration, found.scope)))

    def _model_of(self, experiment: str) -> str:
        """The model of an experiment, or of the one on which it builds."""
        name = experiment
        for _ in self._experiments:
            name = self._experiments[name].model.id if name in self._experiments else name
        return name

    def _symbol_of(self, train: tree.Train) -> Symbol:
        name = train.name or ""
        return Symbol(Kind.TRAIN, name, self.places.of_name(train.span, name, 1), train)

    def _train(self, train: tree.Train) -> None:
        if train.name is not None:
            self._define(self._symbol_of(train))
        seen = self._model_names(train.model)
        bindings = Bindings(self.places, self.scope, train.name or train.model.id)
        bindings.names = self._names = seen
        found = self.scope.lookup(Namespace.MODEL, self._model_of(train.model.id))
        callee = (
            Declared(found.declaration, found.scope) if found and isinstance(found.declaration, tree.Model) else None
        )
        self._keywords(train.settings, callee)
        self._bind_train(bindings, train)
        for target in train.targets:
            self._input(target)
        if train.augment is not None:
            self._block(train.augment)
        local = local_entries(train)
        for block in train.updates:
            symbol = Symbol(Kind.KEY, block.name, block.place, block)
            self.found.append(Occurrence(block.place, Kind.KEY, symbol, True))
        for entry in lines_of(train):
            if entry in local:
                self._named(entry.key, _beginning(entry.span, entry.key))
                self._expression(entry.value)
            else:
                self._entry(entry)

    def _bind_train(self, bindings: Bindings, train: tree.Train) -> None:
        """The names that an experiment binds, and those of the experiment that it builds on."""
        seen = set[int]()
        found: tree.Train | None = train
        while found is not None and id(found) not in seen:
            seen.add(id(found))
            for target in found.targets:
                bindings.bind_input(target)
            if found.augment is not None:
                bindings.bind_block(found.augment)
            for entry in local_entries(found):
                bindings.bind(Kind.VARIABLE, entry.key, _beginning(entry.span, entry.key), entry)
            found = self._experiments.get(found.model.id)

    def _generate(self, generate: tree.Generate) -> None:
        self._names = self._model_names(generate.model)
        for name in generate.feed or ():
            self._local(name)
        for entry in generate.entries:
            self._entry(entry)

    def _sample(self, sample: tree.Sample) -> None:
        """A `sample` sees settings and sizes of its model, and the model by its name."""
        place = self.places.of_name(sample.span, sample.name, 1)
        self._define(Symbol(Kind.SAMPLE, sample.name, place, sample))
        seen = self._model_names(sample.model)
        bindings = Bindings(self.places, self.scope, sample.name)
        bindings.names = {n: s for n, s in seen.items() if s.kind in (Kind.SETTING, Kind.DIMENSION)}
        bindings.bind_signature(self.callees.signature(sample, self.scope))
        self._names = bindings.names
        self._parameters(sample.settings, Kind.SETTING, self.callees.signature(sample, self.scope).types)
        bindings.bind_block(sample.body)
        self._block(sample.body)

    def _part(self, owner: tree.Expression, name: str) -> Symbol | None:
        """In a `sample`, what `Model.name` stands for."""
        if self._keyword != "sample" or not isinstance(owner, tree.Name) or owner.id in self._names:
            return None
        found = self.scope.lookup(Namespace.MODEL, owner.id)
        if found is None or not isinstance(found.declaration, tree.Model):
            return None
        return self.callees.names_in(found.declaration, found.scope).get(name)

    def _entry(self, entry: tree.Entry) -> None:
        self.found.append(
            Occurrence(_beginning(entry.span, entry.key), Kind.KEY, Symbol(Kind.KEY, entry.key, None, entry), True)
        )
        items = entry.value.items if isinstance(entry.value, tree.ListLiteral) else (entry.value,)
        for item in items:
            if entry.key in FORMS:
                self._form(FORMS[entry.key], item)
            elif entry.key in SOURCES and isinstance(item, tree.Call) and isinstance(item.function, tree.Name):
                self._source(item, item.function)
            else:
                self._expression(item)

    def _source(self, call: tree.Call, name: tree.Name) -> None:
        self.found.append(Occurrence(name.span, Kind.FORMAT if name.id in {**OPTIONS, **CUTS} else Kind.UNKNOWN))
        for value in call.positional:
            self._expression(value)
        for keyword in call.keywords:
            self.found.append(Occurrence(_key_place(keyword), Kind.OPTION))
            self._expression(keyword.value)

    # Statements

    def _block(self, block: tree.Block) -> None:
        for statement in statements_of(block):
            self._statement(statement)

    def _statement(self, statement: tree.Statement) -> None:
        match statement:
            case tree.Assign(names) | tree.For(names) | tree.OutputDeclaration(names) | tree.View(names):
                for name in names:
                    self._local(name, is_written=True)
            case tree.StateUpdate(target) | tree.LossDeclaration(target):
                self._local(target, is_written=True)
            case tree.ParamDeclaration() | tree.StateDeclaration():
                self._named(statement.name, self.places.of_name(statement.span, statement.name, 1))
                if statement.annotation is not None:
                    self._annotation(statement.annotation)
                self._form(Namespace.INIT, statement.initializer)
                return
            case tree.InputDeclaration():
                self._input(statement)
                return
            case _:
                pass
        for value in values_of(statement):
            self._expression(value)

    def _input(self, statement: tree.InputDeclaration) -> None:
        self._named(statement.name, self.places.of_name(statement.span, statement.name, 1))
        self._annotation(statement.annotation)
        if statement.range is not None:
            self._expression(statement.range)
        if statement.mask is not None:
            self._named(statement.mask, Bindings(self.places, self.scope, "").mask_place(statement))

    def _named(self, name: str, place: Span, is_written: bool = True) -> None:
        symbol = self._names.get(name)
        self.found.append(Occurrence(place, symbol.kind if symbol else Kind.UNKNOWN, symbol, is_written))

    def _local(self, name: tree.Name, is_written: bool = False) -> None:
        if name.id in self._names:
            self._named(name.id, name.span, is_written)
        else:
            self.found.append(Occurrence(name.span, Kind.VARIABLE if name.id == "_" else Kind.UNKNOWN))

    def _annotation(self, annotation: tree.TensorAnnotation) -> None:
        if annotation.dtype is not None:
            span, end = annotation.span, annotation.span.column + len(annotation.dtype)
            self.found.append(Occurrence(Span(span.source, span.line, span.column, span.line, end), Kind.TYPE))
        for dimension in annotation.dimensions or ():
            if not isinstance(dimension, tree.EllipsisItem):
                self._expression(dimension)

    # Expressions

    def _expression(self, expression: tree.Expression) -> None:
        match expression:
            case tree.Name():
                self.name(expression)
            case tree.Call():
                self._call(expression)
            case tree.Attribute(value, name):
                self._expression(value)
                span = expression.span
                column = span.end_column - len(name)
                place = Span(span.source, span.end_line, column, span.end_line, span.end_column)
                part = self._part(value, name)
                self.found.append(Occurrence(place, part.kind if part else Kind.ATTRIBUTE, part))
            case tree.Scan():
                self._scan(expression)
            case tree.ByName(items):
                losses = dict(self.callees.losses(self.scope))
                for item in items:
                    symbol = losses.get(item.name)
                    kind = Kind.LOSS if symbol else Kind.OPTION
                    self.found.append(Occurrence(_key_place(item), kind, symbol))
                    self._expression(item.value)
            case _:
                for part in parts_of(expression):
                    self._expression(part)

    def _scan(self, scan: tree.Scan) -> None:
        for part in (*scan.inputs, *scan.carries):
            self._named(part.name, self.places.of_name(part.span, part.name))
        for option in scan.options:
            self.found.append(Occurrence(_key_place(option), Kind.OPTION))
        for part in (*parts_of(scan), *([] if scan.until is None else [scan.until])):
            self._expression(part)
        self._block(scan.body)

    def name(self, name: tree.Name) -> None:
        """A name where a value stands."""
        symbol = self.meaning(name.id, self._names, self._keyword)
        kind = symbol.kind if symbol else Kind.TYPE if name.id in ELEMENT_TYPES else Kind.UNKNOWN
        self.found.append(Occurrence(name.span, kind, symbol))

    def meaning(self, name: str, local: Mapping[str, Symbol], keyword: str) -> Symbol | None:
        """What a name means where a value stands, among the names `local` to a declaration with this keyword."""
        if name in local:
            return local[name]
        found = self.scope.lookup(Namespace.VALUE, name)
        if found is None and keyword in OWN_FORMS and name not in BUILTINS:
            found = self.scope.lookup(OWN_FORMS[keyword], name)
        if found is None and keyword in ("test", "sample"):  # which apply models
            found = self.scope.lookup(Namespace.MODEL, name)
        if found is not None:
            return self.callees.symbol(found.declaration)
        if name in BUILTINS:
            return Symbol(Kind.BUILTIN, name, None, BUILTINS[name])
        if name in CONSTANTS or name in _KNOWN or (name == ROW and keyword == "sample"):
            return Symbol(Kind.CONSTANT, name)
        return None

    def _call(self, call: tree.Call) -> None:
        self._expression(call.function)
        self._arguments(call, self.callees.of(call, self.scope, self._names, self._keyword))

    def _arguments(self, call: tree.Call, callee: Declared | Builtin | None) -> None:
        types: Sequence[str] = ()
        if isinstance(callee, Declared) and not isinstance(call.function, tree.Call):
            signature = self.callees.signature(callee.declaration, callee.scope)
            types = [signature.types[setting.name] for setting in signature.settings]
        for number, value in enumerate(call.positional):
            self._value(types[number] if number < len(types) else "", value)
        self._keywords(call.keywords, callee)

    def _keywords(self, keywords: Sequence[tree.Keyword], callee: Declared | Builtin | None) -> None:
        signature = self.callees.signature(callee.declaration, callee.scope) if isinstance(callee, Declared) else None
        for keyword in keywords:
            place, symbol, kind = _key_place(keyword), None, ""
            if signature is not None and isinstance(callee, Declared):
                for parameter in (*signature.settings, *signature.tensors):
                    if parameter.name == keyword.name:
                        is_setting = keyword.name in signature.types
                        meant = Kind.SETTING if is_setting else Kind.TENSOR
                        symbol = parameter_symbol(parameter, meant, callee.declaration.name)
                        kind = signature.types.get(keyword.name, "")
            self.found.append(Occurrence(place, Kind.SETTING if symbol else Kind.OPTION, symbol))
            self._value(kind, keyword.value)

    def _value(self, kind: str, expression: tree.Expression) -> None:
        if kind in _BY_KIND:
            self._form(_BY_KIND[kind], expression)
        else:
            self._expression(expression)

    def _form(self, namespace: Namespace, expression: tree.Expression) -> None:
        """A form of one namespace, bare or with its settings."""
        head = expression.function if isinstance(expression, tree.Call) else expression
        found = self.scope.lookup(namespace, head.id) if isinstance(head, tree.Name) else None
        if found is None or not isinstance(head, tree.Name) or head.id in self._names:
            self._expression(expression)
            return
        symbol = self.callees.symbol(found.declaration)
        self.found.append(Occurrence(head.span, symbol.kind, symbol))
        if isinstance(expression, tree.Call) and isinstance(found.declaration, tree.Callable):
            self._arguments(expression, Declared(found.declaration, found.scope))


def _key_place(keyword: tree.Keyword) -> Span:
    return _beginning(keyword.span, keyword.name)


def _beginning(span: Span, word: str) -> Span:
    """The word that a stretch of text begins with."""
    return Span(span.source, span.line, span.column, span.line, span.column + len(word))


def keyword_of(declaration: tree.Declaration) -> str:
    """The keyword that begins a declaration."""
    return declaration.keyword if isinstance(declaration, tree.Callable) else type(declaration).__name__.lower()
