"""The targets: where cells are measured. `edge_embed_bench.target` says what one is and lists them."""
