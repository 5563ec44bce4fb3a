"""Float graphs that were exported once are copied the next time.

A tiny conversion takes 6.5 s of processor time, of which lowering the graph takes 5. Many tests convert one
checkpoint again and again and look at another step. A graph is kept under a key of the model, its buckets,
the code that makes the graph and the versions behind it, so that a change of any of them exports anew. The
tests of exporting itself call `export` and are not concerned.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import inspect
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import edge_embed_convert
from edge_embed_convert.graph.export import export
from edge_embed_convert.graph.rewrite import EmbeddingModel

ROOT = Path(edge_embed_convert.__file__).parent


@functools.cache
def _code() -> str:
    """Returns a hash of the converter's code and of the packages that lower the graph."""
    digest = hashlib.sha256()
    for file in sorted(ROOT.rglob("*.py")):
        digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    for name in ("litert-torch", "litert-converter", "torch"):
        digest.update(importlib.metadata.version(name).encode())
    return digest.hexdigest()


class UnknownPartError(Exception):
    """A part of a model that `describe` does not know: such a model is exported anew each time."""


def describe(value: Any) -> Any:
    """Returns a text, or lists of texts, that differ wherever two parts of a model differ."""
    if isinstance(value, torch.nn.Module):
        own = {name: part for name, part in vars(value).items() if not name.endswith("_hooks")}
        return [type(value).__qualname__, describe(own)]
    if isinstance(value, torch.Tensor):
        data = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        return [str(value.dtype), str(tuple(value.shape)), hashlib.sha256(data).hexdigest()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [
            type(value).__qualname__,
            [describe(getattr(value, f.name)) for f in dataclasses.fields(value)],
        ]
    if isinstance(value, Mapping):
        return [[repr(name), describe(part)] for name, part in value.items()]
    if isinstance(value, (list, tuple)):
        return [describe(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if inspect.isfunction(value):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return [value.__qualname__, describe(cells), describe(value.__defaults__)]
    if inspect.ismethod(value):  # of a part that is described in its own place
        return value.__qualname__
    if inspect.isbuiltin(value) or isinstance(value, type):
        return value.__qualname__
    if value is None or isinstance(value, (bool, int, float, str, bytes, torch.dtype, torch.device)):
        return repr(value)
    raise UnknownPartError(type(value).__qualname__)


def key(model: EmbeddingModel, buckets: Sequence[int]) -> str:
    """Returns the name of a kept graph.

    Raises:
        UnknownPartError: If a part of the model cannot be described.
    """
    whole = json.dumps([_code(), list(buckets), describe(model)])
    return hashlib.sha256(whole.encode()).hexdigest()[:24]


class KeptExports:
    """Stands in for `export`.

    Args:
        directory: Where the graphs are kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(
        self,
        model: EmbeddingModel,
        buckets: Sequence[int],
        path: Path,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Copies the graph, or exports and keeps it. Reports the same steps either way."""
        try:
            kept = self._directory / f"{key(model, buckets)}.tflite"
        except UnknownPartError:
            export(model, buckets, path, progress)
            return
        steps = kept.with_suffix(".json")
        if kept.is_file() and steps.is_file():
            for step in json.loads(steps.read_text("utf-8")):
                progress(step)
            shutil.copyfile(kept, path)
            return
        reported: list[str] = []

        def report(step: str) -> None:
            reported.append(step)
            progress(step)

        export(model, buckets, path, report)
        temporary = kept.with_suffix(f".{path.parent.name}.tmp")
        shutil.copyfile(path, temporary)
        temporary.rename(kept)
        steps.write_text(json.dumps(reported), "utf-8")
