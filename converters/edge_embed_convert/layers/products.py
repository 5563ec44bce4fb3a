"""A batched matrix product whose right factor is given by rows, for the delegate.

litert-torch has a product that contracts the last dimension of both factors (`bmm_4d`). The values of
attention are laid out the other way, and transposing them first would copy all of them.
"""

from __future__ import annotations

from typing import Any

import torch
from litert_converter.mlir import ir
from litert_converter.mlir.dialects import stablehlo
from litert_torch.backend import lowerings
from torch import Tensor


@torch.library.custom_op("edge_embed::bmm_rows", mutates_args=())
def bmm_rows(lhs: Tensor, rhs: Tensor) -> Tensor:
    """Multiplies ``(1, B, n, k)`` by ``(1, B, k, m)`` to ``(1, B, n, m)``; XNNPACK runs it directly."""
    return lhs @ rhs


@bmm_rows.register_fake
def _(lhs: Tensor, rhs: Tensor) -> Tensor:
    return lhs @ rhs


@lowerings.lower(torch.ops.edge_embed.bmm_rows)  # type: ignore[untyped-decorator]
def _lower(context: Any, lhs: Any, rhs: Any) -> Any:
    axes = stablehlo.DotDimensionNumbers.get(
        lhs_batching_dimensions=[0, 1],
        rhs_batching_dimensions=[0, 1],
        lhs_contracting_dimensions=(3,),
        rhs_contracting_dimensions=(2,),
    )
    shape = (*lhs.type.shape[:3], rhs.type.shape[3])
    return stablehlo.dot_general(ir.RankedTensorType.get(shape, lhs.type.element_type), lhs, rhs, axes)
