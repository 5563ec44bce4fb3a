"""A model file as a model of MTEB: `mteb.evaluate(EdgeEmbedModel("model.tflite"), tasks)`.

Needs the package mteb, which is imported when a model is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge_embed import Embedder
from edge_embed.errors import InputError
from edge_embed.extras import needs_extra
from edge_embed.names import DOCUMENT_PROMPTS, QUERY_PROMPTS
from edge_embed.text.prompts import task_prompt_name

if TYPE_CHECKING:
    import torch
    from mteb.models.model_meta import ModelMeta

_HUB_ID = re.compile(r"[\w.\-]+/[\w.\-]+")


class EdgeEmbedModel:
    """A model file behind MTEB's encoder protocol.

    Texts get the prompt that MTEB's rules choose among the model's own: by task name, then task type, then
    query or document. Where they choose none, the model's own rules for queries and documents hold.

    Args:
        model_path: The model file.
        revision: What results are filed under; by default the hash of the graph, so that results of
            different files never mix.
        device: Must be None or "cpu".
        truncate_dim: Cuts vectors to so many dimensions.
        overflow: What happens to a text that is too long. MTEB's published scores come from cutting it.
        num_threads: Threads of one run.

    Raises:
        MissingExtraError: If mteb is not installed.
        ModelFileError: If the file is not one of ours.
        InputError: If an option cannot be used.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        revision: str | None = None,
        *,
        device: str | None = None,
        truncate_dim: int | None = None,
        overflow: str = "truncate",
        num_threads: int | None = None,
    ) -> None:
        with needs_extra("mteb", "evaluating with MTEB"):
            from mteb.models.model_meta import ModelMeta  # seconds, and only MTEB's users have it

        if device not in (None, "cpu"):
            raise InputError("a model file runs on the CPU", got=repr(device), expected="None or 'cpu'")
        self._embedder = Embedder(
            model_path, truncate_dim=truncate_dim, overflow=overflow, num_threads=num_threads
        )
        manifest = self._embedder.manifest
        changed = {"truncate_dim": truncate_dim} if truncate_dim else {}
        # Cut vectors or other windows are another experiment: MTEB keeps its results apart by these.
        experiment: dict[str, Any] = changed | ({"overflow": overflow} if overflow != "truncate" else {})
        name = re.sub(r"[^\w.\-]", "-", f"{manifest.name}.{manifest.recipe.name}")
        self._meta = ModelMeta(
            loader=None,
            name=f"edge-embed/{name}",
            revision=revision or manifest.graph.sha256,
            release_date=None,
            languages=None,
            n_parameters=manifest.architecture.parameters,
            memory_usage_mb=None,
            max_tokens=manifest.max_tokens,
            embed_dim=self._embedder.get_embedding_dimension(),
            license=None,
            open_weights=None,
            public_training_code=None,
            public_training_data=None,
            framework=[],
            similarity_fn_name=manifest.similarity,
            use_instructions=bool(manifest.prompts),
            training_datasets=None,
            adapted_from=manifest.source.id if _HUB_ID.fullmatch(manifest.source.id) else None,
            experiment_kwargs=experiment or None,
        )

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What MTEB files results under."""
        return self._meta

    @property
    def embedder(self) -> Embedder:
        """The model behind it."""
        return self._embedder

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> npt.NDArray[np.float32]:
        """Embeds the texts of a data loader.

        Args:
            inputs: Batches, each with its texts under "text".
            task_metadata: Name and type of the task choose the prompt.
            hf_split: Not used.
            hf_subset: Not used.
            prompt_type: Whether the texts are queries or documents, None where a task has no two sides.
            **kwargs: MTEB's `encode_kwargs`: `batch_size` and `show_progress_bar`.

        Returns:
            float32, ``(n, dimension)``.

        Raises:
            InputError: If an option is not known, or the texts come with pictures or sound alone.
        """
        options = dict(kwargs)
        precision = options.pop("precision", "float32")
        if precision != "float32" or (unknown := set(options) - {"batch_size", "show_progress_bar"}):
            raise InputError(
                "a model file does not have this option of encode",
                got=f"precision={precision!r}" if precision != "float32" else ", ".join(sorted(unknown)),
                expected="batch_size, show_progress_bar",
            )
        texts: list[str] = []
        for batch in inputs:
            if "text" not in batch:
                raise InputError("the batch has no texts", got=", ".join(batch), expected="text")
            texts += batch["text"]
        return self._embedder.encode(
            texts, prompt_name=self.prompt_name(task_metadata, prompt_type), **options
        )

    def prompt_name(self, task_metadata: Any, prompt_type: Any = None) -> str | None:
        """Returns the name of the prompt for a task's texts, None for the model's default."""
        from mteb.models.abs_encoder import get_prompt_name

        prompts = self._embedder.prompts
        chosen: str | None = get_prompt_name(prompts, task_metadata, prompt_type)
        if chosen is not None or prompt_type is None:
            return chosen
        return task_prompt_name(prompts, QUERY_PROMPTS if prompt_type.value == "query" else DOCUMENT_PROMPTS)

    def similarity(self, embeddings1: npt.ArrayLike, embeddings2: npt.ArrayLike) -> torch.Tensor:
        """Returns the similarity of every vector with every other, ``(n, m)``."""
        return _tensor(self._embedder.similarity(embeddings1, embeddings2))

    def similarity_pairwise(self, embeddings1: npt.ArrayLike, embeddings2: npt.ArrayLike) -> torch.Tensor:
        """Returns the similarity of each vector with the one at the same place, ``(n,)``."""
        return _tensor(self._embedder.similarity_pairwise(embeddings1, embeddings2))

    def close(self) -> None:
        """Releases the model."""
        self._embedder.close()


def _tensor(values: npt.NDArray[np.float32]) -> torch.Tensor:
    import torch  # MTEB brings it

    return torch.from_numpy(np.ascontiguousarray(values))
