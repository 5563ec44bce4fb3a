"""GPU and NPU: who runs the graph, what really ran there, and proof that it computes the same.

LiteRT falls back without a word: an absent NPU, a graph that a compiler refuses, operators that a GPU does
not know all end on the CPU. So its log is read for what it did, and whatever an accelerator took must
reproduce the file's probe in every bucket before a vector of it is handed out.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed.engine.base import IN_MEMORY, PYBIND_ERRORS, Engine, call, check_signatures, closed, leak
from edge_embed.engine.litert.armv80 import keep_out_what_would_kill_us
from edge_embed.engine.litert.flatbuffer import mapped, signatures
from edge_embed.engine.litert.log import quiet_output
from edge_embed.engine.watched_file import WatchedFile
from edge_embed.errors import AcceleratorError, AcceleratorWarning, RuntimeFailure, SelfCheckError
from edge_embed.model_file.file import ModelFile
from edge_embed.model_file.manifest import Manifest, Vector
from edge_embed.names import INPUT_NAME, OUTPUT_NAME, signature_name
from edge_embed.proof.self_check import check_every_bucket
from edge_embed.warn import warn

CPU, GPU, NPU, AUTO = "cpu", "gpu", "npu", "auto"
PREFERRED = (NPU, GPU)
"""What "auto" tries ahead of the CPU, in this order."""

NO_PLUGINS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "no-plugins")
"""A directory that does not exist: LiteRT looks there for plug-ins and finds none to load."""

LABELS = {CPU: "the CPU", GPU: "the GPU", NPU: "the NPU"}

_REFUSED = re.compile(r"^([A-Z0-9_]+): (.+)$")
_DIVIDED = re.compile(r"^(\d+) operations will run on the [GN]PU, and the remaining (\d+)")
_ADAPTER = re.compile(r"Selected adapter: ([^,]+),.*?backend=(\w+), adapterType=(.+)$")
_ABSENCE = {
    GPU: ("No adapters found", "GPU accelerator could not be loaded", "Couldn't load Vulkan"),
    NPU: ("NPU accelerator could not be loaded", "Failed to apply compiler plugins", "No compiler plugin"),
}
"""What LiteRT logs where there is no such accelerator, the cause last."""

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

_environments: dict[str, Any] = {}
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
        passed_over: What "auto" tried and did not take, and why.
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
        words = [LABELS[self.ran_on].removeprefix("the ")]
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
        self._buffers: dict[int, tuple[Any, Any]] = {}
        self._model: Any = None
        self._lock = threading.Lock()
        self._file = WatchedFile(file.path, file.manifest.graph)
        with mapped(self._file.descriptor) as data:
            check_signatures(signatures(data), file.manifest)
        self._model = self._compile(file, accelerator, num_threads)
        self._register()

    def close(self) -> None:
        """Releases the graph. Calling it again does nothing."""
        with self._lock:
            if self._model is not None:
                with quiet_output():
                    self._buffers.clear()
                    self._model.close()
                    self._model = None
                self._file.close()

    def abandon(self) -> None:
        """Forgets the graph in a forked child."""
        for thing in (self._model, self._buffers):
            if thing:
                leak(thing)
        self._model, self._buffers = None, {}
        self._file.close()

    def _invoke(self, length: int, ids: Sequence[int], alone: bool) -> Vector:
        with self._lock:
            if self._model is None:
                raise closed(self._name)
            self._file.require_unchanged()
            if length not in self._buffers:
                # The first run of a bucket allocates, and speaks.
                return call("LiteRT cannot run the graph", lambda: self._run(length, ids))
            try:
                return self._run(length, ids)
            except PYBIND_ERRORS as error:
                raise RuntimeFailure("LiteRT cannot run the graph", got=str(error)) from error

    def _run(self, length: int, ids: Sequence[int]) -> Vector:
        signature = signature_name(length)
        if length not in self._buffers:
            self._buffers[length] = (
                self._model.create_input_buffer_by_name(signature, INPUT_NAME),
                self._model.create_output_buffer_by_name(signature, OUTPUT_NAME),
            )
        source, sink = self._buffers[length]
        tokens = np.full((1, length), self._pad_id, dtype=np.int32)
        tokens[0, : len(ids)] = ids
        source.write(tokens)
        self._model.run_by_name(signature, {INPUT_NAME: source}, {OUTPUT_NAME: sink})
        vector: Vector = sink.read(self._dimension, np.float32)
        return vector

    def _compile(self, file: ModelFile, accelerator: str, num_threads: int) -> Any:
        from edge_embed.engine.litert.gpu_graph import read_graph  # numpy work that only this needs

        manifest, name = file.manifest, LABELS[accelerator]
        _refuse_blocks(manifest, accelerator)
        graph = read_graph(file.path, manifest.graph.bytes)
        float16 = manifest.graph.fp16_safe
        try:
            with quiet_output() as captured:
                model = _compile(graph, accelerator, num_threads, float16)
        except ImportError as error:
            raise AcceleratorError(f"LiteRT cannot use {name}", got=str(error)) from error
        except PYBIND_ERRORS as error:
            absent = _absence(captured.lines, accelerator)
            # The first error of its log is the cause; what it throws is where it noticed.
            cause = absent or "; ".join(_told(captured.lines) or captured.errors[:1])
            raise AcceleratorError(
                f"{name} cannot be used" if absent else f"{name} cannot run {manifest.name}",
                got=cause or str(error).replace("\n", " "),
                expected=f"a graph compiled for {name}",
                fix=_ABSENT[accelerator] if absent else _CONVERT_AGAIN,
            ) from error
        self.acceleration = _read_log(
            captured.lines, accelerator, bool(model.is_fully_accelerated()), float16
        )
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
        _warn_of_rest(engine.acceleration, file.manifest.name)
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
        _warn_of_rest(chosen, file.manifest.name)
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
            backend = f"LiteRT on {LABELS[accelerator]}: {engine.acceleration}"
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
            "this GPU is a program on the CPU, slower than the CPU itself", got=_adapter[0]
        )


def _compile(graph: bytes, accelerator: str, num_threads: int, float16: bool) -> Any:
    from ai_edge_litert.compiled_model import CompiledModel  # only when a model is loaded
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import CpuOptions, GpuOptions, Options

    wanted = {GPU: HardwareAccelerator.GPU, NPU: HardwareAccelerator.NPU}[accelerator]
    options = Options(
        # Without the CPU beside it LiteRT refuses a graph of which one operator stays.
        wanted | HardwareAccelerator.CPU,
        CpuOptions(num_threads=num_threads, xnnpack_weight_cache_path=IN_MEMORY),
        GpuOptions(enforce_f32=not float16),
    )
    return CompiledModel.from_buffer(graph, environment=_environment(accelerator), options=options)


def _environment(accelerator: str) -> Any:
    """Returns the process's LiteRT environment for an accelerator: its plug-ins and no others."""
    if accelerator not in _environments:
        import ai_edge_litert  # only when a model is loaded
        from ai_edge_litert.environment import Environment, EnvironmentOptions

        keep_out_what_would_kill_us()
        libraries = os.path.dirname(os.path.abspath(str(ai_edge_litert.__file__)))
        options = (
            EnvironmentOptions(libraries, compiler_plugin_path=NO_PLUGINS, dispatch_library_path=NO_PLUGINS)
            if accelerator == GPU
            else EnvironmentOptions(NO_PLUGINS)  # the vendors' directories are found by LiteRT
        )
        _environments[accelerator] = Environment.create(options=options)
        leak(_environments[accelerator])  # as that of the CPU
    return _environments[accelerator]


