"""A model file as Chroma's embedding function.

Needs the package chromadb: ``pip install 'edge-embed[chroma]'``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edge_embed.errors import InputError
from edge_embed.extras import needs_extra
from edge_embed.integrations.model import Model, open_model, saved_options

with needs_extra("chroma", "the adapter for Chroma"):
    from chromadb.api.types import EmbeddingFunction
    from chromadb.utils.embedding_functions import register_embedding_function

Vectors = list[npt.NDArray[np.float32]]


@register_embedding_function
class EdgeEmbedEmbeddingFunction(EmbeddingFunction[list[str]]):
    """Documents get the model's document prompt, what is searched for its query prompt.

    A collection keeps the path of the model file and the hash of its graph. It opens the file again by
    itself, and refuses another file under the same path.

    Args:
        model: The model file, or an `Embedder`.
        graph: The hash of the model's graph, where it must be a certain one.
        options: Options of `Embedder`, with a path.

    Raises:
        InputError: If the model is not the one of `graph`.
    """

    def __init__(self, model: Model, graph: str | None = None, **options: Any) -> None:
        self.embedder = open_model(model, **options)
        found = self.embedder.manifest.graph.sha256
        if graph is not None and graph != found:
            raise InputError(
                f"{self.embedder.path} is not the model of this collection",
                got=f"a graph with hash {found}",
                expected=graph,
                fix="put the former file back, or embed the documents again into a new collection",
            )

    def __call__(self, input: list[str]) -> Vectors:
        """Returns the vectors of documents."""
        return list(self.embedder.encode_document(list(input), show_progress_bar=False))

    def embed_query(self, input: list[str]) -> Vectors:
        """Returns the vectors of queries."""
        return list(self.embedder.encode_query(list(input), show_progress_bar=False))

    @staticmethod
    def name() -> str:
        """Returns the name under which a collection finds this class again."""
        return "edge_embed"

    def default_space(self) -> str:
        """Returns the measure of the collection: the model's own, where Chroma has it."""
        return {"dot": "ip", "euclidean": "l2"}.get(self.embedder.similarity_fn_name, "cosine")

    def supported_spaces(self) -> list[str]:
        """Returns the measures that a collection may use."""
        return ["cosine", "ip", "l2"]

    def get_config(self) -> dict[str, Any]:
        """Returns what `build_from_config` needs."""
        return {**saved_options(self.embedder), "graph": self.embedder.manifest.graph.sha256}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> EdgeEmbedEmbeddingFunction:
        """Opens the model that a collection was made with."""
        return EdgeEmbedEmbeddingFunction(**config)

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Refuses another model for a collection that has vectors.

        Raises:
            InputError: If the graph or the dimension would be another.
        """
        for name in ("graph", "truncate_dim"):
            if old_config.get(name) != new_config.get(name):
                raise InputError(
                    f"a collection cannot change its {name}",
                    got=str(new_config.get(name)),
                    expected=str(old_config.get(name)),
                    fix="make a new collection",
                )
