"""The tensors of averaged and stored layers: states that follow parameters, or that a file has."""

from __future__ import annotations

from compiler.errors.diagnostics import Note, hint
from compiler.frontend.elaborator import Frame, Session
from compiler.frontend.failures import failure
from compiler.frontend.program import Average, Stored
from compiler.frontend.values import Twin
from compiler.graph.ir import Role


def twin_around(outer: Frame, path: str) -> tuple[str, Twin] | None:
    """The averaged or stored layer that holds the layer at `path`, which is applied in a frame."""
    twin = outer.twin
    return twin if twin is not None and path.startswith(f"{twin[0]}.") else None


def role_in(frame: Frame, role: Role) -> Role:
    """The role of a parameter or state that a frame declares: a twin has states alone."""
    return role if frame.twin is None else Role.STATE


def start_path(frame: Frame, path: str) -> str:
    """The path by which the start value of a tensor is drawn: an average starts as what it follows."""
    if frame.twin is None or frame.twin[1].momentum is None:
        return path
    own, twin = frame.twin
    return f"{twin.source.path}{path.removeprefix(own)}"


def follows(frame: Frame, path: str, role: Role) -> tuple[Average | None, Stored | None]:
    """What decides a tensor of a twin; the states of an averaged layer are its own."""
    if frame.twin is None:
        return None, None
    twin = frame.twin[1]
    if twin.momentum is None:
        return None, Stored(twin.file, twin.at, twin.span)
    return (Average(start_path(frame, path), twin.momentum, twin.span) if role is Role.PARAMETER else None), None


def expect_followed(session: Session) -> None:
    """Each average follows a parameter of its shape, which is trained."""
    for spec in session.parameters.values():
        if spec.average is None:
            continue
        followed, path = session.parameters.get(spec.average.path), spec.average.path
        if followed is None:
            advice = hint("apply the layer that is followed, in training too")
            message = f"`{spec.path}` follows `{path}`, which the model does not have"
            raise failure("E0508", message, spec.average.span, advice)
        if followed.role is not Role.PARAMETER:
            message = f"`{spec.path}` follows `{path}`, which is not trained"
            raise failure("E0508", message, spec.average.span, hint("follow a layer that is trained"))
        if followed.type != spec.type:
            message = f"`{spec.path}` is {spec.type} and follows `{path}`, which is {followed.type}"
            applied = Note("it is applied here", spec.place), Note("the other is applied here", followed.place)
            advice = hint("apply both to tensors of one shape")
            raise failure("E0508", message, spec.average.span, *applied, advice)
