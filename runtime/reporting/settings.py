"""Setting values as they are written in `.dl` text."""

from __future__ import annotations

import json

from compiler.driver import SettingValue


def value_text(value: SettingValue) -> str:
    """`0.001`, `true`, `"text"`, `[1, 2]`, `none`."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case tuple():
            return f"[{', '.join(value_text(item) for item in value)}]"
        case _:
            return repr(value)
