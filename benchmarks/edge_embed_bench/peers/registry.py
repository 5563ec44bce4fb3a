"""The engines that can be measured beside ours, and how their files are prepared.

A peer is an entry of `PEERS`: the engine that `worker.measure` runs in a process of its own, the packages
it needs, and how close its vectors must be to those of the fp32 source. It receives the same token ids and
the same number of threads. This module imports no peer.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_embed.engine.cache_directory import default_directory
from edge_embed.errors import InputError
from edge_embed.progress import progress_bar
from edge_embed_bench.choices import choose
from edge_embed_bench.errors import MeasurementError, WorkerError, one_line
from edge_embed_bench.files import make_directory, maker_key
from edge_embed_bench.records.model import Model
from edge_embed_bench.targets.base import Subject
from edge_embed_bench.worker import token_ids
from edge_embed_bench.worker.process import WorkerProcess

FP32, BF16, INT8, INT4 = 0.9999, 0.99, 0.95, 0.70
"""Lowest cosine to the fp32 source by precision. Below it an engine does not compute this model."""

PREPARE_TIMEOUT_S = 3600.0
"""Longest wait in seconds for a peer's model: a slow machine exports four graphs of 300M parameters."""

REFERENCE = "edge_embed_bench.peers.reference:FP32Source"


@dataclass(frozen=True)
class Artifact:
    """A model in the format of a peer.

    Attributes:
        name: The name that it is kept under.
        sources: The files of this room that make it.
        packages: Distributions that make it. If a source or a package changes, it is made again.
    """

    name: str
    sources: tuple[str, ...]
    packages: tuple[str, ...]

    def key(self) -> str:
        """Returns the name with a key of the code that makes it."""
        here = Path(__file__).parent
        return f"{self.name}-{maker_key([here / source for source in self.sources], self.packages)}"


@dataclass(frozen=True)
class Peer:
    """One engine beside ours.

    Attributes:
        name: The name on the command line and in records.
        module: The engine, `module:Class`.
        packages: Imports that it needs, and what to install for each.
        least_cosine: The lowest cosine to the fp32 source that is accepted.
        artifact: Its own model, which several peers may share. Without one it reads the checkpoint.
        caches: Whether it keeps files that make later loads faster.
        made_of: The peer whose model its own is made of. By default it is made of the checkpoint.
    """

    name: str
    module: str
    packages: dict[str, str]
    least_cosine: float
    artifact: Artifact | None = None
    caches: bool = False
    made_of: str | None = None


_ONNX = {"onnxruntime": "onnxruntime", "onnx": "onnx", "onnxscript": "onnxscript"}
_TORCH = {"sentence_transformers": "sentence-transformers"}
_OPENVINO = {"openvino": "openvino", "onnx": "onnx", "onnxscript": "onnxscript"}
_LLAMA = {"llama_cpp": "llama-cpp-python", "gguf": "gguf"}
_LITERT = {"litert_torch": "litert-torch"}

_EXPORT = ("torch", "transformers", "onnx", "onnxscript")
_GRAPH = Artifact("onnx", ("onnx_export.py",), _EXPORT)
_INT8_GRAPH = Artifact("onnx-int8", ("onnx_export.py", "onnxruntime.py"), (*_EXPORT, "onnxruntime"))
_STOCK = Artifact(
    "litert-torch",
    ("litert_torch_export.py", "litert_torch.py"),
    ("torch", "litert-torch", "ai-edge-quantizer"),
)


def _gguf(kind: str) -> Artifact:
    return Artifact(f"gguf-{kind}", ("gguf_export.py", "llamacpp.py"), ("gguf", "llama-cpp-python"))


_MODULES = "edge_embed_bench.peers"

PEERS = {
    peer.name: peer
    for peer in (
        Peer("onnxruntime-fp32", f"{_MODULES}.onnxruntime:Float32", _ONNX, FP32, _GRAPH),
        Peer(
            "onnxruntime-int8",
            f"{_MODULES}.onnxruntime:DynamicInt8",
            _ONNX,
            INT8,
            _INT8_GRAPH,
            made_of="onnxruntime-fp32",
        ),
        Peer("openvino", f"{_MODULES}.openvino:OpenVINO", _OPENVINO, BF16, _GRAPH, caches=True),
        Peer("sentence-transformers-fp32", f"{_MODULES}.torch:Float32", _TORCH, FP32),
        Peer("sentence-transformers-bf16", f"{_MODULES}.torch:BFloat16", _TORCH, BF16),
        Peer("llama.cpp-q8_0", f"{_MODULES}.llamacpp:Q8_0", _LLAMA, INT8, _gguf("q8_0")),
        Peer("llama.cpp-q4_0", f"{_MODULES}.llamacpp:Q4_0", _LLAMA, INT4, _gguf("q4_0")),
        Peer("litert-torch", f"{_MODULES}.litert_torch:StockInt8", _LITERT, INT8, _STOCK),
    )
}
"""Known peers."""


