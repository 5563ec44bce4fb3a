"""What the encoder's graph is divided by. Training needs these as well, without the exporter's imports."""

from __future__ import annotations

RESIDUAL_SCALE = 512.0
"""What the residual stream is divided by: a power of two, so that the division itself is exact."""

BRANCH_SCALE = 16.0
"""What attention and feed-forward outputs are divided by ahead of their post-norm.

The post-norm is scale-invariant too; without this the squares of a branch's outliers would overflow
float16 inside it.
"""
