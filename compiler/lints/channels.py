"""W0129: a convolution over data that has its channels last."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.errors.diagnostics import Diagnostic, hint
from compiler.frontend.builtins.windows import CHANNELS_FIRST, has_channels_last
from compiler.frontend.tensors.binding import learned_values
from compiler.frontend.trace import Subject

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d", "separable_conv2d")


def find_channels_last(subject: Subject) -> Iterator[Diagnostic]:
    """Of data alone: what a layer made has the shape that its author gave it."""
    graph = subject.program.inference_graph
    learned = learned_values(graph.inputs, graph.nodes)
    for application in subject.trace.applications.get("inference", []):
        image = application.operands.get("x")
        is_library = application.is_library and application.declaration.name in _CONVOLUTIONS
        if image is None or not is_library or application.call.source.is_library or image.index in learned:
            continue
        if has_channels_last(image.type.shape):
            _, height, width, channels = image.type.shape
            name = application.declaration.name
            message = f"`{name}` takes {height} channels of {width} by {channels} for images of {height} by {width}"
            advice = hint(f"images have their channels first: {CHANNELS_FIRST}")
            yield Diagnostic("W0129", message, application.user_call, (advice,), "warning")
