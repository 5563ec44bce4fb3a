"""The commands `edge_embed train` and `edge_embed merge`."""
