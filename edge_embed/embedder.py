"""`Embedder`: a model file that answers texts with vectors, under sentence-transformers' names."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt

from edge_embed.engine.load import load_engine
from edge_embed.engine.parallel import MANY, for_each
from edge_embed.errors import InputError, RuntimeFailure
from edge_embed.model_file.file import ModelFile
from edge_embed.model_file.manifest import Manifest, Vector
from edge_embed.names import DOCUMENT_PROMPTS, QUERY_PROMPTS
from edge_embed.options import (
    check_accelerator,
    check_compatibility,
    check_dimension,
    check_threads,
    check_weight_cache,
    check_whole,
)
from edge_embed.progress import progress_bar
from edge_embed.proof.self_check import bucket_for
from edge_embed.similarity import pairwise, similarity, unit
from edge_embed.text.inputs import as_texts
from edge_embed.text.prompts import check_prompt_name, choose_prompt, task_prompt_name, with_titles
from edge_embed.text.tally import Seen, Tally
from edge_embed.text.tokenizers import Tokenizer, check_present, load_tokenizer
from edge_embed.text.windows import Plan, Window, check_overflow, plan, windows

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from edge_embed.engine.accelerators import Acceleration
    from edge_embed.engine.base import Engine

Texts = str | Sequence[str] | npt.NDArray[Any]
Titles = str | Sequence[str | None] | None


class EncodeOptions(TypedDict, total=False):
    """The keyword options of `Embedder.encode`, `encode_query` and `encode_document`.

    Attributes:
        normalize_embeddings: Whether vectors get unit length after cutting; by default as the model does.
        truncate_dim: Cuts each vector to its first so many dimensions; by default as the instance does.
        overflow: What happens to a text that is too long: "truncate", "error" or "mean"; by default as the
            instance does.
        output_value: For compatibility with sentence-transformers; only "sentence_embedding".
        precision: For compatibility; only "float32".
        convert_to_numpy: For compatibility; only True.
        convert_to_tensor: For compatibility; only False.
        device: For compatibility; only None or "cpu".
    """

    normalize_embeddings: bool | None
    truncate_dim: int | None
    overflow: str | None
    output_value: str
    precision: str
    convert_to_numpy: bool
    convert_to_tensor: bool
    device: str | None


_embedders: weakref.WeakSet[Embedder] = weakref.WeakSet()


class Embedder:
    """A model file, ready to embed.

    Loading checks the file, reuses packed weights from the cache, and makes the model reproduce the probe
    that the file carries. The tokenizer is read when the first text arrives.

    One instance may be used from several threads. It survives a fork (the child loads its own copy at first
    use) and can be pickled (by path and options).

    Args:
        model_path: The .tflite file.
        truncate_dim: Cuts each vector to its first so many dimensions.
        num_threads: Threads in all: of one run, or of as many runs at a time where there are many texts.
            By default the usable cores, at most four.
        overflow: What happens to a text longer than the model: "truncate" (with a warning), "error", or
            "mean" of the windows that it is cut into.
        default_prompt_name: Prompt for `encode` when none is named; by default the file's own choice.
        weight_cache: "auto" for the user's cache directory, "memory" for none, or a directory.
        self_check: Whether the model must prove itself when it is loaded.
        accelerator: "cpu", "gpu", "npu", or "auto" for the first of npu, gpu and cpu that is there and
            proves itself. `acceleration` tells what really runs.

    Raises:
        ModelFileError: If the file is missing, not ours, cut or damaged.
        SelfCheckError: If this machine, or the accelerator, does not reproduce the file's probe.
        AcceleratorError: If the accelerator is absent or takes nothing of the graph.
        RuntimeFailure: If LiteRT refuses the graph.
        InputError: If an option cannot be used.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        *,
        truncate_dim: int | None = None,
        num_threads: int | None = None,
        overflow: str = "truncate",
        default_prompt_name: str | None = None,
        weight_cache: str | os.PathLike[str] = "auto",
        self_check: bool = True,
        accelerator: str = "cpu",
    ) -> None:
        self._accelerator = check_accelerator(accelerator)
        self._num_threads = check_threads(num_threads)
        self._overflow = check_overflow(overflow)
        self._weight_cache = check_weight_cache(weight_cache)
        self._self_check = bool(self_check)
        self._file = ModelFile.open(model_path)
        manifest = self._file.manifest
        self.truncate_dim = truncate_dim
        self._default_prompt_name = manifest.default_prompt_name
        if default_prompt_name is not None:
            self.default_prompt_name = default_prompt_name
        check_present(manifest.tokenizer, self._file.names, self._file.path)
        self._lock = threading.RLock()
        self._tokenizer: Tokenizer | None = None
        self._engine: Engine | None = None
        self._acceleration: Acceleration | None = None
        self._closed = False
        self._load()
        _embedders.add(self)

    def encode(
        self,
        sentences: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Vector:
        """Embeds texts.

        Args:
            sentences: One text, or several.
            prompt_name: Which of the model's prompts goes before each text.
            prompt: What goes before each text instead.
            batch_size: For compatibility with sentence-transformers; a run takes one text, which is fastest
                here.
            show_progress_bar: True or False, or None for a bar on a terminal when it takes over a second.
            options: See `EncodeOptions`.

        Returns:
            float32, ``(dimension,)`` for one text and ``(n, dimension)`` for several.

        Raises:
            InputError: If a text or an option cannot be used.
            TextTooLongError: If a text is too long and `overflow` is "error".
            RuntimeFailure: If LiteRT fails or returns a vector that cannot be used.
        """
        texts, single = as_texts(sentences)
        lead = choose_prompt(self.prompts, prompt, prompt_name, self.default_prompt_name)
        vectors = self._encode([lead] * len(texts), texts, batch_size, show_progress_bar, **options)
        return vectors[0] if single else vectors

    def encode_query(
        self,
        sentences: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Vector:
        """Embeds queries: `encode` with the model's query prompt, unless another prompt is given."""
        if prompt is None and prompt_name is None:
            prompt_name = task_prompt_name(self.prompts, QUERY_PROMPTS)
        return self.encode(sentences, prompt_name, prompt, batch_size, show_progress_bar, **options)

    def encode_document(
        self,
        sentences: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        *,
        titles: Titles = None,
        **options: Unpack[EncodeOptions],
    ) -> Vector:
        """Embeds documents: `encode` with the model's document prompt, unless another prompt is given.

        Args:
            sentences: One text, or several.
            prompt_name: As for `encode`.
            prompt: As for `encode`.
            batch_size: As for `encode`.
            show_progress_bar: As for `encode`.
            titles: One title for all texts, or one per text, None where a text has none. They take the
                place of "none" in a prompt with "title: none"; otherwise they go before the text.
            options: See `EncodeOptions`.
        """
        texts, single = as_texts(sentences)
        if prompt is None and prompt_name is None:
            prompt_name = task_prompt_name(self.prompts, DOCUMENT_PROMPTS)
        lead = choose_prompt(self.prompts, prompt, prompt_name, self.default_prompt_name)
        leads, documents = with_titles(texts, lead, titles)
        vectors = self._encode(leads, documents, batch_size, show_progress_bar, **options)
        return vectors[0] if single else vectors

    def encode_tokens(self, tokens: Sequence[int]) -> Vector:
        """Embeds token ids as they are: special tokens included, nothing added, cut or normalized again.

        Returns:
            float32, ``(dimension,)``, full size.

        Raises:
            InputError: If there are none, too many, or one is outside the vocabulary.
        """
        return self._run_tokens([*map(int, tokens)])

    def _run_tokens(self, ids: list[int], alone: bool = False) -> Vector:
        manifest, limit = self.manifest, self.manifest.buckets[-1]
        if not 0 < len(ids) <= limit:
            raise InputError("token ids that do not fit", got=f"{len(ids)} ids", expected=f"1 to {limit}")
        size = manifest.tokenizer.vocab_size
        if bad := [token for token in ids if not 0 <= token < size]:
            raise InputError(
                "a token id outside the vocabulary", got=str(bad[0]), expected=f"0 to {size - 1}"
            )
        return self._load().run(bucket_for(len(ids), manifest), ids, alone)

    def tokenize(self, texts: Texts) -> list[list[int]]:
        """Returns the token ids of each text, special tokens included, without prompt and not cut."""
        record, tokenizer = self.manifest.tokenizer, self._load_tokenizer()
        return [
            [*record.prefix_ids, *tokenizer.encode(text), *record.suffix_ids] for text in as_texts(texts)[0]
        ]

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, which adds neither prompt nor special tokens."""
        return self._load_tokenizer()

    def similarity(self, embeddings1: npt.ArrayLike, embeddings2: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Returns the similarity of every vector with every other, ``(n, m)``, by the model's own measure.

        A single vector counts as one row.
        """
        return similarity(self.similarity_fn_name, embeddings1, embeddings2)

    def similarity_pairwise(
        self, embeddings1: npt.ArrayLike, embeddings2: npt.ArrayLike
    ) -> npt.NDArray[np.float32]:
        """Returns the similarity of each vector with the one at the same place, ``(n,)``."""
        return pairwise(self.similarity_fn_name, embeddings1, embeddings2)

    @property
    def concurrency(self) -> int:
        """How many texts the model runs at a time, each on one thread."""
        return self._load().workers

    def plan(
        self,
        sentences: Texts,
        prompt_name: str | None = None,
        prompt: str | None = None,
        overflow: str | None = None,
    ) -> list[Plan]:
        """Returns how each text would be run: its windows of token ids. Arguments as for `encode`."""
        texts, _ = as_texts(sentences)
        lead = choose_prompt(self.prompts, prompt, prompt_name, self.default_prompt_name)
        policy = self._overflow if overflow is None else check_overflow(overflow)
        tokenizer = self._load_tokenizer()
        return [
            plan(tokenizer, self.manifest, lead, text, policy, index=index)
            for index, text in enumerate(texts)
        ]

    def run_plan(self, work: Plan, alone: bool = False) -> Vector:
        """Runs the windows of one text.

        Args:
            work: What `plan` returned.
            alone: Whether one thread runs it, beside others of its kind. The vector is the same.

        Returns:
            The mean of the windows at the model's full dimension.
        """
        rows = (self._run_tokens(ids, alone) for ids in work.windows)
        return self._mean(zip(rows, work.weights, strict=True))

    def finish(
        self, vector: Vector, truncate_dim: int | None = None, normalize: bool | None = None
    ) -> Vector:
        """Cuts and normalizes a vector as `encode` does. The arguments are those of `encode`."""
        manifest = self.manifest
        dimension = check_dimension(truncate_dim, manifest) or self.get_embedding_dimension()
        if normalize is None:  # a cut vector of a model that normalizes would be shorter than 1
            normalize = manifest.normalize and dimension < manifest.dimension
        return unit(vector[:dimension]) if normalize else vector[:dimension]

    @property
    def query_prompt_name(self) -> str | None:
        """The prompt that `encode_query` uses; None for the default one."""
        return task_prompt_name(self.prompts, QUERY_PROMPTS)

    @property
    def document_prompt_name(self) -> str | None:
        """The prompt that `encode_document` uses; None for the default one."""
        return task_prompt_name(self.prompts, DOCUMENT_PROMPTS)

    @property
    def manifest(self) -> Manifest:
        """Everything the file says of itself."""
        return self._file.manifest

    @property
    def path(self) -> Path:
        """The model file, absolute."""
        return self._file.path

    @property
    def truncate_dim(self) -> int | None:
        """How many dimensions of each vector are kept; None for all. May be set."""
        return self._truncate_dim

    @truncate_dim.setter
    def truncate_dim(self, dimension: int | None) -> None:
        self._truncate_dim = check_dimension(dimension, self.manifest)

    @property
    def default_prompt_name(self) -> str | None:
        """The prompt that `encode` uses when none is named; None for no prompt. May be set."""
        return self._default_prompt_name

    @default_prompt_name.setter
    def default_prompt_name(self, name: str | None) -> None:
        self._default_prompt_name = None if name is None else check_prompt_name(self.prompts, name)

    @property
    def prompts(self) -> dict[str, str]:
        """The model's prompts by name."""
        return self.manifest.prompts

    @property
    def similarity_fn_name(self) -> str:
        """The measure that `similarity` uses: cosine, dot, euclidean or manhattan."""
        return self.manifest.similarity

    @property
    def overflow(self) -> str:
        """What happens to a text that is too long, where a call does not say."""
        return self._overflow

    @property
    def max_seq_length(self) -> int:
        """The most tokens that one run takes, special tokens included."""
        return self.manifest.max_tokens

    @property
    def device(self) -> str:
        """Where the model runs: "cpu", "gpu" or "npu"."""
        return self._acceleration.ran_on if self._acceleration is not None else "cpu"

    @property
    def acceleration(self) -> Acceleration:
        """What really runs the model: which device, all of it or what not, and what "auto" passed over."""
        if self._acceleration is not None:
            return self._acceleration
        from edge_embed.engine.accelerators import Acceleration  # not needed to embed

        return Acceleration("cpu", "cpu")

    def get_embedding_dimension(self) -> int:
        """Returns the length of the vectors that `encode` gives."""
        return self.truncate_dim or self.manifest.dimension

    get_sentence_embedding_dimension = get_embedding_dimension

    def close(self) -> None:
        """Releases the model. Using it afterwards is an error; closing it again is not."""
        with self._lock:
            self._closed = True
            if self._engine is not None:
                self._engine.close()
                self._engine = None
            self._file.close()

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        manifest = self.manifest
        return (
            f"Embedder({os.fspath(self._file.path)!r}, recipe={manifest.recipe.name!r}, "
            f"dimension={self.get_embedding_dimension()}, max_seq_length={manifest.max_tokens})"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {
            "model_path": self._file.path,
            "truncate_dim": self.truncate_dim,
            "num_threads": self._num_threads,
            "overflow": self._overflow,
            "default_prompt_name": self.default_prompt_name,
            "weight_cache": self._weight_cache,
            "self_check": self._self_check,
            "accelerator": self._accelerator,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _load(self) -> Engine:
        """Returns the engine, loading it in a new instance or a forked child."""
        engine = self._engine
        if engine is not None and not self._closed:
            return engine
        with self._lock:
            self._require_open()
            if self._engine is None:
                self._engine, self._acceleration = load_engine(
                    self._file, self._accelerator, self._num_threads, self._weight_cache, self._self_check
                )
            return self._engine

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeFailure(f"the model {self._file.path} is closed", fix="make a new Embedder")

    def _load_tokenizer(self) -> Tokenizer:
        with self._lock:
            if self._tokenizer is None:
                self._require_open()
                record = self.manifest.tokenizer
                self._tokenizer = load_tokenizer(record, self._file.read(record.file))
            return self._tokenizer

    def _encode(
        self,
        prompts: list[str],
        texts: list[str],
        batch_size: int,
        show_progress_bar: bool | None,
        *,
        normalize_embeddings: bool | None = None,
        truncate_dim: int | None = None,
        overflow: str | None = None,
        **compatibility: object,
    ) -> Vector:
        check_compatibility(**compatibility)
        check_whole("batch_size", batch_size)
        manifest = self.manifest
        policy = self._overflow if overflow is None else check_overflow(overflow)
        dimension = check_dimension(truncate_dim, manifest) or self.get_embedding_dimension()
        normalize = normalize_embeddings
        if normalize is None:  # a cut vector of a model that normalizes would be shorter than 1
            normalize = manifest.normalize and dimension < manifest.dimension
        vectors = np.empty((len(texts), dimension), np.float32)
        if not texts:
            return vectors
        tokenizer = self._load_tokenizer()
        workers = self._load().workers if len(texts) >= MANY else 1
        tally, lock = Tally(), threading.Lock()

        def embed(index: int) -> None:
            parts = windows(tokenizer, manifest, prompts[index], texts[index], policy, index=index)
            seen = Seen()
            vector = self._mean(self._run_windows(parts, workers > 1, seen))
            vectors[index] = unit(vector[:dimension]) if normalize else vector[:dimension]
            with lock:
                tally.add(seen)

        with progress_bar(len(texts), "embedding", show=show_progress_bar) as advance:
            for_each(len(texts), workers, embed, advance)
        tally.warn(len(texts), manifest.max_tokens)
        return vectors

    def _run_windows(self, parts: Iterator[Window], alone: bool, seen: Seen) -> Iterator[tuple[Vector, int]]:
        """Yields the vector of each window and its weight."""
        for window in parts:
            seen.add(window)
            yield self._run_tokens(window.ids, alone), window.weight

    def _mean(self, rows: Iterable[tuple[Vector, int]]) -> Vector:
        """Returns the weighted mean of one text's windows, at the model's full dimension."""
        total, weight, count = np.zeros(self.manifest.dimension), 0, 0
        for count, (row, of_row) in enumerate(rows, 1):  # noqa: B007
            total += row * np.float64(of_row)
            weight += of_row
        if count == 1:
            return row
        mean = (total / weight).astype(np.float32)
        return unit(mean) if self.manifest.normalize else mean


def _after_fork_in_child() -> None:
    for embedder in list(_embedders):
        # The parent's lock may have been held by a thread that does not exist here.
        embedder._lock = threading.RLock()
        if embedder._engine is not None:
            embedder._engine.abandon()
            embedder._engine = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
