"""The source model in float32, computed the way its authors do: what every file is compared with.

It shares no arithmetic with the encoders of this package: transformers runs the Transformer, and the
few lines after it follow sentence-transformers' definitions, on whole batches of true length, without
padding.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edge_embed.errors import CheckpointError
from edge_embed_convert.silence import silenced, transformers_silenced
from edge_embed_convert.source.checkpoint import Checkpoint
from edge_embed_convert.source.files import weight_files
from edge_embed_convert.source.loaded_tokenizer import load_tokenizer
from edge_embed_convert.source.modules import LAYER_NORM_EPS, Cut, HeadModule, LayerNorm, Normalize
from edge_embed_convert.source.static import MAPPING, ROWS, TABLE, WEIGHTS, read_static_tokenizer
from edge_embed_convert.source.weights import Weights

Vectors = npt.NDArray[np.float32]

_LOAD_ERRORS = (SafetensorError, pickle.UnpicklingError, EOFError, StrictDataclassError)
"""What transformers lets out of a damaged weight file or an impossible configuration, beside the usual."""


class Reference:
    """The source model, loaded once.

    Args:
        checkpoint: What to load.

    Attributes:
        model: The Transformer as transformers loads it, in float32.

    Raises:
        CheckpointError: If transformers cannot load it, or had to invent or drop a weight.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._static = checkpoint.family.without_transformers
        self.model = _TokenVectors(checkpoint) if self._static else _load_model(checkpoint)
        if self._static:
            self._tokenizer = read_static_tokenizer(checkpoint.transformer_path)
        else:
            self._tokenizer = load_tokenizer(checkpoint.transformer_path, lowercase=checkpoint.lowercase)
        self._head = [_step(module) for module in checkpoint.head]

    def tokenize(self, text: str) -> list[int]:
        """Returns the ids of a text as the source has them, special tokens included, cut to the maximum."""
        if self._static:
            return list(self._tokenizer.encode(text).ids[: self._checkpoint.max_tokens])
        ids = self._tokenizer(text, truncation=True, max_length=self._checkpoint.max_tokens)["input_ids"]
        return [int(i) for i in ids]

    def embed_tokens(self, ids: Sequence[int]) -> Vectors:
        """Returns the embedding of one id sequence, shape ``(dimension,)``."""
        with torch.inference_mode():
            tokens = torch.tensor([list(ids)])
            hidden = self.model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0]
            vector = torch.cat([_pool(hidden, mode) for mode in self._checkpoint.pooling])
            vector = self.head(vector)
        result: Vectors = vector.numpy()
        return result

    def head(self, pooled: Tensor) -> Tensor:
        """Runs what follows the pooling, on vectors of shape ``(..., width)``."""
        for step in self._head:
            pooled = step(pooled)
        return pooled


class _TokenVectors(torch.nn.Module):
    """The vectors of a static model's tokens, by the definition of sentence-transformers.

    Args:
        checkpoint: A static model.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        tensors = load_file(weight_files(checkpoint.transformer_path)[0])
        table = tensors[TABLE if TABLE in tensors else ROWS].float()
        if TABLE not in tensors:
            table = table[tensors[MAPPING].long()] if MAPPING in tensors else table
            table = table * tensors[WEIGHTS].float()[:, None] if WEIGHTS in tensors else table
        self._table = table

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=self._table[input_ids])


def _pool(hidden: Tensor, mode: str) -> Tensor:
    if mode == "cls":
        return hidden[0]
    if mode == "max":
        return hidden.amax(0)
    if mode == "mean":
        return hidden.mean(0)
    if mode == "lasttoken":
        return hidden[-1]
    if mode == "weightedmean":
        weights = torch.arange(1, len(hidden) + 1, dtype=hidden.dtype)
        return (hidden * weights[:, None]).sum(0) / weights.sum()
    return hidden.sum(0) / hidden.shape[0] ** 0.5


def _step(module: HeadModule) -> Callable[[Tensor], Tensor]:
    """Returns what a module does with a vector, by PyTorch's own functions."""
    if isinstance(module, Normalize):
        return functools.partial(torch.nn.functional.normalize, dim=-1)
    if isinstance(module, Cut):
        return lambda x: x[..., : module.dimension]
    weights = Weights.open(module.path)
    if isinstance(module, LayerNorm):
        shape = (module.dimension,)
        gain, shift = weights.take("norm.weight", *shape), weights.take("norm.bias", *shape)
        return lambda x: torch.nn.functional.layer_norm(x, shape, gain, shift, LAYER_NORM_EPS)
    sizes = (module.out_features, module.in_features)
    weight = weights.take("linear.weight", *sizes)
    bias = weights.take("linear.bias", module.out_features) if module.bias else None
    added = weights.take("residual.weight", *sizes) if module.projects_residual else None
    activation = _ACTIVATIONS[module.activation]

    def dense(x: Tensor) -> Tensor:
        y = activation(torch.nn.functional.linear(x, weight, bias))
        if not module.residual:
            return y
        return y + (x if added is None else torch.nn.functional.linear(x, added))

    return dense


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": torch.nn.functional.gelu,
    "identity": lambda x: x,
    "relu": torch.nn.functional.relu,
    "sigmoid": torch.nn.functional.sigmoid,
    "silu": torch.nn.functional.silu,
    "tanh": torch.nn.functional.tanh,
}


def _load_model(checkpoint: Checkpoint) -> torch.nn.Module:
    with silenced():  # importing it logs
        from transformers import AutoConfig, AutoModel  # two seconds, only for the gate

    path = checkpoint.transformer_path
    with transformers_silenced():
        try:
            config = AutoConfig.from_pretrained(path)
            checkpoint.family.adapt_reference(config, checkpoint.sliding_window)
            model, report = AutoModel.from_pretrained(
                path,
                config=config,
                dtype=torch.float32,
                attn_implementation="eager",
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError, *_LOAD_ERRORS) as error:
            raise CheckpointError("transformers cannot load the checkpoint", got=str(error)[:300]) from error
    invented = [key for key in report["missing_keys"] if not key.startswith(checkpoint.family.invented)]
    if invented:
        raise CheckpointError(
            "transformers found no values for some weights of the reference",
            got=", ".join(sorted(invented)[:5]),
            expected="a complete checkpoint",
        )
    return model.eval()
