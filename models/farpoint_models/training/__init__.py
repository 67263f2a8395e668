"""Where models are made: torch, export to ONNX, quantisation. Needs the extra `train`; the worker never imports it."""
