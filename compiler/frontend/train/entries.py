"""The keys of `train`: their names, the values that each takes, and their replacements on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from compiler.errors.diagnostics import Note, Span, hint
from compiler.errors.other_names import IN_TRAIN
from compiler.frontend.elaborator import Session
from compiler.frontend.failures import Failure, Poisoned, failure, nearest
from compiler.frontend.program import SHARE_OF_THE_NEW, DataSource, EarlyStop, Plateau, SettingValue, StartWeights
from compiler.frontend.settings import COMMAND_LINE, plain
from compiler.frontend.train.forms import early_stop_of, evaluate_constant, plateau_of, start_weights
from compiler.frontend.values import RunTimeNumber, Value, describe
from compiler.support.data_formats import OPTIONS
from compiler.syntax import tree

KEYS = [
    "data",
    "validation",
    "test",
    "target",
    "loss",
    "metrics",
    "optimizer",
    "schedule",
    "epochs",
    "steps",
    "batch",
    "clip",
    "penalty",
    "augment",
    "init_from",
    "freeze",
    "unfreeze",
    "early_stop",
    "plateau",
    "accumulate",
    "ema",
    "keep",
    "best",
    "precision",
    "seed",
]
_Form = TypeVar("_Form")
_REQUIRED = ("loss", "optimizer", "batch")
_EXPRESSIONS = ("loss", "metrics", "optimizer", "schedule", "clip", "penalty", "freeze", "unfreeze")


class Entries:
    """The keys of one `train`, with their replacements on the command line."""

    def __init__(self, session: Session, train: tree.Train) -> None:
        self.session, self.train = session, train
        self.written = {entry.key: entry for entry in train.entries}
        self.batch: int | None = None
        self.takes_all = False
        self.accumulate = 1
        self.precision = "f32"
        self.best = "loss"
        self.best_span: Span | None = None
        self.epochs: int | None = None
        self.steps: int | None = None
        self.seed = 0
        self.keep: int | None = None
        self.ema: float | None = None
        self.early_stop: EarlyStop | None = None
        self.plateau: Plateau | None = None
        self.init_from: StartWeights | None = None
        self.data: DataSource | None = None
        self.validation: float | DataSource | None = None
        self.test: float | DataSource | None = None
        self._expressions: dict[str, tree.Expression] = {}
        self._read()

    @property
    def places(self) -> dict[str, Span]:
        """Where the keys, and the settings that the command line gives, stand."""
        written = {key: entry.value.span for key, entry in self.written.items()}
        return written | {name: given.span for name, given in self.session.settings.overrides.items()}

    def expression(self, key: str) -> tree.Expression | None:
        """The value of a key that is an expression over tensors or a form."""
        return self._expressions.get(key)

    def _record(self, mistake: Failure) -> None:
        self.session.report.add(mistake.diagnostic)

    def check(self) -> None:
        """Unknown, repeated and missing keys, and those that are not compiled yet."""
        seen: dict[str, Span] = {}
        for entry in self.train.entries:
            if entry.key not in KEYS or entry.key in ("target", "augment"):
                notes = nearest(entry.key, KEYS, IN_TRAIN) or (hint(f"the keys are {', '.join(KEYS)}"),)
                self._record(failure("E0601", f"`train` has no key `{entry.key}`", entry.span, *notes))
            elif entry.key in seen:
                earlier = Note("first given here", seen[entry.key])
                self._record(failure("E0601", f"`{entry.key}` is given twice", entry.span, earlier))
            seen.setdefault(entry.key, entry.span)
        # An unknown key is most likely the missing one, misspelt.
        has_unknown = any(entry.key not in KEYS for entry in self.train.entries)
        missing = [] if has_unknown else [key for key in _REQUIRED if not self._is_given(key)]
        if missing:
            named = " and ".join(f"`{key}`" for key in missing)
            noun = "key" if len(missing) == 1 else "keys"
            advice = (hint(f"such as `{_EXAMPLES[key]}`") for key in missing)
            self._record(failure("E0602", f"`train` needs the {noun} {named}", self.train.head, *advice))
        if self.takes_all and self.accumulate > 1:
            message = "`accumulate` is for several batches, and `batch = all` is one"
            self._record(failure("E0603", message, self.train.head, hint("give `batch` a number of rows")))
        if "epochs" in self.written and "steps" in self.written:
            entry = self.written["steps"]
            other = Note("`epochs` is given here", self.written["epochs"].span)
            self._record(failure("E0608", "`epochs` and `steps` both say how long to train", entry.span, other))

    def _is_given(self, key: str) -> bool:
        return key in self.written or key in self._expressions or key in self.session.settings.used

    def _read(self) -> None:
        for key in _EXPRESSIONS:
            override = self.session.settings.take(key)
            if override is not None:
                self._expressions[key] = override.as_expression
                self.session.settings.record(key, override.text, COMMAND_LINE)
            elif key in self.written:
                self._expressions[key] = self.written[key].value
        self.takes_all = self._says_all("batch")
        self.batch = None if self.takes_all else self._whole("batch", 1)
        self.accumulate = self._whole("accumulate", 1) or 1
        self.epochs = self._whole("epochs", 1)
        self.steps = self._whole("steps", 1)
        # A length on the command line replaces that of the text.
        used = self.session.settings.used
        if "steps" in used and "epochs" not in used:
            self.epochs = None
        if "epochs" in used and "steps" not in used:
            self.steps = None
        self.seed = self._whole("seed", 0) or 0
        self.keep = self._whole("keep", 1)
        self.init_from = self._start_weights()
        self.early_stop = self._stopping("early_stop", early_stop_of)
        self.plateau = self._stopping("plateau", plateau_of)
        self.data = self._data()
        self.validation = self._part("validation")
        self.test = self._part("test")
        self.ema = self._average()
        self.precision = self._precision()
        self._read_best()

    def _constant(self, key: str) -> tuple[Value, Span] | None:
        """The value of a key that is configuration, recorded as a setting; None where it is not given or wrong."""
        override = self.session.settings.take(key)
        if override is not None:
            expression, origin = override.as_expression, COMMAND_LINE
            span = override.span
        elif key in self.written:
            expression, origin = self.written[key].value, "train"
            span = expression.span
        else:
            return None
        try:
            value = evaluate_constant(self.session, self.train, expression)
        except Failure as mistake:
            self._record(mistake)
            return None
        except Poisoned:
            return None
        self.session.settings.record(key, value, origin)
        return value, span

    def _whole(self, key: str, least: int) -> int | None:
        found = self._constant(key)
        if found is None:
            return None
        value, span = found
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self._record(
                failure("E0603", f"`{key}` is a whole number of at least {least}, not {describe(value)}", span)
            )
            return None
        return value

    def _says_all(self, key: str) -> bool:
        """Whether a key is `all`, as in `batch = all`."""
        override, entry = self.session.settings.overrides.get(key), self.written.get(key)
        expression = override.as_expression if override is not None else entry.value if entry is not None else None
        if not isinstance(expression, tree.Name) or expression.id != "all":
            return False
        self.session.settings.take(key)
        self.session.settings.record(key, "all", "train" if override is None else COMMAND_LINE)
        return True

    def _start_weights(self) -> StartWeights | None:
        override, entry = self.session.settings.take("init_from"), self.written.get("init_from")
        if override is not None:
            expression = override.as_expression if override.is_call else override.as_text
        elif entry is not None:
            expression = entry.value
        else:
            return None
        try:
            found = start_weights(self.session, self.train, expression)
        except Failure as mistake:
            self._record(mistake)
            return None
        except Poisoned:
            return None
        self.session.settings.record("init_from", found.path, "train" if override is None else COMMAND_LINE)
        return found

    def _average(self) -> float | None:
        """`ema = 0.999`: how much of the averaged weights stays in a step, which is passed at run time."""
        found = self._constant("ema")
        if found is None or found[0] is None:
            return None
        value, span = found
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            self._record(failure("E0603", f"`ema` is a number above 0 and below 1, not {describe(value)}", span))
            return None
        kept = RunTimeNumber("ema", float(value), frozenset({"ema"}))
        taken = RunTimeNumber(SHARE_OF_THE_NEW, 1 - float(value), kept.sources, "-", (1, kept))
        self.session.run_time |= {kept.name: kept, taken.name: taken}
        return float(value)

    def _stopping(self, key: str, read: Callable[[Session, tree.Train, tree.Expression, str], _Form]) -> _Form | None:
        """`early_stop` or `plateau`: a number on the command line changes the main setting of the text's form."""
        override, entry = self.session.settings.take(key), self.written.get(key)
        if entry is not None and (override is None or isinstance(override.expression, tree.Number)):
            expression, origin = entry.value, "train"
        elif override is not None:
            expression, origin = override.as_expression, COMMAND_LINE
        else:
            return None
        try:
            return read(self.session, self.train, expression, origin)
        except Failure as mistake:
            self._record(mistake)
        except Poisoned:
            pass
        return None

    def _data(self) -> DataSource | None:
        override = self.session.settings.take("data")
        entry = self.written.get("data")
        declared = None
        if entry is not None:
            declared = self._source("data", entry.value)
        if override is None:
            if declared is not None:
                self.session.settings.record("data", declared.path, "train")
            return declared
        self.session.settings.record("data", override.text, COMMAND_LINE)
        if isinstance(override.expression, tree.Call):
            return self._source("data", override.expression)
        return source_from_path(override.as_text.value, declared, override.span)

    def _source(self, key: str, expression: tree.Expression) -> DataSource | None:
        try:
            return data_source(self.session, self.train, key, expression)
        except Failure as mistake:
            self._record(mistake)
        except Poisoned:
            pass
        return None

    def _part(self, key: str) -> float | DataSource | None:
        """A fraction of the data, or a source of its own."""
        entry = self.written.get(key)
        override = self.session.settings.overrides.get(key)
        expression = override.as_expression if override is not None else entry.value if entry is not None else None
        if isinstance(expression, tree.Call):
            self.session.settings.take(key)
            source = self._source(key, expression)
            if source is not None:
                self.session.settings.record(key, source.path, "train" if override is None else COMMAND_LINE)
            return source
        found = self._constant(key)
        if found is None:
            return None
        value, span = found
        if isinstance(value, str) and override is not None:
            return source_from_path(value, self.data, span)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            message = f"`{key}` is a fraction from 0 to below 1, or a data source, not {describe(value)}"
            self._record(failure("E0603", message, span))
            return None
        return float(value)

    def _read_best(self) -> None:
        """`best = accuracy`: the metric by which epochs are compared."""
        entry, override = self.written.get("best"), self.session.settings.take("best")
        expression = override.as_expression if override is not None else entry.value if entry is not None else None
        match expression:
            case None:
                return
            case tree.Name(name) | tree.Text(name):
                self.best, self.best_span = name, expression.span
                self.session.settings.record("best", name, "train" if override is None else COMMAND_LINE)
            case _:
                self._record(failure("E0603", "`best` is the name of a metric, or `loss`", expression.span))

    def _precision(self) -> str:
        """`precision = f64`: the element type that takes the place of f32 in the whole program."""
        entry, override = self.written.get("precision"), self.session.settings.take("precision")
        expression = override.as_expression if override is not None else entry.value if entry is not None else None
        if expression is None:
            return "f32"
        match expression:
            case tree.Name(chosen) | tree.Text(chosen) if chosen in ("f32", "f64"):
                self.session.settings.record("precision", chosen, "train" if override is None else COMMAND_LINE)
                return chosen
            case tree.Name("bf16") | tree.Text("bf16"):
                advice = hint("`f32` and `f64` are; leave it out for f32")
                self._record(failure("E0908", "`precision = bf16` is not compiled yet", expression.span, advice))
            case _:
                self._record(failure("E0603", "`precision` is `f32` or `f64`", expression.span))
        return "f32"


