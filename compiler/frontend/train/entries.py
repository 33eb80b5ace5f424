"""The keys of `train`: their names, the values that each takes, and their replacements on the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from compiler.errors.diagnostics import Note, Span, hint
from compiler.errors.other_names import IN_TRAIN
from compiler.frontend.bodies.instances import names_in
from compiler.frontend.data_parts import DataSource, PartSource, SettingValue
from compiler.frontend.elaborator import Session
from compiler.frontend.failures import Failure, failure, nearest
from compiler.frontend.program import StartWeights
from compiler.frontend.settings import COMMAND_LINE, Override, plain
from compiler.frontend.train import cuts, forms
from compiler.frontend.update_rules import SHARE_OF_THE_NEW
from compiler.frontend.values import RunTimeNumber, Value, describe
from compiler.support.data_formats import CUTS, OPTIONS, options_for
from compiler.support.record import record
from compiler.support.train_keys import KEYS, OF_UPDATES
from compiler.syntax import tree

_Form = TypeVar("_Form")
# The keys that must be given, with an example of each.
_EXAMPLES = {
    "loss": "loss = cross_entropy(logits, label)",
    "optimizer": "optimizer = adam(lr = 1e-3)",
    "batch": "batch = 32",
}
_APART = ("data", "validation", "test", "oversample", "target", "augment", "early_stop", "plateau", "best", "precision")
EVALUATED = frozenset(KEYS) - set(_APART)
"""The keys whose values are expressions over names of the file; data sources have names of their own, for example."""
_EXPRESSIONS = ("loss", "auxiliary", "metrics", "optimizer", "schedule", "clip", "penalty", "freeze", "unfreeze")


def lines_of(train: tree.Train) -> tuple[tree.Entry, ...]:
    """The lines with keys and values, with those of `update` blocks behind the others."""
    return (*train.entries, *(entry for block in train.updates for entry in block.entries))


def local_entries(train: tree.Train) -> tuple[tree.Entry, ...]:
    """The values with a name of their own, which the loss, the metrics or each other read, in the order of the text."""
    return _values_read(train, [entry for entry in lines_of(train) if entry.key in ("loss", "metrics")])


def _values_read(train: tree.Train, readers: list[tree.Entry]) -> tuple[tree.Entry, ...]:
    """The entries that are no keys and that the readers, or others that these read, have in their values."""
    others = {entry.key: entry for entry in train.entries if entry.key not in KEYS}
    local: dict[str, tree.Entry] = {}
    waiting = [entry.value for entry in readers]
    while waiting:
        read = {name.id for name in names_in(waiting.pop())}
        new = {key: entry for key, entry in others.items() if key in read and key not in local}
        local |= new
        waiting += [entry.value for entry in new.values()]
    return tuple(entry for entry in train.entries if local.get(entry.key) is entry)


@record
class _Given:
    """The value of a key as the text or the command line gives it; `text` takes what is no expression as a string."""

    expression: tree.Expression
    text: tree.Expression
    place: Span
    origin: str


class Keys:
    """Keys with their replacements on the command line, where `prefix` stands before each.

    `expressions` are those whose values are expressions over tensors, or forms.
    """

    def __init__(
        self,
        session: Session,
        train: tree.Train,
        entries: Sequence[tree.Entry],
        expressions: Sequence[str],
        prefix: str = "",
    ) -> None:
        self.session, self.train, self.report, self.prefix = session, train, session.report, prefix
        self.written = {entry.key: entry for entry in entries}
        given = {key: found for key in expressions if (found := self._given(key)) is not None}
        self._expressions = {key: found.expression for key, found in given.items()}
        for key, found in given.items():
            if found.origin == COMMAND_LINE:
                session.settings.record(prefix + key, session.settings.overrides[prefix + key].text, COMMAND_LINE)

    def expression(self, key: str) -> tree.Expression | None:
        """The value of a key that is an expression over tensors or a form."""
        return self._expressions.get(key)

    @property
    def averages(self) -> bool:
        """Whether an average is kept of each parameter."""
        return False

    def is_given(self, key: str) -> bool:
        return key in self.written or self.prefix + key in self.session.settings.used

    def _given(self, key: str) -> _Given | None:
        override = self.session.settings.take(self.prefix + key)
        if override is not None:
            return _Given(override.as_expression, override.as_text, override.span, COMMAND_LINE)
        entry = self.written.get(key)
        return None if entry is None else _Given(entry.value, entry.value, entry.value.span, "train")

    def _constant(self, key: str, wanted: forms.Wanted, is_text: bool = False) -> Value:
        """The value of a key that is configuration, recorded as a setting; None where it is not given or wrong.

        A text stands on the command line without quotes.
        """
        given = self._given(key)
        if given is None:
            return None
        with self.report.recording():
            expression = given.text if is_text else given.expression
            value = forms.evaluate_constant(self.session, self.train, expression)
            self.session.settings.record(self.prefix + key, value, given.origin)
            return forms.checked(value, key, wanted, given.place)
        return None

    def _whole(self, key: str, least: int) -> int | None:
        value = self._constant(key, forms.whole_from(least))
        return value if isinstance(value, int) else None


class Entries(Keys):
    """The keys of one `train`."""

    def __init__(self, session: Session, train: tree.Train) -> None:
        super().__init__(session, train, train.entries, _EXPRESSIONS)
        self.local = local_entries(train)
        self.takes_all = self._says_all("batch")
        self.batch = None if self.takes_all else self._whole("batch", 1)
        self.accumulate = self._whole("accumulate", 1) or 1
        self.shards = self._whole("shards", 1) or 1
        self.synchronised = self._constant("synchronised", forms.SWITCH) is True
        epochs, steps = self._whole("epochs", 1), self._whole("steps", 1)
        # A length on the command line replaces that of the text.
        set_there = [key for key in ("epochs", "steps") if key in session.settings.used]
        self.epochs = None if set_there == ["steps"] else epochs
        self.steps = None if set_there == ["epochs"] else steps
        self.seed = self._whole("seed", 0) or 0
        self.keep = self._whole("keep", 1)
        self.restores = self._constant("restore", forms.SWITCH) is not False
        self.init_from = self._start_weights()
        self.early_stop = self._stopping("early_stop", forms.early_stop_of)
        self.plateau = self._stopping("plateau", forms.plateau_of)
        self.data = self._data()
        self.validation = self._part("validation")
        self.test = self._part("test")
        self.oversample = str(self._constant("oversample", cuts.TEXT, is_text=True) or "")
        self.stream = self._whole("stream", 1) or 0
        self.ema = self._average()
        self.precision = self._precision()
        self.best, self.best_span = self._best()

    @property
    def averages(self) -> bool:
        return self.ema is not None

    @property
    def places(self) -> dict[str, Span]:
        """Where the keys, and the settings that the command line gives, stand."""
        written = {key: entry.value.span for key, entry in self.written.items()}
        return written | {name: given.span for name, given in self.session.settings.overrides.items()}

    def check(self) -> None:
        """Unknown, repeated and missing keys, and those that are not compiled yet."""
        seen: dict[str, Span] = {}
        local = {entry.key for entry in self.local}
        for entry in self.train.entries:
            if (entry.key not in KEYS or entry.key in ("target", "augment")) and entry.key not in local:
                self._report_unknown(entry)
            elif entry.key in seen:
                earlier = Note("first given here", seen[entry.key])
                self.report.mistake("E0601", f"`{entry.key}` is given twice", entry.span, earlier)
            seen.setdefault(entry.key, entry.span)
        # An unknown key is most likely the missing one, misspelt.
        has_unknown = any(entry.key not in (*KEYS, *local) for entry in self.train.entries)
        needed = [key for key in _EXAMPLES if not (self.train.updates and key in OF_UPDATES)]
        missing = [] if has_unknown else [key for key in needed if not self.is_given(key)]
        if missing:
            named = " and ".join(f"`{key}`" for key in missing)
            noun = "key" if len(missing) == 1 else "keys"
            advice = (*(hint(f"such as `{_EXAMPLES[key]}`") for key in missing), *self._base_without_a_name())
            self.report.mistake("E0602", f"`train` needs the {noun} {named}", self.train.head, *advice)
        if self.takes_all and self.accumulate > 1:
            message = "`accumulate` is for several batches, and `batch = all` is one"
            self.report.mistake("E0603", message, self.train.head, hint("give `batch` a number of rows"))
        self._check_shards()
        if "epochs" in self.written and "steps" in self.written:
            entry = self.written["steps"]
            other = Note("`epochs` is given here", self.written["epochs"].span)
            self.report.mistake("E0608", "`epochs` and `steps` both say how long to train", entry.span, other)

    def _check_shards(self) -> None:
        """Report a number of shards that no batch has, and statistics over a batch that is not there at once."""
        if self.shards > 1 and self.accumulate > 1 and self.synchronised:
            message = "`synchronised` does not go with `accumulate`: all batches of an update would be kept at once"
            advice = hint("take a larger `batch` instead of several, or leave `synchronised` out")
            self.report.mistake("E0603", message, self.place_of("synchronised"), advice)
        elif self.batch is not None and self.shards > self.batch:
            message = f"a batch of {self.batch} rows cannot be cut into {self.shards} shards"
            self.report.mistake("E0603", message, self.place_of("shards"), hint("a shard takes at least one row"))

    def _base_without_a_name(self) -> tuple[Note, ...]:
        """Advice where an experiment seems to build on a `train` that has the name of its model alone."""
        model = self.train.model.id
        trains = (d for module in self.session.modules for d in module.declarations if isinstance(d, tree.Train))
        if self.train.name is None or not any(other.name is None and other.model.id == model for other in trains):
            return ()
        said = f"`{model}` is the model here; to build on `train {model}`, give that a name, `train First: {model}`"
        return (hint(f"{said}, and write `train {self.train.name}: First`"),)

    def place_of(self, key: str) -> Span:
        """Where a key that is given stands."""
        return self.places.get(key, self.train.head)

    def _report_unknown(self, entry: tree.Entry) -> None:
        """Report a name that is no key and that nothing reads; a value that a misspelt key reads is no mistake."""
        notes = nearest(entry.key, KEYS, IN_TRAIN)
        unknown = [other for other in self.train.entries if other.key not in KEYS and other is not entry]
        misspelt = [other for other in unknown if nearest(other.key, KEYS, IN_TRAIN)]
        if entry in _values_read(self.train, misspelt):
            return
        if not notes:
            notes = (hint(f"the keys are {', '.join(KEYS)}; other names are values that `loss` or `metrics` read"),)
        self.report.mistake("E0601", f"`train` has no key `{entry.key}`", entry.span, *notes)

    def _says_all(self, key: str) -> bool:
        """Whether a key is `all`, as in `batch = all`."""
        given = self._given(key)
        if given is None or not isinstance(given.expression, tree.Name) or given.expression.id != "all":
            return False
        self.session.settings.record(key, "all", given.origin)
        return True

    def _start_weights(self) -> StartWeights | None:
        given = self._given("init_from")
        if given is None:
            return None
        expression = given.expression if isinstance(given.expression, tree.Call) else given.text
        with self.report.recording():
            found = forms.start_weights(self.session, self.train, expression)
            self.session.settings.record("init_from", found.path, given.origin)
            return found
        return None

    def _average(self) -> float | None:
        """`ema = 0.999`: how much of the averaged weights stays in a step, which is passed at run time."""
        value = self._constant(
            "ema", forms.Wanted(forms.SHARE.words, lambda value: value is None or forms.SHARE.is_right(value))
        )
        if not isinstance(value, int | float):
            return None
        kept = RunTimeNumber("ema", float(value), frozenset({"ema"}))
        taken = RunTimeNumber(SHARE_OF_THE_NEW, 1 - float(value), kept.sources, "-", (1, kept))
        self.session.run_time |= {kept.name: kept, taken.name: taken}
        return float(value)

    def _stopping(self, key: str, read: Callable[[Session, tree.Train, tree.Expression, str], _Form]) -> _Form | None:
        """`early_stop` or `plateau`: a number on the command line changes the main setting of the text's form."""
        given = self._given(key)
        if given is None:
            return None
        expression, origin = given.expression, given.origin
        if isinstance(expression, tree.Number) and key in self.written:
            expression, origin = self.written[key].value, "train"
        return self.report.attempt(lambda: read(self.session, self.train, expression, origin))

    def _data(self) -> DataSource | None:
        override = self.session.settings.take("data")
        entry = self.written.get("data")
        declared = None if entry is None else self._source("data", entry.value)
        if override is None:
            if declared is not None:
                self.session.settings.record("data", declared.path, "train")
            return self._with_options(declared, "train")
        self.session.settings.record("data", override.text, COMMAND_LINE)
        if isinstance(override.expression, tree.Call):
            return self._with_options(self._source("data", override.expression), COMMAND_LINE)
        return self._with_options(source_from_path(override.as_text.value, declared, override.span), "train")

    def _with_options(self, source: DataSource | None, origin: str) -> DataSource | None:
        """The source with options that the command line gives: `--set data.rows='year < 2010'`."""
        if source is None:
            return None
        settings, options = self.session.settings, dict(source.options)
        origins = dict.fromkeys(options, origin)
        for name in OPTIONS[source.format]:
            override = settings.take(f"data.{name}")
            if override is not None:
                options[name] = self._option(override)
                origins[name] = COMMAND_LINE
        for name, value in options.items():
            settings.record(f"data.{name}", value, origins[name])
        return replace(source, options=tuple(options.items()))

    def _option(self, override: Override) -> SettingValue:
        """A number, a switch or a list is what it says; anything else is a text."""
        expression = override.expression
        if isinstance(expression, tree.Number | tree.Boolean | tree.ListLiteral | tree.Unary):
            return plain(forms.evaluate_constant(self.session, self.train, expression))
        return override.as_text.value

    def _source(self, key: str, expression: tree.Expression) -> DataSource | None:
        return self.report.attempt(lambda: data_source(self.session, self.train, key, expression))

    def _part(self, key: str) -> PartSource:
        """A fraction of the data, a cut, or a source of its own."""
        given = self._given(key)
        if given is None:
            return None
        called, form = given.expression, cuts.form_of(given.expression)
        if isinstance(called, tree.Call) and form is not None:
            cut = self.report.attempt(lambda: cuts.cut_of(self.session, self.train, key, called, form))
            if cut is not None:
                self.session.settings.record(key, str(cut), given.origin)
            return cut
        if isinstance(given.expression, tree.Call):
            source = self._source(key, given.expression)
            if source is not None:
                self.session.settings.record(key, source.path, given.origin)
            return source
        may_be_path = given.origin == COMMAND_LINE

        def is_right(value: Value) -> bool:
            return (isinstance(value, str) and may_be_path) or (forms.is_plain_number(value) and 0 <= value < 1)

        value = self._constant(key, forms.Wanted("a fraction from 0 to below 1, a cut, or a data source", is_right))
        if isinstance(value, str):
            return source_from_path(value, self.data, given.place)
        return float(value) if isinstance(value, int | float) else None

    def _best(self) -> tuple[str, Span | None]:
        """`best = accuracy`: the metric by which epochs are compared."""
        given = self._given("best")
        match given:
            case None:
                pass
            case _Given(tree.Name(name) | tree.Text(name)):
                self.session.settings.record("best", name, given.origin)
                return name, given.expression.span
            case _Given(tree.Attribute(tree.Name(update), name)):
                self.session.settings.record("best", f"{update}.{name}", given.origin)
                return f"{update}.{name}", given.expression.span
            case _:
                advice = hint("such as `best = accuracy`, or `best = critic.loss` beside an `update critic`")
                self.report.mistake("E0603", "`best` is the name of a metric", given.expression.span, advice)
        return "loss", None

    def _precision(self) -> str:
        """`precision`: f64, which takes the place of f32 in the whole program; bf16 or tf32, of factors of products."""
        given = self._given("precision")
        if given is None:
            return "f32"
        match given.expression:
            case tree.Name(chosen) | tree.Text(chosen) if chosen in PRECISIONS and not self._is_quoted(given):
                self.session.settings.record("precision", chosen, given.origin)
                return chosen
            case expression:
                advice = (hint("the name stands without quotes"),) if self._is_quoted(given) else ()
                self.report.mistake("E0603", "`precision` is `f32`, `f64`, `bf16` or `tf32`", expression.span, *advice)
        return "f32"

    @staticmethod
    def _is_quoted(given: _Given) -> bool:
        """Whether a text of the model file stands in place of a name; a setting from Python has no other form."""
        return isinstance(given.expression, tree.Text) and given.origin != COMMAND_LINE


