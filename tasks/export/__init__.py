"""A model in the forms of other runtimes: `onnx_export.export_onnx` writes one as ONNX and holds it against the model itself."""
