"""Names of other frameworks, with their counterparts here and the hints that messages give.

`other_names.json` is the one table of what PyTorch, Keras, NumPy and scikit-learn say; from it are made the hints of
every message, and, by `docs/make_names.py`, the tables of `docs/coming-from.md`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from compiler.errors.suggestions import did_you_mean, folded, nearest
from compiler.support.record import record


def advice(name: str, known: Iterable[str], said: Mapping[str, str] | None = None) -> str | None:
    """A hint for an unknown name: the advice of `said` (by default `IN_EXPRESSIONS`), else `did you mean …?`."""
    names = set(known)
    written = folded(name)
    if not any(candidate in names for candidate in NAMES.get(written, ())):
        remark = (IN_EXPRESSIONS if said is None else said).get(written)
        if remark is not None:
            return remark
    meant = did_you_mean(name, names)
    line = next((LINES[here] for here in NAMES.get(written, ()) if here in names and here in LINES), None)
    return f"{meant} Write `{line}`" if line else meant or None


def in_place_of_a_method(name: str, tensor: str, known: Iterable[str]) -> str | None:
    """A hint for `tensor.name`: functions take the tensor."""
    names = set(known)
    if name in ("shape", "int") or (name not in names and not set(NAMES.get(folded(name), ())) & names):
        remark = IN_EXPRESSIONS.get(folded(name))
        if remark is not None:
            return remark
    found = name if name in names else nearest(name, names)
    if found is None:
        return None
    line = re.sub(r"\bx\b", tensor, LINES[found]) if found in LINES else f"{found}({tensor}, …)"
    return f"functions take the tensor first: `{line}`"


def in_place_of_a_member(name: str, known: Iterable[str]) -> str:
    """A hint for `nn.name`, which is a name by itself here."""
    names = set(known)
    if name in names:
        return f"it stands by itself: `{LINES.get(name, name)}`"
    return advice(name, names) or IN_EXPRESSIONS["nn"]


@record
class OtherNames:
    """The names `elsewhere` for the name `here`, by the chapter of the page in which they stand."""

    chapter: str
    here: str
    elsewhere: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.elsewhere.split())


_TABLES = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
OTHER_NAMES = tuple(
    OtherNames(chapter, here, elsewhere)
    for chapter, rows in _TABLES["names"].items()
    for here, elsewhere in rows.items()
)
FORMS: Mapping[str, str] = _TABLES["forms"]
"""Expressions that stand where other frameworks have a function."""
LINES: Mapping[str, str] = _TABLES["lines"]
"""How a name is used, of the tensor x."""


def _by_name(table: str) -> dict[str, str]:
    return {folded(name): said for names, said in _TABLES[table].items() for name in names.split()}


# Names of a framework or a part of it in programs: `nn` of `nn.Linear`.
FRAMEWORKS = frozenset(("nn", "torch", "F", "keras", "tf", "np", "numpy", "jnp", "jax", "tensorflow", "layers"))
NAMES: dict[str, tuple[str, ...]] = {}
for _row in OTHER_NAMES:
    for _name in _row.names:
        NAMES[folded(_name)] = (*NAMES.get(folded(_name), ()), _row.here)
IN_EXPRESSIONS: Mapping[str, str] = {
    **{folded(name): f"write `{form}`" for form, names in FORMS.items() for name in names.split()},
    **_by_name("in expressions"),
}
"""Advice for names in expressions, by their folded names."""
IN_TRAIN: Mapping[str, str] = _by_name("in train")
"""The same of keys of `train`."""
IN_CALLS: Mapping[str, str] = _by_name("in calls")
"""The same of settings of a call."""
OF_OPTIONS: Mapping[str, str] = _by_name("of options")
"""The same of options of the command line."""
