"""What runs a model file's graph.

Other rooms may use:

- `load.load_engine`: a checked engine for a file, on the CPU or an accelerator;
- `base.Engine`: what an engine can do;
- `cpu.CpuEngine`: the engine of the CPU without cache and checks, with `packed_weights.IN_MEMORY`;
- `accelerators.Acceleration`: what runs a loaded model;
- `weight_cache`: where packed weights are kept, and the commands that list and remove them;
- `parallel`: many texts at once; `uninterrupted`: work that Ctrl-C cannot break off;
- `litert`: what the project knows about LiteRT.
"""
