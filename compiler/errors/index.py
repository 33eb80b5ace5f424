"""The error index: every code that `dlc` can print, with the long text of `dlc explain CODE`.

The first two digits say where a mistake lies: E01 syntax, E02 names and declarations, E03 settings and calls, E04
shapes and types, E05 layers, parameters and state, E06 `train` and experiments, E07 data, E08 runs and checkpoints,
E09 features that are not compiled yet; W01 lints; E10 and W10 what `dlc test` finds. A code is never given a second
meaning.
"""

from __future__ import annotations

from textwrap import indent

from compiler.errors.diagnostics import UsageError
from compiler.errors.entries.entry import ErrorEntry
from compiler.errors.entries.generation import GENERATION
from compiler.errors.entries.layers import LAYERS
from compiler.errors.entries.lints import LINTS
from compiler.errors.entries.missing import MISSING
from compiler.errors.entries.names import NAMES
from compiler.errors.entries.settings import SETTINGS
from compiler.errors.entries.shapes import SHAPES
from compiler.errors.entries.tests import TESTS
from compiler.errors.entries.training import TRAINING

SECTIONS: tuple[tuple[str, str], ...] = (
    ("E01", "Syntax"),
    ("E02", "Names and declarations"),
    ("E03", "Settings and calls"),
    ("E04", "Shapes and types"),
    ("E05", "Layers, parameters and state"),
    ("E06", "Training and experiments"),
    ("E07", "Data"),
    ("E08", "Runs and checkpoints"),
    ("E09", "Features that are not compiled yet"),
    ("E10", "Tests"),
    ("W01", "Lints"),
    ("W10", "Derivatives"),
)

