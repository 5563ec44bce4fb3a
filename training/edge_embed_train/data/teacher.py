"""Teacher vectors: computed once, kept on disk in float16, and read from mapped files while training."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge_embed.errors import InputError, TrainingError
from edge_embed_train.data.tables import Table, replace_text, writing

CHUNK = 2048
"""Texts that are embedded and written together."""

SAMPLE = 4096
"""Vectors of a column that principal axes are computed from, about."""

Vectors = npt.NDArray[np.float16]


def teacher_vectors(
    teacher: Any,
    fingerprint: str,
    table: Table,
    directory: Path,
    *,
    prompts: dict[str, str],
    batch_size: int,
    advance: Callable[[int], object],
) -> list[Vectors]:
    """Returns the teacher's vectors of every column of a table, each ``(rows, d)`` and mapped.

    What an earlier run has computed is taken from disk, also where it was stopped in the middle.

    Args:
        teacher: A sentence-transformers model, or a function that loads it when it is needed.
        fingerprint: Names the teacher's weights.
        table: The texts.
        directory: Where vectors are kept.
        prompts: Put before the texts of a column, by its name.
        batch_size: Texts that the teacher embeds together.
        advance: Called with the number of texts just done.

    Raises:
        TrainingError: If the vectors are not finite or cannot be written.
    """
    found = []
    for column in table.columns:
        prompt = prompts.get(column, "")
        # Not `hash`, which differs between processes.
        digest = hashlib.blake2b(prompt.encode(), digest_size=8).hexdigest()
        path = directory / f"{table.fingerprint}-{column}-{fingerprint}-{digest}.npy"
        if not path.is_file():
            texts = [prompt + text for text in table.texts(column)] if prompt else table.texts(column)
            model = teacher() if not hasattr(teacher, "encode") else teacher
            with writing("the teacher's vectors", path):
                directory.mkdir(parents=True, exist_ok=True)
                _compute(model, texts, path, batch_size, advance)
        found.append(np.load(path, mmap_mode="r"))
    return found


def _compute(
    model: Any, texts: Sequence[str], path: Path, batch_size: int, advance: Callable[[int], object]
) -> None:
    scratch, count = path.with_suffix(".part.npy"), path.with_suffix(".done")
    shape = (len(texts), model.get_embedding_dimension())
    done = _done(scratch, count, shape)
    if not done:
        count.unlink(missing_ok=True)  # what it counts is written over
    mode: Any = "r+" if done else "w+"
    stored = np.lib.format.open_memmap(scratch, mode=mode, dtype=np.float16, shape=shape)
    _reserve(scratch)
    for start in range(done, len(texts), CHUNK):
        part = list(texts[start : start + CHUNK])
        vectors = model.encode(
            part, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False, prompt=""
        )
        if not np.isfinite(vectors).all():
            raise TrainingError("the teacher returns vectors that are not finite", got=repr(part[0])[:80])
        stored[start : start + len(part)] = vectors
        stored.flush()
        replace_text(count, str(start + len(part)))
        advance(len(part))
    del stored
    os.replace(scratch, path)
    count.unlink(missing_ok=True)


def _done(scratch: Path, count: Path, shape: tuple[int, int]) -> int:
    """Returns how many texts an earlier run has embedded, 0 where what it left cannot be used."""
    try:
        done = int(count.read_text("utf-8"))
        left = np.load(scratch, mmap_mode="r")
    except (OSError, EOFError, ValueError):  # absent, empty, or cut off
        return 0
    return done if 0 <= done <= shape[0] and left.shape == shape and left.dtype == np.float16 else 0


def _reserve(path: Path) -> None:
    """Takes room on the disk for a whole file.

    The file has holes when it is made. Where a disk has no room for one, writing to the mapped file ends the
    process, and no error can be raised.

    Raises:
        OSError: If there is no room.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # the file system cannot
                raise


def principal_axes(tables: Sequence[Sequence[Vectors]]) -> npt.NDArray[np.float32]:
    """Returns the principal axes of vectors, one a row, those along which they are longest first.

    Cosines are taken from 0, so the vectors are not centred.

    Args:
        tables: Vectors by table and column; a sample of each is read.
    """
    moment = sum(
        np.einsum("nd,ne->de", part, part)
        for columns in tables
        for vectors in columns
        for part in [np.asarray(vectors[:: max(1, len(vectors) // SAMPLE)], np.float64)]
    )
    _, axes = np.linalg.eigh(moment)
    descending = np.ascontiguousarray(axes.T[::-1], np.float32)
    signs = np.sign(descending[np.arange(len(descending)), np.abs(descending).argmax(1)])
    turned: npt.NDArray[np.float32] = descending * signs[:, None]
    return turned


@dataclass
class StoredVectors:
    """The teacher's vectors of several tables, found by row numbers that count through all of them.

    Attributes:
        dimension: Of the vectors.
        axes: What they are turned to, one axis a row; None for their own.
    """

    dimension: int
    axes: npt.NDArray[np.float32] | None = None
    _starts: list[int] = field(default_factory=list)
    _columns: list[list[Vectors]] = field(default_factory=list)
    _negatives: list[npt.NDArray[np.int64] | None] = field(default_factory=list)

    def add(
        self, first_row: int, columns: Sequence[Vectors], negatives: npt.NDArray[np.int64] | None = None
    ) -> None:
        """Adds a table.

        Args:
            first_row: The number of its first row; ascending from call to call.
            columns: Vectors by column.
            negatives: Where hard negatives were mined, the row whose positive is each row's negative.
        """
        for vectors in columns:
            if vectors.shape[1] != self.dimension:
                raise InputError(
                    "vectors of a table have another dimension",
                    got=str(vectors.shape[1]),
                    expected=str(self.dimension),
                )
        self._starts.append(first_row)
        self._columns.append(list(columns))
        self._negatives.append(negatives)

    def __call__(self, rows: Tensor, column: int) -> Tensor:
        """Returns the vectors ``(n, d)`` of a column at some rows, all of one table."""
        numbers = rows.cpu().numpy()
        place = int(np.searchsorted(self._starts, int(numbers[0]), side="right")) - 1
        local = numbers - self._starts[place]
        negatives = self._negatives[place]
        if column == 2 and negatives is not None:
            column, local = 1, negatives[local]
        vectors = np.asarray(self._columns[place][column][local], np.float32)
        return torch.from_numpy(vectors if self.axes is None else vectors @ self.axes.T)
