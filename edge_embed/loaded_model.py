"""A model file, open and ready to run: its life from loading to closing, and what it says of itself."""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edge_embed.default_model import PATH
from edge_embed.engine.load import load_engine
from edge_embed.errors import RuntimeFailure
from edge_embed.model_file.file import ModelFile
from edge_embed.model_file.manifest import Manifest
from edge_embed.names import DOCUMENT_PROMPTS, QUERY_PROMPTS
from edge_embed.options import check_accelerator, check_dimension, check_threads, check_weight_cache
from edge_embed.text.prompts import check_prompt_name, task_prompt_name
from edge_embed.text.tokenizers import Tokenizer, check_present, load_tokenizer
from edge_embed.text.windows import check_overflow

if TYPE_CHECKING:
    from edge_embed.engine.accelerators import Acceleration
    from edge_embed.engine.base import Engine

Self = TypeVar("Self", bound="LoadedModel")

_models: weakref.WeakSet[LoadedModel] = weakref.WeakSet()


class LoadedModel:
    """What `Embedder` is made of besides embedding. The arguments are those of `Embedder`."""

    def __init__(
        self,
        model_path: str | os.PathLike[str] = PATH,
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
        _models.add(self)

    @property
    def concurrency(self) -> int:
        """How many texts the model runs at a time, each on one thread."""
        return self._load().workers

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, which adds neither prompt nor special tokens."""
        return self._load_tokenizer()

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

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        manifest = self.manifest
        return (
            f"{type(self).__name__}({os.fspath(self._file.path)!r}, recipe={manifest.recipe.name!r}, "
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


def _after_fork_in_child() -> None:
    for model in list(_models):
        # The parent's lock may have been held by a thread that does not exist here.
        model._lock = threading.RLock()
        if model._engine is not None:
            model._engine.abandon()
            model._engine = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
