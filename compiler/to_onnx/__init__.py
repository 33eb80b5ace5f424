"""Graphs as ONNX models: each op as operators of ONNX's default domain, of opset 17 to 21."""
