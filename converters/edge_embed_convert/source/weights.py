"""The weights of a checkpoint, taken by name so that none can be missed.

An encoder takes every tensor that it expects, with the shape that its configuration implies. A tensor that is
missing, has another shape, holds a NaN, or was never taken is an error that names it.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from edge_embed.errors import CheckpointError
from edge_embed_convert.source.files import weight_files

SHOWN = 5
"""How many names an error message lists before it only counts."""


class Weights:
    """Tensors by name, each to be taken once.

    Args:
        tensors: Loaders by full name; a loader is called when its tensor is taken, so that no more
            than one copy of a large checkpoint is ever in memory.
        origin: What error messages call the place the tensors came from.
    """

    def __init__(self, tensors: dict[str, Callable[[], Tensor]], origin: str) -> None:
        self._tensors = tensors
        self._origin = origin
        self._prefix = ""

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], origin: str = "memory") -> Weights:
        """Wraps tensors that are already in memory."""
        return cls({name: _constant(tensor) for name, tensor in tensors.items()}, origin)

    @classmethod
    def open(cls, directory: Path) -> Weights:
        """Opens the weight files of one module directory, lazily.

        Args:
            directory: Holds `model.safetensors`, a sharded set of it, or `pytorch_model.bin`.

        Raises:
            CheckpointError: If there is no weight file or one cannot be read.
        """
        files = weight_files(directory)
        tensors: dict[str, Callable[[], Tensor]] = {}
        for file in files:
            tensors |= _loaders(file)
        return cls(tensors, str(directory))

    def at(self, prefix: str) -> Weights:
        """Returns a view of the tensors below `prefix`; what is taken there is taken here too."""
        view = Weights(self._tensors, self._origin)
        view._prefix = f"{self._prefix}{prefix}."
        return view

    def has(self, name: str) -> bool:
        """Returns whether `name` is there and not yet taken."""
        return self._prefix + name in self._tensors

    def take(self, name: str, *shape: int) -> Tensor:
        """Returns the tensor `name` as float32 and crosses it off.

        Raises:
            CheckpointError: If it is missing, was taken before, has another shape, or is not finite.
        """
        full = self._prefix + name
        load = self._tensors.pop(full, None)
        if load is None:
            near = [n for n in self._tensors if n.rsplit(".", 1)[0].endswith(name.rsplit(".", 1)[0])]
            raise CheckpointError(
                f"a weight is missing from {self._origin}",
                got=f"similar names: {', '.join(near[:SHOWN])}" if near else "no similar name",
                expected=f"{full} with shape {shape}",
                fix="save the checkpoint again, complete, with save_pretrained",
            )
        tensor = load().to(torch.float32)
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"the weight {full} does not have the shape that the configuration implies",
                got=str(tuple(tensor.shape)),
                expected=str(shape),
                fix="check that config.json belongs to these weights",
            )
        if not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise CheckpointError(
                f"the weight {full} contains values that are not finite",
                got=f"{bad} of {tensor.numel()} are NaN or infinite",
                expected="finite numbers",
                fix="the training run diverged or the file is damaged; use an earlier checkpoint",
            )
        return tensor

    def take_linear(self, name: str, out_features: int, in_features: int, *, bias: bool) -> nn.Linear:
        """Returns the projection `name`.weight (and .bias) as a module."""
        weight = self.take(f"{name}.weight", out_features, in_features)
        return linear(weight, self.take(f"{name}.bias", out_features) if bias else None)

    def strip_prefix(self, *prefixes: str, unused: Iterable[str] = ()) -> None:
        """Drops a wrapper's prefix (`model.`, `bert.`) if every tensor except the unused ones has it."""
        for prefix in prefixes:
            inside = [name for name in self._tensors if not _matches(name, unused)]
            if inside and all(name.startswith(prefix) for name in inside):
                renamed = {name.removeprefix(prefix): load for name, load in self._tensors.items()}
                self._tensors.clear()
                self._tensors.update(renamed)

    def require_all_taken(self, unused: Iterable[str] = ()) -> None:
        """Checks that every tensor was taken.

        Args:
            unused: Patterns of tensors that checkpoints of the family contain and the encoder does not use.

        Raises:
            CheckpointError: If a tensor was not taken, because the model would then differ from the source.
        """
        left = [name for name in self._tensors if not _matches(name, unused)]
        if left:
            more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
            raise CheckpointError(
                f"{self._origin} contains weights that this encoder does not use",
                got=", ".join(sorted(left)[:SHOWN]) + more,
                expected="exactly the weights that config.json implies",
                fix="check model_type and num_hidden_layers in config.json; adapters must be merged first",
            )


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """Returns an inference-only projection that holds `weight` ``(out, in)`` itself, not a copy."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def scaled(layer: nn.Linear, factor: float) -> nn.Linear:
    """Returns a projection with all its rows and its bias times one constant."""
    bias = None if layer.bias is None else layer.bias.data * factor
    return linear(layer.weight.data * factor, bias)


def _loaders(file: Path) -> dict[str, Callable[[], Tensor]]:
    damaged = CheckpointError(
        f"the weight file {file} cannot be read",
        got=f"{file.stat().st_size} bytes that are not what the suffix says",
        fix="download or save it again; a Git LFS pointer is not the file itself",
    )
    if file.suffix == ".safetensors":
        try:
            handle = safe_open(file, framework="pt")
        except SafetensorError as error:
            raise damaged from error
        names = handle.keys()  # type: ignore[no-untyped-call]
        return {_current_name(name): _slice(handle, name) for name in names}
    try:
        # Files from before PyTorch 1.6 are not zip archives and cannot be mapped.
        tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError) as error:
        raise damaged from error
    if not isinstance(tensors, dict):
        raise damaged
    return {_current_name(name): _constant(t) for name, t in tensors.items() if isinstance(t, Tensor)}


def _current_name(name: str) -> str:
    """Returns the present name of a weight: norms of TensorFlow's days had gamma and beta."""
    return re.sub(r"(LayerNorm)\.gamma$", r"\1.weight", re.sub(r"(LayerNorm)\.beta$", r"\1.bias", name))


def _slice(handle: safe_open, name: str) -> Callable[[], Tensor]:
    return lambda: handle.get_tensor(name)  # type: ignore[no-untyped-call]


def _constant(tensor: Tensor) -> Callable[[], Tensor]:
    return lambda: tensor
