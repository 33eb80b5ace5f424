"""The graphs of a program as ONNX models."""

from __future__ import annotations

from dataclasses import replace

from onnx import ModelProto

from compiler.frontend.program import Program
from compiler.interface import Options
from compiler.pipeline import exchanged
from compiler.programs.kinds import GraphKind
from compiler.programs.stages import graph_of
from compiler.to_onnx.model import Contents, onnx_model


def onnx_of(program: Program, kind: GraphKind, contents: Contents, options: Options, opset: int) -> ModelProto:
    """A graph of a program as a model of an opset. Raises UsageError for operations that ONNX does not have."""
    graph = replace(exchanged(graph_of(program, kind, options), options), name=program.model)
    return onnx_model(graph, contents, opset)
