"""Models as ONNX: `exporting` writes one, checked against PyTorch, `runner` runs it in its model's place."""