PRECISIONS = ("f32", "f64", "bf16", "tf32")
FORMATS = tuple(OPTIONS)
_OF_TEXT = ("text", "lines", "pairs")  # whatever the names of their files end in
_FURTHER_FILES = {"lines": ("labels", "synonyms"), "pairs": ("target",)}
_ENDINGS = {
    **{".csv": "csv", ".tsv": "csv", ".npz": "npz", ".npy": "npy", ".parquet": "parquet", ".pq": "parquet"},
    **{".arrow": "arrow", ".feather": "arrow", ".jsonl": "jsonl", ".ndjson": "jsonl"},
}


def data_source(session: Session, train: tree.Train, key: str, expression: tree.Expression) -> DataSource:
    """A source as `train` names it. Raises `Failure`."""
    if not isinstance(expression, tree.Call) or not isinstance(expression.function, tree.Name):
        message = f"`{key}` is a data source"
        raise failure("E0603", message, expression.span, hint('such as `csv("data.csv")` or `idx("data/mnist")`'))
    name = expression.function
    if name.id not in FORMATS:
        known = FORMATS if key == "data" else (*FORMATS, *CUTS)
        notes = nearest(name.id, known) or (hint(f"the formats are {', '.join(FORMATS)}"),)
        raise failure("E0201", f"there is no data format `{name.id}`", name.span, *notes)
    positional = list(expression.positional)
    options: dict[str, SettingValue] = {}
    others: dict[str, str] = {}
    for keyword in expression.keywords:
        if keyword.name == "path" and not positional:
            positional.append(keyword.value)
        elif keyword.name in _FURTHER_FILES.get(name.id, ()):
            others[keyword.name] = _path(session, train, name.id, keyword.value)
        elif keyword.name not in OPTIONS[name.id]:
            raise _unknown_option(name.id, keyword)
        else:
            options[keyword.name] = plain(forms.evaluate_constant(session, train, keyword.value))
    if name.id == "pairs" and len(positional) == 2:
        others["target"] = _path(session, train, name.id, positional.pop())
    if len(positional) != 1:
        raise failure("E0302", f"`{name.id}` needs one path", expression.span, hint(f'such as `{name.id}("data")`'))
    path = _path(session, train, name.id, positional[0])
    return DataSource(name.id, path, tuple(options.items()), expression.span, tuple(others.items()))


