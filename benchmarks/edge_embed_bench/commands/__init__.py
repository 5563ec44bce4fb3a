"""The options of `edge_embed bench` and `edge_embed eval`. The work is imported when a command runs."""
