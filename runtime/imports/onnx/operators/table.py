"""All operators that have `.dl` text, by their ONNX names."""

from __future__ import annotations

from runtime.imports.onnx.operators.elementwise import ELEMENTWISE
from runtime.imports.onnx.operators.indexing import INDEXING
from runtime.imports.onnx.operators.layers import LAYERS
from runtime.imports.onnx.operators.recurrent import RECURRENT
from runtime.imports.onnx.operators.reductions import REDUCTIONS
from runtime.imports.onnx.operators.resampling import RESAMPLING
from runtime.imports.onnx.operators.sampling import SAMPLING
from runtime.imports.onnx.operators.shapes import SHAPES
from runtime.imports.onnx.site import Translation

TABLE: dict[str, Translation] = {
    **ELEMENTWISE,
    **SHAPES,
    **REDUCTIONS,
    **LAYERS,
    **RECURRENT,
    **INDEXING,
    **RESAMPLING,
    **SAMPLING,
}
