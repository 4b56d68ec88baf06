"""The model leaving the house: label maps of any images, ONNX files, and loading from Python."""
