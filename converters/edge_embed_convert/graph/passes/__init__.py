"""Passes over a written flatbuffer: none changes what it computes, but for weights that `patch` puts in."""
