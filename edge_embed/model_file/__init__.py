"""The model file: a flatbuffer with a zip behind it, and the manifest in that zip."""
