"""Containers: a model file as what Google's own tools load, read back through them before it is saved.

`export.export` writes one; `edge_embed export` calls it. Nothing here needs PyTorch.
"""
