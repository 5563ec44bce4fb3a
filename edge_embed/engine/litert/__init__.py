"""All that the runtime knows about LiteRT. A new version of LiteRT changes this folder alone.

Other rooms may use:

- `installed`: which LiteRT is installed, and what this processor can load of it;
- `calls`: how LiteRT is called, and its errors; `log`: its log, captured and read;
- `c_api.Graph`: one signature on the CPU, through the C interface of LiteRT 2.3;
- `python_api`: a whole file on any accelerator, through LiteRT's public Python interface;
- `flatbuffer`, `signatures`, `gpu_graph`, `sizes`: a graph's flatbuffer, read and changed;
- `delegate.partitions`: which operators the XNNPACK delegate takes; `profile.operators`: how long they take.
"""