def _unknown_option(format_name: str, keyword: tree.Keyword) -> Failure:
    known = (*_FURTHER_FILES.get(format_name, ()), *OPTIONS[format_name])
    listed = hint(f"its options are {', '.join(known)}" if known else "it has none")
    notes = nearest(keyword.name, known) or (listed,)
    return failure("E0301", f"`{format_name}` has no option `{keyword.name}`", keyword.span, *notes)


def _path(session: Session, train: tree.Train, format_name: str, expression: tree.Expression) -> str:
    path = forms.evaluate_constant(session, train, expression)
    if not isinstance(path, str):
        raise failure("E0304", f"the path of `{format_name}` is a string, not {describe(path)}", expression.span)
    return path


def source_from_path(path: str, declared: DataSource | None, span: Span) -> DataSource:
    """Another path in place of the declared one; the format follows an ending that says it, else the declared one."""
    lowered = path.lower().removesuffix(".gz")
    by_ending = next((name for ending, name in _ENDINGS.items() if lowered.endswith(ending)), None)
    if declared is not None and (by_ending in (None, declared.format) or declared.format in _OF_TEXT):
        return DataSource(declared.format, path, declared.options, span)
    form = by_ending or "idx"
    return DataSource(
        form, path, () if declared is None else options_for(form, declared.format, declared.options), span
    )
