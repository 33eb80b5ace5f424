"""Interleaves the residue classes of positions, of which a fold with a stride consists."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Value
from compiler.ops.movement import Concat, Reshape, Slice, Transpose
from compiler.types import Shape


def interleaved(
    builder: GraphBuilder, classes: Sequence[Value], axes: Sequence[int], strides: Sequence[int], wanted: Shape
) -> Value:
    """The first elements, in the shape `wanted`, of which number j * stride + r is number j of class r along each axis.

    There is a class for each choice of residues, the last axis's fastest.
    """
    if len(classes) == 1:
        joined = classes[0]
    else:
        # The classes side by side behind the last axis, then as digits behind those of their axes.
        shape, behind = classes[0].type.shape, max(axes) + 1
        apart = [builder.emit(Reshape((*shape[:behind], 1, *shape[behind:])), value) for value in classes]
        split = builder.emit(
            Reshape((*shape[:behind], *strides, *shape[behind:])), builder.emit(Concat(behind), *apart)
        )
        order: list[int] = []
        for axis in range(len(shape)):
            order.append(axis if axis < behind else axis + len(axes))
            if axis in axes:
                order.append(behind + axes.index(axis))
        times = dict(zip(axes, strides, strict=True))
        whole = tuple(e * times.get(axis, 1) if isinstance(e, int) else e for axis, e in enumerate(shape))
        joined = builder.emit(Reshape(whole), builder.emit(Transpose(tuple(order)), split))
    if joined.type.shape == wanted:
        return joined
    return builder.emit(Slice((0,) * len(wanted), wanted, (1,) * len(wanted)), joined)
