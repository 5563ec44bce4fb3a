"""What runs a graph: the CPU engine, its packed weights, and accelerators."""
