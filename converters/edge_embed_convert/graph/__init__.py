"""From the PyTorch graph to a flatbuffer, and rewrites of that flatbuffer."""
