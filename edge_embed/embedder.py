"""`Embedder`: a model file that answers texts with vectors, under sentence-transformers' names."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt

from edge_embed.engine.parallel import MANY, for_each
from edge_embed.errors import InputError
from edge_embed.loaded_model import LoadedModel
from edge_embed.model_file.manifest import Vector
from edge_embed.names import DOCUMENT_PROMPTS, QUERY_PROMPTS
from edge_embed.options import (
    check_compatibility,
    check_dimension,
    check_whole,
)
from edge_embed.progress import progress_bar
from edge_embed.proof.self_check import bucket_for
from edge_embed.similarity import pairwise, similarity, unit
from edge_embed.text.inputs import as_texts
from edge_embed.text.prompts import choose_prompt, task_prompt_name, with_titles
from edge_embed.text.tally import Seen, Tally
from edge_embed.text.windows import Plan, Window, check_overflow, plan, windows
from edge_embed.warn import warn_of

if TYPE_CHECKING:
    from typing_extensions import Unpack


Texts = str | Sequence[str] | npt.NDArray[Any]
Titles = str | Sequence[str | None] | None


class EncodeOptions(TypedDict, total=False):
    """The keyword options of `Embedder.encode`, `encode_query` and `encode_document`.

    Attributes:
        normalize_embeddings: Whether vectors get unit length after cutting; by default as the model does.
        truncate_dim: How many dimensions of each vector are kept, the first ones; by default the instance's.
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


class Embedder(LoadedModel):
    """A model file, ready to embed.

    Loading checks the file, reuses packed weights from the cache, and makes the model reproduce the probe
    that the file carries. The tokenizer is read when the first text arrives.

    One instance may be used from several threads. It survives a fork (the child loads its own copy at first
    use) and can be pickled (by path and options).

    Args:
        model_path: The .tflite file; by default edge-embed-mini, which comes with the package.
        truncate_dim: How many dimensions of each vector are kept, from the first on.
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

    def encode_stream(
        self,
        sentences: Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        *,
        role: str | None = None,
        read_ahead: int = 1024,
        **options: Unpack[EncodeOptions],
    ) -> Iterator[Vector]:
        """Embeds the texts of an iterator of any length, in constant memory.

        Texts are read and embedded `read_ahead` at a time, when their vectors are asked for, so an endless
        iterator may be given. One warning at the end tells of all texts that were cut.

        Args:
            sentences: The texts; a generator, for example.
            prompt_name: As for `encode`.
            prompt: As for `encode`.
            role: "query" or "document" for the model's prompt of that role, unless another prompt is given.
            read_ahead: How many texts are read before the first of their vectors comes. With a small number
                the first vector comes earlier; below 16, texts are not run side by side.
            options: See `EncodeOptions`.

        Yields:
            For each text its vector, float32, ``(dimension,)``, in order.

        Raises:
            InputError: If an argument or a text cannot be used. The vectors of earlier parts have come then.
        """
        from edge_embed.bulk.stream import stream  # few need it

        check_whole("read_ahead", read_ahead)
        if role not in (None, "query", "document"):
            raise InputError("role cannot be used", got=repr(role), expected="'query', 'document' or None")
        if isinstance(sentences, (str, bytes, Set, Mapping)) or not isinstance(sentences, Iterable):
            raise InputError(
                "not an ordered iterable of texts", got=type(sentences).__name__, expected="Iterable[str]"
            )
        if prompt is None and prompt_name is None and role is not None:
            prompt_name = self.query_prompt_name if role == "query" else self.document_prompt_name
        lead = choose_prompt(self.prompts, prompt, prompt_name, self.default_prompt_name)

        def encode(texts: list[str], first: int) -> Vector:
            return self._encode([lead] * len(texts), texts, len(texts) or 1, False, first=first, **options)

        encode([], 0)  # checks the options now, not when the first vector is asked for
        return stream(sentences, encode, read_ahead)

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
            raise InputError(
                "the token ids do not fit the model", got=f"{len(ids)} ids", expected=f"1 to {limit}"
            )
        size = manifest.tokenizer.vocab_size
        if bad := [token for token in ids if not 0 <= token < size]:
            raise InputError(
                "a token id is outside the vocabulary", got=str(bad[0]), expected=f"0 to {size - 1}"
            )
        return self._load().run(bucket_for(len(ids), manifest), ids, alone)

    def tokenize(self, texts: Texts) -> list[list[int]]:
        """Returns the token ids of each text, special tokens included, without prompt and not cut."""
        record, tokenizer = self.manifest.tokenizer, self._load_tokenizer()
        return [
            [*record.prefix_ids, *tokenizer.encode(text), *record.suffix_ids] for text in as_texts(texts)[0]
        ]

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
            alone: Whether to use one thread, because other texts run in parallel. The vector is the same.

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

    def _encode(
        self,
        prompts: list[str],
        texts: list[str],
        batch_size: int,
        show_progress_bar: bool | None,
        *,
        first: int = 0,
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
        tally, lock = Tally(manifest.max_tokens), threading.Lock()

        def embed(index: int) -> None:
            parts = windows(tokenizer, manifest, prompts[index], texts[index], policy, index=first + index)
            seen = Seen()
            vector = self._mean(self._run_windows(parts, workers > 1, seen))
            vectors[index] = unit(vector[:dimension]) if normalize else vector[:dimension]
            with lock:
                tally.add(seen)

        with progress_bar(len(texts), "embedding", show=show_progress_bar) as advance:
            for_each(len(texts), workers, embed, advance)
        warn_of(tally)
        return vectors

    def _run_windows(self, parts: Iterator[Window], alone: bool, seen: Seen) -> Iterator[tuple[Vector, int]]:
        """Yields the vector of each window and its weight."""
        for window in parts:
            seen.add(window)
            yield self._run_tokens(window.ids, alone), window.weight

    def _mean(self, rows: Iterable[tuple[Vector, int]]) -> Vector:
        """Returns the weighted mean of one text's windows, at the model's full dimension."""
        rows = iter(rows)
        row, weight = next(rows)
        second = next(rows, None)
        if second is None:
            return row
        total = row * np.float64(weight)
        for row, of_row in itertools.chain([second], rows):
            total += row * np.float64(of_row)
            weight += of_row
        mean = (total / weight).astype(np.float32)
        return unit(mean) if self.manifest.normalize else mean