_SYNTAX: tuple[ErrorEntry, ...] = (
    ErrorEntry(
        "E0101",
        "unexpected text",
        "The text before this place is correct, but the token here cannot follow it. The message names the token and "
        "those that could stand in its place. Only the first such place of a declaration is reported; the reader "
        "goes on with the next declaration, which starts in column 1.",
        "fn double(x) = x *",
        "fn double(x) = x * 2",
    ),
    ErrorEntry(
        "E0102",
        "a bracket has no partner",
        "Every `(`, `[` and `{` needs its `)`, `]` or `}`, and brackets must close in the reverse of the "
        "order in which they were opened. The message names the place where the bracket was opened. A "
        "declaration keyword in column 1 always starts a new declaration, so a forgotten `}` spoils only the "
        "declaration in which it is missing.",
        "fn double(x) {\n    return x * (2\n}",
        "fn double(x) {\n    return x * (2)\n}",
    ),
    ErrorEntry(
        "E0103",
        "a character that has no meaning here",
        "Outside of comments and strings the language uses letters, digits, spaces, tabs, newlines and the "
        "marks `( ) [ ] { } , . : = + - * / % @ ^ < > |`. Other marks are often typographic look-alikes "
        'brought in by copying from a document (a long dash for `-`, curly quotes for `"`), or operators of '
        "another language: write `and`, `or` and `not` for `&&`, `||` and `!`, and a newline for `;`.",
        "fn half(x) = x × 0.5",
        "fn half(x) = x * 0.5",
    ),
    ErrorEntry(
        "E0104",
        "a malformed number",
        "A number has digits on both sides of its point (`0.5`, `1.0`), an optional exponent (`1e-3`), and nothing "
        "else: no underscores, no hexadecimal digits, no suffix. A name cannot begin with a digit. A number must fit "
        "into 64 bits.",
        "const rate = .5",
        "const rate = 0.5",
    ),
    ErrorEntry(
        "E0105",
        "a string that does not end or has an unknown escape",
        'A string stands between two `"` on one line. Inside it, `\\n` is a newline, `\\t` a tab, `\\r` a '
        'carriage return, `\\"` a quote and `\\\\` a backslash; no other escapes exist.',
        'const path = "data',
        'const path = "data"',
    ),
    ErrorEntry(
        "E0106",
        "a reserved word stands where a name is needed",
        "`if else for in scan return emit and or not true false none None` are reserved and cannot be names. "
        "All other words of the language (`input`, `output`, `model`, `state`, `over`, …) are names wherever "
        "a name can stand.",
        "fn f(in) = in + 1",
        "fn f(value) = value + 1",
    ),
    ErrorEntry(
        "E0107",
        "an expression that is broken between lines",
        "A newline ends a statement. To continue on the next line, break inside round or square brackets, or "
        "begin the next line with `|>`. No line begins or ends with another operator.",
        "fn f(x, y) = x\n    + y",
        "fn f(x, y) = (x\n    + y)",
    ),
    ErrorEntry(
        "E0108",
        "`=` where a comparison is meant",
        "`=` gives a name its value; `==` compares two values. A condition compares.",
        "fn f(n: int)(x) {\n    if n = 1 { x = x + 1 }\n    return x\n}",
        "fn f(n: int)(x) {\n    if n == 1 { x = x + 1 }\n    return x\n}",
    ),
    ErrorEntry(
        "E0109",
        "a part of a statement that starts a new line",
        "`else` stands on the line of the `}` before it. `{` stands on the line on which its head ends, and "
        "so do `= …` after a head and a `gradient` clause after the body.",
        "fn f(n: int)(x) {\n    if n == 1 { y = x }\n    else { y = -x }\n    return y\n}",
        "fn f(n: int)(x) {\n    if n == 1 { y = x } else { y = -x }\n    return y\n}",
    ),
    ErrorEntry(
        "E0110",
        "text that belongs to no declaration",
        "A file is a list of declarations, and each starts in the first column with one of the words `const "
        "fn layer init model optimizer schedule train generate test import`. Statements stand inside the "
        "braces of a declaration.",
        "x = 3",
        "const x = 3",
    ),
    ErrorEntry(
        "E0111",
        "a form of another language",
        "Some habits from Python and its relatives have another form here: `fn` for `def`, braces for `:` and"
        " indentation, `else if` for `elif`, `true` and `false` for `True` and `False`, `none` for `None` "
        "(which is a new axis in an index), `^` for `**`, `x = x + 1` for `x += 1`. There are no lambdas: "
        "name the function with `fn`.",
        "fn square(x) = x ** 2",
        "fn square(x) = x ^ 2",
    ),
    ErrorEntry(
        "E0112",
        "a chain of comparisons",
        "Comparisons do not chain, because `a < b < c` reads one way and computes another in most languages. "
        "Join two comparisons with `and`.",
        "fn f(n: int)(x) {\n    if 0 < n < 5 { x = -x }\n    return x\n}",
        "fn f(n: int)(x) {\n    if 0 < n and n < 5 { x = -x }\n    return x\n}",
    ),
    ErrorEntry(
        "E0113",
        "a `##` comment that documents nothing",
        "A `##` comment documents the declaration, statement or parameter that follows it, and is shown by "
        "the tools. It stands on a line of its own. A remark for the reader of the file is a `#` comment.",
        "fn f(x) = x + 1  ## one more",
        "## one more\nfn f(x) = x + 1",
    ),
    ErrorEntry(
        "E0114",
        "an unknown type",
        "After the `:` of a setting stands one of `int float bool string axis fn layer init schedule`. After "
        "the `:` of a tensor stands an element type (`f32 f64 i32 i64 u8 bool bf16`), a shape in square "
        "brackets, or both: `i32[batch, time]`. A scalar is `f32[]`. A shape alone is of floats; `any[batch]` takes "
        "every element type.",
        "fn f(n: integer)(x) = n * x",
        "fn f(n: int)(x) = n * x",
    ),
    ErrorEntry(
        "E0115",
        "a positional argument after a keyword argument",
        "In a call, the arguments given by position come first, then those given by name.",
        "fn f(x) = sum(axis = 0, x)",
        "fn f(x) = sum(x, axis = 0)",
    ),
    ErrorEntry(
        "E0116",
        "a part that may stand only once",
        "A `train` has at most one `augment` block, and a `generate` at most one `feed` line.",
        "train M {\n    augment { x = x + 1 }\n    augment { x = x * 2 }\n}",
        "train M {\n    augment {\n        x = x + 1\n        x = x * 2\n    }\n}",
    ),
    ErrorEntry(
        "E0117",
        "text that is nested too deeply",
        "Brackets, blocks and operators may be nested 200 levels deep. Give the inner parts names.",
        "const x = " + "(" * 201 + "1" + ")" * 201,
        "const x = 1",
    ),
    ErrorEntry(
        "E0118",
        "a target that cannot be assigned",
        "On the left of `=` stand names: `y = …` or `a, b = …`. A tensor is a value that never changes, so "
        "there is no assignment to a part of it; build a new one with `where`, `concat` or a `scan`.",
        "fn f(x) {\n    x[0] = 1\n    return x\n}",
        "fn f(x) {\n    first = x[0]\n    return first\n}",
    ),
    ErrorEntry(
        "E0121",
        "an imported file that cannot be read",
        "The path of an `import` is relative to the file in which it stands. The file must exist and be a "
        "regular file that you may read.",
        'import "blokcs.dl"',
        'import "blocks.dl"',
    ),
    ErrorEntry(
        "E0122",
        "a circle of imports",
        "A file may not import itself, directly or through others. Move the shared declarations into a third file.",
        'import "a.dl"  # and a.dl imports this file',
        'import "common.dl"  # imported by both',
    ),
    ErrorEntry(
        "E0123",
        "an import that leaves the project folder",
        "Imports reach only files in the folder of the file that is compiled, and below it, so that a project can be "
        "moved and a file from elsewhere cannot read the rest of the disk. Absolute paths are not allowed either. "
        "`--allow-imports-outside` permits imports that you trust; a run then keeps copies of all files.",
        'import "../../other/blocks.dl"',
        'import "blocks.dl"',
    ),
    ErrorEntry(
        "E0124",
        "a file that is not UTF-8 text",
        "Source files are UTF-8. The message names the first byte that is not; often the file was saved in "
        "another encoding, or is not text at all.",
        "# saved as Latin-1: Gr\\xf6\\xdfe",
        "# saved as UTF-8: Größe",
    ),
)

