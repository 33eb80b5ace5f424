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
# Macros that are no functions, types, and what `model.h` and `example.c` call their own.
_NAMES = """
BUFSIZ EOF FILE I NULL ROWS block bytes ended errno error exit fprintf fread free fwrite filled got in_row int16_t
int32_t int64_t int8_t linux main malloc memory row rows settings size_t stderr stdin stdout target uint16_t uint32_t
uint64_t uint8_t uintptr_t unix
"""
_MACROS = re.compile(r"[A-Z0-9_]+_(MAX|MIN|WIDTH)|(SEEK|EXIT)_[A-Z]+|L_[a-z]+|P_tmpdir")  # of C's headers, and alike
_TAKEN = frozenset([*_WORDS.split(), *_NAMES.split()])


def is_prefix(text: str) -> bool:
    """Whether names of C and C++ may begin with a text and an underscore: short, and none of the compiler's own.

    Macros have it in capitals, so there are none in it: two libraries in one program would share them.
    """
    return re.fullmatch(r"[a-z][a-z0-9_]{0,31}", text) is not None and "__" not in f"{text}_"


def c_names(names: Iterable[str], prefix: str) -> dict[str, str]:
    """An identifier for each name, none of them taken by C, C++ or the library's files, and none twice."""
    used = {*_TAKEN}
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "value"
        plain = f"n{plain}" if plain[0].isdigit() or plain.lower().startswith(f"{prefix.lower()}_") else plain
        chosen, number = plain, 2
        while chosen in used or _MACROS.fullmatch(chosen):
            chosen, number = f"{plain}_{number}", number + 1
        used.add(chosen)
        found[name] = chosen
    return found