_EXAMPLES = {
    "loss": "loss = cross_entropy(logits, label)",
    "optimizer": "optimizer = adam(lr = 1e-3)",
    "batch": "batch = 32",
}


FORMATS = tuple(OPTIONS)
_OF_TEXT = ("text", "lines", "pairs")  # whatever the names of their files end in
_FURTHER_FILES = {"lines": ("labels", "synonyms"), "pairs": ("target",)}
_ENDINGS = {".csv": "csv", ".tsv": "csv", ".npz": "npz", ".npy": "npy"}


def data_source(session: Session, train: tree.Train, key: str, expression: tree.Expression) -> DataSource:
    """A source as `train` names it. Raises `Failure`."""
    if not isinstance(expression, tree.Call) or not isinstance(expression.function, tree.Name):
        raise failure(
            "E0603",
            f"`{key}` is a data source",
            expression.span,
            hint('such as `csv("data.csv")` or `idx("data/mnist")`'),
        )
    name = expression.function
    if name.id not in FORMATS:
        notes = nearest(name.id, FORMATS) or (hint(f"the formats are {', '.join(FORMATS)}"),)
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
            options[keyword.name] = plain(evaluate_constant(session, train, keyword.value))
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
    path = evaluate_constant(session, train, expression)
    if not isinstance(path, str):
        raise failure("E0304", f"the path of `{format_name}` is a string, not {describe(path)}", expression.span)
    return path


def source_from_path(path: str, declared: DataSource | None, span: Span) -> DataSource:
    """Another path in place of the declared one; the format follows an ending that says it, else the declared one."""
    lowered = path.lower().removesuffix(".gz")
    by_ending = next((name for ending, name in _ENDINGS.items() if lowered.endswith(ending)), None)
    if declared is not None and (by_ending in (None, declared.format) or declared.format in _OF_TEXT):
        return DataSource(declared.format, path, declared.options, span)
    return DataSource(by_ending or "idx", path, (), span)
