"""Rules that rename the tensors of a file, `module.* -> *`, and patterns over their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from compiler.errors.diagnostics import CheckpointError, UsageError
from compiler.errors.suggestions import quoted


def renamed(names: Sequence[str], rules: Sequence[str], source: Path) -> dict[str, str]:
    """The name in the model -> the name in the file. The first rule that fits a name applies."""
    parsed = [_parsed(rule) for rule in rules]
    used: set[int] = set()
    found: dict[str, str] = {}
    for name in names:
        path = name
        for number, (pattern, wanted) in enumerate(parsed):
            if (fitting := pattern.fullmatch(name)) is not None:
                texts = iter(fitting.groups())
                path = re.sub(r"\*", lambda _, texts=texts: next(texts), wanted)
                used.add(number)
                break
        if path in found:
            message = f"`{found[path]}` and `{name}` both become `{path}`"
            raise CheckpointError(message, source, "change the rules of `rename`")
        found[path] = name
    for number, rule in enumerate(rules):
        if number not in used:
            message = f'the rule "{rule}" of `rename` fits no tensor'
            raise CheckpointError(message, source, f"the file has {quoted(names)}")
    return found


def _parsed(rule: str) -> tuple[re.Pattern[str], str]:
    """`module.* -> *` as a pattern with a group for each `*`, and the name that results."""
    found, arrow, wanted = (part.strip() for part in rule.partition("->"))
    if not arrow or not found or not wanted or wanted.count("*") > found.count("*"):
        fix = "give `name in the file -> name in the model`; each `*` stands for the same text on both sides"
        raise UsageError(f"`{rule}` is no rule to rename tensors", fix)
    return pattern_of(found), wanted


def pattern_of(text: str) -> re.Pattern[str]:
    """A pattern with a group for each `*`, which stands for any text."""
    return re.compile("(.*?)".join(map(re.escape, text.split("*"))), re.DOTALL)
