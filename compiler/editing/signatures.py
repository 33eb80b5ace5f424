"""A callable to its signature as text, with the place of each parameter in it, and its documentation."""

from __future__ import annotations

from compiler.editing.callees import Declared
from compiler.errors.diagnostics import Span
from compiler.frontend.builtins.table import Builtin
from compiler.support.record import record
from compiler.syntax import tree


@record(eq=False)
class ParameterText:
    """A parameter: its text in the signature, what documents it, and the group that it stands in (0 or 1)."""

    name: str
    text: str
    document: str
    group: int
    is_variadic: bool = False


@record(eq=False)
class SignatureText:
    """`label` is one line; `document` is Markdown."""

    label: str
    parameters: tuple[ParameterText, ...]
    document: str
    place: str


def signature_text(callee: Declared | Builtin) -> SignatureText:
    """The signature of a declaration as it is written, or of a function of the compiler."""
    if isinstance(callee, Builtin):
        parameters = tuple(
            ParameterText(p.name, p.name, f"{p.kind}" if p.kind != "value" else "", 0, p.is_variadic)
            for p in callee.parameters
        )
        return SignatureText(callee.signature, parameters, callee.document, "built in")
    declaration = callee.declaration
    groups = (declaration.settings,) if isinstance(declaration, tree.Model) else declaration.groups
    parameters = tuple(
        ParameterText(p.name, one_line(p.span), p.doc or "", number) for number, g in enumerate(groups) for p in g
    )
    return SignatureText(head_of(declaration), parameters, declaration.doc or "", origin_of(declaration.span))


def head_of(declaration: tree.Declaration) -> str:
    """The head of a declaration in one line, with its keyword."""
    match declaration:
        case tree.Callable() | tree.Model() | tree.Train() | tree.Sample():
            return one_line(declaration.head).replace("( ", "(").replace(" )", ")").replace(",)", ")")
        case tree.Const():
            return one_line(declaration.span)
        case _:
            return one_line(declaration.span).partition("{")[0].strip()


def one_line(span: Span) -> str:
    """The text of a place, with each run of blanks and newlines as one blank."""
    return " ".join(span.text.split())


def origin_of(span: Span) -> str:
    """`library: layers/dense.dl`, or the name of the user's file."""
    name = span.source.name
    return f"library: {name.removeprefix('<prelude>/')}" if span.source.is_library else name.rpartition("/")[2]
