"""A run: `matrix` lists the cells, `session` measures them, `bench` is the work of `edge_embed bench`."""
