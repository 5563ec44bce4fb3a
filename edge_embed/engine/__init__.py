"""What runs a model file's graph.

Other rooms may use:

- `load.load_engine`: a checked engine for a file, on the CPU or an accelerator;
- `base.Engine`: what an engine can do;
- `cpu.CpuEngine`: the engine of the CPU without cache and checks, with `packed_weights.IN_MEMORY`;
- `accelerators.Acceleration`: what runs a loaded model;
- `weight_cache`: packed weights on disk; `cache_directory`: where they are kept, listed and removed;
- `parallel`: many texts at once; `uninterrupted`: work that Ctrl-C cannot break off;
- `litert`: what the project knows about LiteRT.
"""