_ENTRIES = (*_SYNTAX, *NAMES, *SETTINGS, *SHAPES, *LAYERS, *TRAINING, *GENERATION, *MISSING, *TESTS, *LINTS)
ERRORS: tuple[ErrorEntry, ...] = tuple(sorted(_ENTRIES, key=lambda entry: entry.code))
WARNINGS = tuple(entry.code for entry in ERRORS if entry.code.startswith("W"))


def explain(code: str) -> str:
    """The long text of one code. Raises `UsageError` for a code that does not exist."""
    entry = next((entry for entry in ERRORS if entry.code == code.strip().upper()), None)
    if entry is None:
        known = ", ".join(entry.code for entry in ERRORS)
        raise UsageError(f"there is no error code {code}", f"the codes are: {known}")
    wrong, right = (indent(text, "    ") for text in (entry.wrong, entry.right))
    return f"{entry.code}: {entry.title}\n\n{entry.explanation}\n\nWrong:\n\n{wrong}\n\nRight:\n\n{right}\n"


def index_markdown() -> str:
    """The text of `docs/errors.md`: every entry, by section."""
    parts = ["# Error index\n\nGenerated from `compiler/errors/index.py`. `dlc explain CODE` prints one entry.\n"]
    for prefix, heading in SECTIONS:
        entries = [entry for entry in ERRORS if entry.code.startswith(prefix)]
        if entries:
            parts.append(f"## {heading}\n")
        for entry in entries:
            parts.append(f'### {entry.code}: {entry.title}\n\n<a id="{entry.code.lower()}"></a>{entry.explanation}\n')
            parts.append(f"Wrong:\n\n```\n{entry.wrong}\n```\n\nRight:\n\n```\n{entry.right}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(index_markdown(), end="")