def subjects(
    names: Sequence[str], model: Model, checkpoint: Path, threads: int, timeout: float
) -> list[Subject]:
    """Makes the model of each peer and returns the subjects to measure.

    If a peer lacks a package, or its model cannot be made, its subject has the reason as `problem`.

    Args:
        names: Names from `PEERS`.
        model: The file whose weights and ids they share.
        checkpoint: The source of that file.
        threads: Threads for making the models.
        timeout: Seconds for one model.

    Raises:
        InputError: If a name is unknown, or the file was not made from the checkpoint.
    """
    chosen = choose("peer", names, PEERS)
    from edge_embed_convert.source.checkpoint import load  # brings torch

    weights = load(checkpoint).weights_sha256()
    if weights != model.manifest.source.sha256:
        raise InputError(
            f"{model.path.name} was not made from {checkpoint}",
            got=f"weights {weights[:12]}",
            expected=f"weights {model.manifest.source.sha256[:12]}",
            fix="peers must have the same weights: name the file's own checkpoint",
        )
    found = []
    with progress_bar(len(chosen), "preparing the peers", unit="peer") as advance:
        for peer in chosen:
            found.append(_subject(peer, model, checkpoint, threads, timeout))
            advance(1)
    return found


def reference_vectors(
    model: Model,
    checkpoint: Path,
    lengths: Sequence[int],
    *,
    batch: int,
    seed: int,
    threads: int,
    timeout: float,
) -> dict[tuple[str, int], list[list[float]]]:
    """Returns the fp32 source's vectors for the ids that will be measured, as `targets.base.Plan.reference`.

    Raises:
        WorkerError: If the source cannot be run.
    """
    found = {}
    with WorkerProcess(REFERENCE, threads=threads, timeout=timeout) as worker:
        worker.ask(
            "load", model=str(model.path), artifact=str(checkpoint), cache="", threads=threads, length=0
        )
        for length in lengths:
            sequences = token_ids.batch(model.manifest.tokenizer, length, batch, seed)
            answer = worker.ask("embed", batch=sequences, calls=1, vectors=True)
            found[model.facts.sha256, length] = answer["vectors"]
    return found


def _subject(peer: Peer, model: Model, checkpoint: Path, threads: int, timeout: float) -> Subject:
    missing = [pip for package, pip in peer.packages.items() if importlib.util.find_spec(package) is None]
    problem, artifact = None, checkpoint
    if missing:
        problem = f"not installed: pip install {' '.join(missing)}"
    elif peer.artifact:
        try:
            artifact = _prepare(peer, model, checkpoint, threads, timeout)
        except (WorkerError, MeasurementError, OSError) as error:
            problem = one_line(error)
    return Subject(
        model=model,
        engine=peer.name,
        module=peer.module,
        artifact=artifact,
        tokenizes=False,
        caches=peer.caches,
        least_cosine=peer.least_cosine,
        problem=problem,
    )


def _prepare(peer: Peer, model: Model, checkpoint: Path, threads: int, timeout: float) -> Path:
    """Returns the directory with a peer's form of the weights, made in a process of its own and kept."""
    assert peer.artifact is not None
    cache = default_directory()
    if cache is None:
        raise MeasurementError("there is no cache directory for the peers' files", fix="set EDGE_EMBED_CACHE")
    directory = cache / "peers" / model.manifest.source.sha256[:16] / peer.artifact.key()
    if directory.is_dir():
        return directory

    origin = checkpoint
    if peer.made_of:
        origin = _prepare(PEERS[peer.made_of], model, checkpoint, threads, timeout)

    def fill(place: Path) -> None:
        with WorkerProcess(peer.module, threads=threads, timeout=max(timeout, PREPARE_TIMEOUT_S)) as worker:
            worker.ask("prepare", checkpoint=str(origin), directory=str(place))

    make_directory(directory, fill)
    return directory
