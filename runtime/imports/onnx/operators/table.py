"""All operators that have `.dl` text, by their ONNX names."""

from __future__ import annotations

from runtime.imports.onnx.operators.attention import ATTENTION
from runtime.imports.onnx.operators.bits import BITS
from runtime.imports.onnx.operators.detection import DETECTION
from runtime.imports.onnx.operators.elementwise import ELEMENTWISE
from runtime.imports.onnx.operators.indexing import INDEXING
from runtime.imports.onnx.operators.layers import LAYERS
from runtime.imports.onnx.operators.pools import POOLS
from runtime.imports.onnx.operators.quantisation import QUANTISATION
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
    **QUANTISATION,
    **BITS,
    **DETECTION,
    **POOLS,
    **ATTENTION,
}
