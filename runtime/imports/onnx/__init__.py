"""An ONNX model to a model file, its weights, and recorded inputs and outputs."""
