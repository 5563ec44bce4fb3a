"""`Embed`: a batch of rows in, the same rows with their vectors out, whatever engine calls it.

It takes what engines hand to such functions: a pyarrow table, a pandas data frame, or a mapping from names to
arrays. It needs no package but the one that made the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_embed.bulk.formats import EMBEDDING_FIELD
from edge_embed.bulk.job import Prompting
from edge_embed.bulk.rows import TEXT_FIELD, Part
from edge_embed.errors import InputError
from edge_embed.integrations.model import Model, open_model
from edge_embed.text.inputs import check_text

ON_ERROR = ("stop", "skip")


class Embed:
    """Embeds the texts of a batch. One instance holds one model: make one a worker.

    Args:
        model: The model file; each machine needs it under the same path.
        field: The column with the texts.
        titles_field: The column with the titles of documents; they need `role="document"`.
        role: "query" or "document" for the model's prompt of that role; None for the default prompt.
        prompt_name: A prompt by name instead of a role.
        output_field: The column that receives the vectors.
        on_error: What happens to a row without a usable text: "stop" raises, "skip" leaves the row out.
        graph: The hash of the model's graph, where it must be a certain one on every machine.
        num_threads: Threads of this worker.
        options: More options of `Embedder`.

    Raises:
        InputError: If an option cannot be used, or the model is not that of `graph`.
    """

    def __init__(
        self,
        model: Model,
        *,
        field: str = TEXT_FIELD,
        titles_field: str | None = None,
        role: str | None = None,
        prompt_name: str | None = None,
        output_field: str = EMBEDDING_FIELD,
        on_error: str = "stop",
        graph: str | None = None,
        num_threads: int = 1,
        **options: Any,
    ) -> None:
        if on_error not in ON_ERROR:
            raise InputError("on_error cannot be used", got=repr(on_error), expected="'stop' or 'skip'")
        if titles_field is not None and role != "document":
            raise InputError("titles can only be used with documents", fix='add role="document"')
        self.embedder = open_model(model, num_threads=num_threads, **options)
        require_graph(self.embedder.manifest.graph.sha256, graph, str(self.embedder.path))
        self._field, self._titles_field, self._output_field = field, titles_field, output_field
        self._prompting, self._skip = Prompting(role, prompt_name), on_error == "skip"

    def __call__(self, batch: Any) -> Any:
        """Returns the batch with a column of vectors, in the kind in which it came.

        Raises:
            InputError: If a column is missing, or a row has no usable text and `on_error` is "stop".
        """
        texts = _values(batch, self._field)
        titles = None if self._titles_field is None else _values(batch, self._titles_field)
        part, reasons = Part(0, titles=None if titles is None else [], size=len(texts)), []
        for row, text in enumerate(texts):
            try:
                part.texts.append(check_text(text, row))
                part.rows.append(row)
            except InputError as error:
                reasons.append(error)
            else:
                if part.titles is not None and titles is not None:
                    part.titles.append(titles[row] if isinstance(titles[row], str) else None)
        if reasons and not self._skip:
            raise reasons[0]
        vectors = self._prompting.encode(self.embedder, part)
        return _with_column(batch, part.rows, self._output_field, vectors)


def require_graph(found: str, wanted: str | None, path: str) -> None:
    """Refuses a model file that is not the one which was meant.

    Raises:
        InputError: If the hash of its graph is another.
    """
    if wanted is not None and found != wanted:
        raise InputError(
            f"another model lies at {path} on this machine",
            got=f"a graph with hash {found}",
            expected=wanted,
            fix="copy the same file to every machine",
        )


def _values(batch: Any, name: str) -> list[Any]:
    names = list(getattr(batch, "column_names", batch))
    if name not in names:
        raise InputError(f"the batch has no column {name!r}", got=", ".join(map(str, names)))
    column = batch[name]
    values: list[Any] = column.to_pylist() if hasattr(column, "to_pylist") else list(column)
    return values


def _with_column(batch: Any, rows: list[int], name: str, vectors: np.ndarray[Any, Any]) -> Any:
    """Returns the rows of a batch with their vectors."""
    kind = type(batch).__module__.partition(".")[0]
    if kind == "pyarrow":
        import pyarrow

        kept = batch if len(rows) == batch.num_rows else batch.take(pyarrow.array(rows, pyarrow.int64()))
        flat = pyarrow.array(np.ascontiguousarray(vectors).reshape(-1))
        column = pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        if name in kept.column_names:
            kept = kept.drop_columns([name])
        return kept.append_column(name, column)
    if kind == "pandas":
        return batch.iloc[rows].assign(**{name: list(vectors)})
    return {**{key: np.asarray(values)[rows] for key, values in batch.items()}, name: vectors}
