"""Names of a model as identifiers of C and C++."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class co_await
co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype default delete do
double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace
new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires restrict
return short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try
typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq
"""
_KEYWORDS = frozenset(_WORDS.split())


def c_names(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """An identifier for each name, none of them `taken` or a keyword of C or C++, and none twice."""
    used = {*taken}
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "value"
        if plain[0].isdigit():
            plain = f"n{plain}"
        chosen, number = plain, 2
        while chosen in used or chosen in _KEYWORDS:
            chosen, number = f"{plain}_{number}", number + 1
        used.add(chosen)
        found[name] = chosen
    return found
