"""GPU and NPU: which accelerator runs the graph, what it really runs, and a check that it computes the same.

LiteRT falls back to the CPU without an error: where there is no NPU, where a compiler refuses the graph,
where a GPU does not know an operator. So its log is read for what it did, and whatever an accelerator took
must reproduce the file's probe in every bucket before it returns a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_embed.engine.base import Engine, closed_error
from edge_embed.engine.litert.calls import WRAPPER_ERRORS, GraphClosedError, call_litert, quietly
from edge_embed.engine.litert.flatbuffer import mapped, signatures
from edge_embed.engine.litert.log import (
    Log,
    absence,
    accelerated_operators,
    captured_log,
    refused_operators,
    selected_adapter,
)
from edge_embed.engine.litert.python_api import CompiledFile, compile_for_accelerator
from edge_embed.engine.litert.signatures import check_signatures
from edge_embed.engine.uninterrupted import uninterrupted
from edge_embed.errors import (
    AcceleratorError,
    AcceleratorWarning,
    ModelFileError,
    RuntimeFailure,
    SelfCheckError,
)
from edge_embed.model_file.file import ModelFile
from edge_embed.model_file.manifest import Manifest, Vector
from edge_embed.model_file.open_file import OpenFile
from edge_embed.proof.self_check import check_every_bucket
from edge_embed.warn import warn

CPU, GPU, NPU, AUTO = "cpu", "gpu", "npu", "auto"
PREFERRED = (NPU, GPU)
"""What "auto" tries ahead of the CPU, in this order."""

NAMES = {CPU: "the CPU", GPU: "the GPU", NPU: "the NPU"}

_ABSENT = {
    GPU: "install the GPU's driver, on Linux its Vulkan driver and libvulkan1, so that vulkaninfo lists it; "
    "or use accelerator='auto' or 'cpu'",
    NPU: "install the vendor's runtime for LiteRT's NPU plug-in, for instance the extra of ai-edge-litert "
    "for it; or use accelerator='auto' or 'cpu'",
}

_CONVERT_AGAIN = (
    "convert the file again, earlier versions wrote graphs that GPUs refuse; "
    "or use accelerator='auto' or 'cpu'"
)

_adapter: tuple[str, bool] | None = None


@dataclass(frozen=True)
class Acceleration:
    """What runs a loaded model.

    Attributes:
        asked: What was asked for: "cpu", "gpu", "npu" or "auto".
        ran_on: What runs the graph: "cpu", "gpu" or "npu".
        complete: Whether all of the graph runs there.
        outside: What the accelerator refused, and why, as LiteRT says it; these operators run on the CPU.
        device: The accelerator's own name, None where LiteRT does not say.
        software: Whether that device is a program on the CPU.
        float16: Whether the accelerator may compute in float16.
        passed_over: The accelerators that "auto" tried and did not use, and why.
    """

    asked: str
    ran_on: str
    complete: bool = True
    outside: list[str] = field(default_factory=list)
    device: str | None = None
    software: bool = False
    float16: bool = False
    passed_over: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        words = [NAMES[self.ran_on].removeprefix("the ")]
        if self.device:
            words.append(f"({self.device})")
        if not self.complete:
            words.append(f"in part; on the CPU: {'; '.join(self.outside) or 'not said by LiteRT'}")
        return " ".join(words)


class AcceleratedEngine(Engine):
    """A graph on a GPU or an NPU, the CPU taking what that refuses.

    Args:
        file: The model file.
        accelerator: "gpu" or "npu".
        num_threads: Threads for what stays on the CPU.

    Raises:
        AcceleratorError: If the accelerator is absent, fails, or takes nothing.
        ModelFileError: If the graph is not the one that the manifest describes.
    """

    def __init__(self, file: ModelFile, accelerator: str, num_threads: int) -> None:
        super().__init__(file.manifest)
        self.acceleration = Acceleration(accelerator, accelerator)
        self._graph: CompiledFile | None = None
        self._file = OpenFile(file.path, file.manifest.graph)
        with mapped(self._file.descriptor) as data:
            check_signatures(signatures(data), file.manifest)
        self._graph = self._compile(file, accelerator, num_threads)
        self._register()

    def close(self) -> None:
        """Releases the graph once it has ended what it runs. Calling it again does nothing."""
        if self._graph is not None:
            quietly(self._graph.close)
        self._file.close()

    def abandon(self) -> None:
        """Forgets the graph in a forked child."""
        if self._graph is not None:
            self._graph.abandon()
        self._file.close()

    def _invoke(self, length: int, ids: Sequence[int], alone: bool) -> Vector:
        graph = self._graph
        if graph is None or graph.closed:
            raise closed_error(self._name)
        what = "LiteRT cannot run the graph"
        try:
            self._file.require_unchanged()
            if not graph.has_run(length):
                return call_litert(what, lambda: graph.run(length, ids))
            return uninterrupted(lambda: graph.run(length, ids))
        except (GraphClosedError, ModelFileError, RuntimeFailure):
            if graph.closed:
                raise closed_error(self._name) from None
            raise
        except WRAPPER_ERRORS as error:
            raise RuntimeFailure(what, got=str(error)) from error

    def _compile(self, file: ModelFile, accelerator: str, num_threads: int) -> CompiledFile:
        from edge_embed.engine.litert.gpu_graph import read_graph  # numpy work that only this needs

        manifest, name = file.manifest, NAMES[accelerator]
        _refuse_blocks(manifest, accelerator)
        graph = read_graph(file.path, manifest.graph.bytes)
        float16 = manifest.graph.fp16_safe
        log = Log()

        def compile_graph() -> CompiledFile:
            nonlocal log
            with captured_log() as log:
                return compile_for_accelerator(
                    graph, accelerator, num_threads, float16, self._dimension, self._pad_id
                )

        try:
            model = uninterrupted(compile_graph)
        except ImportError as error:
            raise AcceleratorError(f"LiteRT cannot use {name}", got=str(error)) from error
        except WRAPPER_ERRORS as error:
            absent = absence(log.lines, accelerator)
            # The first error of its log is the cause; what it throws is where it noticed.
            cause = absent or "; ".join(refused_operators(log.lines) or log.errors[:1])
            raise AcceleratorError(
                f"{name} cannot be used" if absent else f"{name} cannot run {manifest.name}",
                got=cause or str(error).replace("\n", " "),
                expected=f"a graph compiled for {name}",
                fix=_ABSENT[accelerator] if absent else _CONVERT_AGAIN,
            ) from error
        try:
            self.acceleration = _acceleration(log.lines, accelerator, model.complete, float16)
        except BaseException:
            quietly(model.close)
            raise
        return model


def open_accelerated(
    file: ModelFile, accelerator: str, num_threads: int, weight_cache: str | Path, self_check: bool
) -> tuple[Engine, Acceleration]:
    """Returns a proved graph on an accelerator, and what runs it.

    Args:
        file: The model file.
        accelerator: "gpu", "npu", or "auto".
        num_threads: Threads for what runs on the CPU.
        weight_cache: For the CPU, should "auto" end there.
        self_check: Whether a named accelerator must prove itself; what "auto" takes always must.

    Raises:
        AcceleratorError: If the named accelerator is absent, fails, or takes nothing.
        SelfCheckError: If it does not reproduce the file's probe.
        ModelFileError: If the graph is damaged.
    """
    if accelerator != AUTO:
        engine = _open(file, accelerator, num_threads, self_check)
        _warn_if_incomplete(engine.acceleration, file.manifest.name)
        return engine, engine.acceleration
    passed_over: dict[str, str] = {}
    for name in PREFERRED:
        try:
            _refuse_software(name)
            engine = _open(file, name, num_threads, self_check=True, software=False)
        except (RuntimeFailure, SelfCheckError) as error:
            passed_over[name] = " ".join(": ".join(filter(None, (error.what, error.got))).split())
            continue
        chosen = replace(engine.acceleration, asked=AUTO, passed_over=passed_over)
        _warn_if_incomplete(chosen, file.manifest.name)
        return engine, chosen
    from edge_embed.engine.weight_cache import open_engine  # most accelerated loads need no cache

    cpu = open_engine(file, num_threads, weight_cache, self_check)
    return cpu, Acceleration(AUTO, CPU, passed_over=passed_over)


def _open(
    file: ModelFile, accelerator: str, num_threads: int, self_check: bool, software: bool = True
) -> AcceleratedEngine:
    if self_check:
        file.verify_graph()
    engine = AcceleratedEngine(file, accelerator, num_threads)
    try:
        if not software:
            _refuse_software(accelerator)
        if self_check:
            backend = f"LiteRT on {NAMES[accelerator]}: {engine.acceleration}"
            check_every_bucket(engine, file.manifest, backend, engine.acceleration.float16)
        file.require_unchanged()
    except BaseException:
        engine.close()
        raise
    return engine


def _refuse_software(accelerator: str) -> None:
    """Refuses a GPU that this process has found to be a program on the CPU, slower than the CPU itself."""
    if accelerator == GPU and _adapter is not None and _adapter[1]:
        raise AcceleratorError(
            "this GPU is emulated on the CPU, which is slower than running on the CPU directly",
            got=_adapter[0],
        )


def _acceleration(lines: Sequence[str], accelerator: str, complete: bool, float16: bool) -> Acceleration:
    """Returns what runs a compiled graph, from LiteRT's log.

    Raises:
        AcceleratorError: If nothing of it runs on the accelerator.
    """
    global _adapter  # noqa: PLW0603 - LiteRT names it once per process
    if accelerator == GPU:
        _adapter = selected_adapter(lines) or _adapter
    outside, absent = refused_operators(lines), absence(lines, accelerator)
    divided = accelerated_operators(lines)
    if absent or not (complete or any(divided) or (accelerator == NPU and not divided)):
        raise AcceleratorError(
            f"{NAMES[accelerator]} cannot run any part of the graph",
            got=absent or "; ".join(outside) or "all of it on the CPU",
            expected=f"a graph on {NAMES[accelerator]}",
            fix=_ABSENT[accelerator],
        )
    device, software = _adapter if _adapter and accelerator == GPU else (None, False)
    return Acceleration(accelerator, accelerator, complete, outside, device, software, float16)


def _refuse_blocks(manifest: Manifest, accelerator: str) -> None:
    """Refuses weights with a scale per block: LiteRT's GPU delegate takes them and corrupts its memory."""
    blocked = [group for group, scheme in manifest.recipe.groups.items() if scheme.get("block")]
    if blocked and accelerator == GPU:
        raise AcceleratorError(
            "the GPU cannot run weights with a scale per block",
            got=f"{manifest.recipe.spec}: {', '.join(blocked)}",
            expected="a recipe per channel: int8, mixed",
            fix="convert with another --recipe, or use the CPU",
        )


def _warn_if_incomplete(acceleration: Acceleration, name: str) -> None:
    if not acceleration.complete:
        warn(
            f"{NAMES[acceleration.ran_on]} runs {name} only in part; on the CPU: "
            f"{'; '.join(acceleration.outside) or 'LiteRT does not say what'}. Data goes back and forth "
            "for each part, which can be slower than the CPU alone.",
            AcceleratorWarning,
        )
