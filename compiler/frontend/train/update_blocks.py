"""The `update` blocks of a `train`: their keys, which parameters each of them updates, and what goes with none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.errors.diagnostics import Diagnostic, Note, Span, hint
from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.elaborator import Session
from compiler.frontend.failures import Report, failure, nearest
from compiler.frontend.program import ParameterSpec
from compiler.frontend.settings import COMMAND_LINE
from compiler.frontend.train import forms
from compiler.frontend.train.entries import Entries, Keys
from compiler.frontend.train.patterns import patterns_of, select
from compiler.support.train_keys import KEYS, OF_UPDATES
from compiler.syntax import tree

_EXPRESSIONS = ("loss", "optimizer", "schedule", "clip", "penalty")
_EXAMPLES = {
    "parameters": 'parameters = "critic.*"',
    "loss": "loss = mean(fake_score) - mean(real_score)",
    "optimizer": "optimizer = adam(lr = 1e-4)",
}
"""The keys that a block must have, with an example of each."""
_OF_ONE_LOSS = {
    "auxiliary": "make the loss an output of the model, and add it to that of an `update`",
    "accumulate": "leave it out; `batch` says how many rows a batch has, and `times` how many batches an update takes",
    "shards": "leave it out: one process makes the steps of several updates, with all its threads",
    "unfreeze": "leave it out; `every` says how often an update is made",
}
"""The keys that need one loss, with what to do instead."""


class BlockKeys(Keys):
    """The keys of one block; on the command line the name of the block stands before them: `critic.times=3`."""

    def __init__(self, session: Session, entries: Entries, block: tree.Update) -> None:
        super().__init__(session, entries.train, block.entries, _EXPRESSIONS, f"{block.name}.")
        self.block, self._of_train = block, entries
        self.times = self._whole("times", 1) or 1
        self.every = self._whole("every", 1) or 1
        self.patterns, self.patterns_span = self._patterns()

    @property
    def averages(self) -> bool:
        return self._of_train.averages

    def _patterns(self) -> tuple[tuple[str, ...], Span]:
        given = self._given("parameters")
        if given is None:
            return (), self.block.place
        expression = given.text if given.origin == COMMAND_LINE else given.expression
        found: tuple[str, ...] = ()
        with self.report.recording():
            value = forms.evaluate_constant(self.session, self.train, expression)
            found = patterns_of(value, "parameters", given.place)
            self.session.settings.record(f"{self.prefix}parameters", value, given.origin)
        return found, given.place

    def check(self) -> None:
        """Unknown, repeated and missing keys, and a name that means something else."""
        block, seen = self.block, dict[str, Span]()
        for entry in block.entries:
            if entry.key not in OF_UPDATES:
                listed = hint(f"its keys are {', '.join(OF_UPDATES)}; all others stand in `train` around it")
                notes = nearest(entry.key, OF_UPDATES) or (listed,)
                self.report.mistake("E0601", f"`update` has no key `{entry.key}`", entry.span, *notes)
            elif entry.key in seen:
                earlier = Note("first given here", seen[entry.key])
                self.report.mistake("E0601", f"`{entry.key}` is given twice", entry.span, earlier)
            seen.setdefault(entry.key, entry.span)
        missing = [key for key in _EXAMPLES if not self.is_given(key)]
        if missing and all(key in OF_UPDATES for key in seen):
            named = " and ".join(f"`{key}`" for key in missing)
            noun = "key" if len(missing) == 1 else "keys"
            advice = (hint(f"such as `{_EXAMPLES[key]}`") for key in missing)
            self.report.mistake("E0602", f"`update {block.name}` needs the {noun} {named}", block.place, *advice)
        if block.name in KEYS:
            message = f"an `update` cannot be called `{block.name}`, which is a key of `train`"
            self.report.mistake("E0607", message, block.place, hint("use another name"))


def check_updates(entries: Entries, blocks: Sequence[BlockKeys], settings: Mapping[str, Span]) -> None:
    """Record what is wrong with the blocks of a `train`, and the keys around them that go with none.

    `settings` are those of the model, which the command line changes by their names.
    """
    seen: dict[str, Span] = {}
    for keys in blocks:
        keys.check()
        name, place = keys.block.name, keys.block.place
        if name in seen:
            message, earlier = f"there are two updates `{name}`", Note("the first one", seen[name])
            entries.report.mistake("E0601", message, place, earlier, hint("use another name"))
        if name in settings:
            message = f"the update `{name}` has the name of a setting of the model"
            entries.report.mistake("E0607", message, place, Note("the setting is declared here", settings[name]))
        seen.setdefault(name, place)
    if blocks:
        _refuse_keys(entries, blocks)


def _refuse_keys(entries: Entries, blocks: Sequence[BlockKeys]) -> None:
    """Record the keys of a `train` that its updates have themselves, and those that need one loss."""
    report, places, first = entries.report, entries.places, blocks[0].block.place
    block = Note("here is an `update`", first)
    for key in OF_UPDATES:
        if key in KEYS and entries.is_given(key):
            message = f"beside `update` blocks, `{key}` stands in each of them"
            is_none = isinstance(entries.expression(key), tree.NoneLiteral)
            advice = f"leave `{key} = none` out" if is_none else f"move `{key}` into the blocks"
            report.mistake("E0620", message, places[key], block, hint(advice))
    for key, advice in _OF_ONE_LOSS.items():
        if entries.is_given(key):
            message = f"`{key}` does not go with `update` blocks"
            report.mistake("E0620", message, places[key], block, hint(advice))
    if entries.takes_all and any(keys.times > 1 for keys in blocks):
        message = "`times` takes several batches, and `batch = all` is one"
        report.mistake("E0603", message, places["batch"], block, hint("give `batch` a number of rows"))
    if not entries.is_given("best"):
        for key in ("early_stop", "plateau"):
            if entries.is_given(key):
                _needs_best(report, f"`{key}` compares epochs", places[key])
        if entries.is_given("restore") and entries.restores:
            _needs_best(report, "`restore = true` takes the best epoch", places["restore"])


def _needs_best(report: Report, reason: str, place: Span) -> None:
    advice = hint("such as `best = accuracy`, a metric of this `train`")
    message = f"{reason}, and no one loss says here which epoch is better: state `best`"
    report.mistake("E0624", message, place, advice)


def claimed(blocks: Sequence[BlockKeys], paths: Sequence[str]) -> dict[str, str]:
    """The block of each parameter that one updates. Raises Failure for one that two update."""
    found: dict[str, BlockKeys] = {}
    for keys in blocks:
        for path in sorted(select(keys.patterns, paths, "parameters", keys.patterns_span)):
            if path in found:
                message = f"two updates have the parameter `{path}`: `{found[path].block.name}` and `{keys.block.name}`"
                earlier = Note("the other one", found[path].patterns_span)
                raise failure("E0619", message, keys.patterns_span, earlier, hint("a parameter belongs to one update"))
            found[path] = keys
    return {path: keys.block.name for path, keys in found.items()}


def unclaimed(specs: Sequence[ParameterSpec], train: tree.Train) -> Diagnostic | None:
    """The warning that nothing updates these parameters, if there are any."""
    if not specs:
        return None
    named = ", ".join(f"`{spec.path}`" for spec in specs[:3]) + (", …" if len(specs) > 3 else "")
    first = specs[0]
    place = next((span for span in reversed((*first.calls, first.span)) if not span.source.is_library), first.span)
    advice = hint("add them to the `parameters` of an `update`, or say `freeze` for those that stay as they are")
    return Diagnostic("W0124", f"no `update` trains {named}", train.head, (Note("here", place), advice), "warning")


def refuse_stated(totals: Mapping[str, object], evaluator: Evaluator, train: tree.Train) -> None:
    """Raise Failure for losses that the model states: nothing says to which update they belong."""
    assert evaluator.model is not None
    for name in totals:
        place = evaluator.model.losses[name].place
        message = f"the model states the loss `{name}`, and nothing says which `update` it belongs to"
        advice = hint("make it an output of the model, and add that to the `loss` of an `update`")
        raise failure("E0620", message, place, Note("here is an `update`", train.updates[0].place), advice)
