"""llama.cpp through `llama-cpp-python`: GGUF files that its own quantizer makes, given token ids."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from edge_embed_bench.peers.base import Ids, TokenPeer
from edge_embed_bench.worker.measure import Job

_FILE = "model.gguf"

LEAST_MICROBATCH = 512
"""llama.cpp's default: the number of tokens that run together, whole texts only."""

MOST_SEQUENCES = 64


class Q8_0(TokenPeer):
    """Blocks of 32 weights in int8 with a scale."""

    packages = ("llama-cpp-python",)
    file_type = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0

    def __init__(self) -> None:
        super().__init__()
        self._model: Any = None
        self._context: Any = None
        self._batch: Any = None
        self._room = 0
        self._width = 0

    def prepare(self, checkpoint: str, directory: str) -> None:
        """Writes the checkpoint as float32 and has llama.cpp quantize it."""
        from edge_embed_bench.peers.gguf_export import (
            write,
        )  # imported late, so that torch is not part of the measured process

        with tempfile.TemporaryDirectory(dir=directory) as work:
            whole = Path(work) / _FILE
            write(checkpoint, whole)
            settings = llama_cpp.llama_model_quantize_default_params()
            settings.ftype = self.file_type
            target = str(Path(directory) / _FILE).encode()
            if llama_cpp.llama_model_quantize(str(whole).encode(), target, settings):
                raise RuntimeError("llama.cpp could not quantize the file")

    def load(self, job: Job) -> None:
        """Loads the file and opens a context that takes the longest text in one piece."""
        super().load(job)
        llama_cpp.llama_backend_init()
        settings = llama_cpp.llama_model_default_params()
        settings.n_gpu_layers = 0
        # Its AMX kernels crash on gemma-embedding; the other repacked layouts come with them or not at all.
        amx = b"AMX_INT8 = 1" in llama_cpp.llama_print_system_info()
        settings.use_extra_bufts = not amx
        self.settings["repacked weights"] = "off (its AMX path crashes)" if amx else "on"
        path = Path(str(job.artifact)) / _FILE
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
        if not self._model:
            raise RuntimeError(f"llama.cpp could not load {path.name}")
        self._room = max(LEAST_MICROBATCH, job.length)
        options = llama_cpp.llama_context_default_params()
        options.embeddings = True
        options.n_ctx = options.n_batch = options.n_ubatch = self._room  # bidirectional: never split a text
        options.n_seq_max, options.kv_unified = MOST_SEQUENCES, True
        options.n_threads = options.n_threads_batch = job.threads
        self._context = llama_cpp.llama_init_from_model(self._model, options)
        if not self._context:
            raise RuntimeError("llama.cpp could not open a context")
        self._batch = llama_cpp.llama_batch_init(self._room, 0, 1)
        self._width = llama_cpp.llama_model_n_embd(self._model)
        self.settings["microbatch"] = f"{self._room} tokens"

    def run(self, tokens: Ids, mask: Ids) -> Any:
        """Returns ``(n, dimension)``, of as many whole texts at a time as the microbatch holds."""
        texts = [row[keep > 0] for row, keep in zip(tokens, mask, strict=True)]
        vectors: list[npt.NDArray[np.float32]] = []
        pending: list[Ids] = []
        for text in texts:
            if pending and (
                sum(map(len, pending)) + len(text) > self._room or len(pending) == MOST_SEQUENCES
            ):
                vectors += self._encode(pending)
                pending = []
            pending.append(text)
        vectors += self._encode(pending)
        result = np.stack(vectors)
        if self._file.manifest.normalize:
            result /= np.linalg.norm(result, axis=1, keepdims=True)
        return result

    def _encode(self, texts: list[Ids]) -> list[npt.NDArray[np.float32]]:
        batch, count = self._batch, sum(map(len, texts))
        as_array = np.ctypeslib.as_array
        as_array(batch.token, (count,))[:] = np.concatenate(texts)
        as_array(batch.pos, (count,))[:] = np.concatenate([np.arange(len(text)) for text in texts])
        as_array(batch.n_seq_id, (count,))[:] = 1
        as_array(batch.logits, (count,))[:] = 1
        places = (number for number, text in enumerate(texts) for _ in text)
        for place, number in enumerate(places):
            batch.seq_id[place][0] = number
        batch.n_tokens = count
        if code := llama_cpp.llama_encode(self._context, batch):
            raise RuntimeError(f"llama.cpp's encoder returned {code}")
        return [self._vector(number) for number in range(len(texts))]

    def _vector(self, number: int) -> npt.NDArray[np.float32]:
        pointer = llama_cpp.llama_get_embeddings_seq(self._context, number)
        if not pointer:
            raise RuntimeError(f"llama.cpp has no vector of text {number}")
        return np.ctypeslib.as_array(pointer, (self._width,)).copy()


class Q4_0(Q8_0):
    """Blocks of 32 weights in int4 with a scale; llama.cpp keeps the embedding table in 6 bits."""

    file_type = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
