"""Measure latency, memory and quality of embedding models, on this machine and on devices.

Rooms, each of which may use those above it:

- `records`: one measured cell as data, statistics over its samples, and the comparison of two runs
- `worker`: the process that measures one engine, and the parent's side of it
- `targets`: where cells are measured: this machine, ssh, an emulated processor, Android, a browser
- `synthetic`: models of released shapes with random weights
- `peers`: other engines over the same weights
- `reports`: tables, files and plots made of records
- `run`: the matrix of cells over targets, and the work of `edge_embed bench`
- `quality`: scores on a task beside those of the fp32 source, the work of `edge_embed eval`
- `published`: the runs behind the published figures, `make bench` and `make full`
- `commands`: the options of the commands

`names` holds what the help of a command needs. The packages themselves import nothing, so that the
measuring process pays only for its engine.
"""
