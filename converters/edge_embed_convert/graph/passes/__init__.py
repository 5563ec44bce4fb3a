"""Passes over an exported flatbuffer. None changes what the graph computes."""