def _read_log(lines: Sequence[str], accelerator: str, complete: bool, float16: bool) -> Acceleration:
    """Returns what LiteRT's log says of a compiled graph.

    Raises:
        AcceleratorError: If nothing of it runs on the accelerator.
    """
    global _adapter  # noqa: PLW0603 - LiteRT names it once per process
    for line in lines:
        if (found := _ADAPTER.search(line)) and accelerator == GPU:
            _adapter = f"{found[1]}, {found[2]}", "CPU" in found[3]
    outside, absent = _told(lines), _absence(lines, accelerator)
    divided = [int(found[1]) for line in lines if (found := _DIVIDED.match(line))]
    if absent or not (complete or any(divided) or (accelerator == NPU and not divided)):
        raise AcceleratorError(
            f"{LABELS[accelerator]} runs nothing of the graph",
            got=absent or "; ".join(outside) or "all of it on the CPU",
            expected=f"a graph on {LABELS[accelerator]}",
            fix=_ABSENT[accelerator],
        )
    device, software = _adapter if _adapter and accelerator == GPU else (None, False)
    return Acceleration(accelerator, accelerator, complete, outside, device, software, float16)


def _told(lines: Sequence[str]) -> list[str]:
    """Returns which operators were refused and why, each reason once."""
    reasons = {f"{found[1]}: {_short(found[2])}": None for line in lines if (found := _REFUSED.match(line))}
    return [reason for reason in reasons if not reason.startswith(("INFO:", "WARNING:", "ERROR:"))]


def _short(reason: str) -> str:
    # LiteRT adds the tensor's name, which differs from layer to layer.
    return re.sub(r"\.? \S*/\S*$", "", reason).rstrip(". ")


def _absence(lines: Sequence[str], accelerator: str) -> str | None:
    """Returns the line that says that there is no such accelerator, if one does."""
    found = (line for sign in reversed(_ABSENCE[accelerator]) for line in lines if sign in line)
    return next((re.sub(r"^[A-Za-z]+: (\[[^]]*\] )?", "", line) for line in found), None)


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


def _warn_of_rest(acceleration: Acceleration, name: str) -> None:
    if not acceleration.complete:
        warn(
            f"{LABELS[acceleration.ran_on]} runs {name} only in part; on the CPU: "
            f"{'; '.join(acceleration.outside) or 'LiteRT does not say what'}. Data goes back and forth "
            "for each part, which can be slower than the CPU alone.",
            AcceleratorWarning,
        )


@atexit.register
def _silence_exit() -> None:
    """Makes LiteRT's static destructors speak into the void.

    With an accelerator they log when the process ends, after Python is gone, so no Python code can capture
    them. Two libc calls do it, in the order last in, first out: `close(2)`, then `dup` of the null device,
    which takes the lowest free descriptor, 2. Registered as Python ends, they come after all of LiteRT's
    own, and so run before them.
    """
    if not _environments:
        return
    try:
        libc = ctypes.CDLL(None)
        register, calls = libc.__cxa_atexit, (libc.dup, libc.close)
    except (AttributeError, OSError, TypeError):  # another kind of libc: the lines stay visible
        return
    null = os.open(os.devnull, os.O_WRONLY)
    for function, descriptor in zip(calls, (null, 2), strict=True):
        register(ctypes.cast(function, ctypes.c_void_p), ctypes.c_void_p(descriptor), None)


def _after_fork_in_child() -> None:
    _environments.clear()  # the parent's are of no use here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
