"""Export: a model file as a container, read back through Google's wheel before it takes its place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edge_embed import Embedder
from edge_embed.errors import ConversionError
from edge_embed.model_file.file import ModelFile
from edge_embed.progress import Step, Ticker
from edge_embed_convert.containers import litertlm, pair, task
from edge_embed_convert.containers.contents import choose_bucket
from edge_embed_convert.containers.names import CONTAINERS, LITERTLM, PAIR, TASK
from edge_embed_convert.containers.readback import Reading, read_back
from edge_embed_convert.drafts import check_parent, draft_of

_WRITERS = {PAIR: pair, TASK: task, LITERTLM: litertlm}


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        path: The container: a file, or the directory of a pair.
        bytes: Its size.
        buckets: The lengths that its reader runs.
        reading: What its reader answered.
    """

    path: Path
    bytes: int
    buckets: list[int]
    reading: Reading


def export(
    file: str | Path,
    to: str,
    output: str | Path,
    *,
    bucket: int | None = None,
    progress: Step = lambda step, done, total: None,
) -> Exported:
    """Writes a container and reads it back.

    Args:
        file: A model file.
        to: One of `names.CONTAINERS`.
        output: The file to write, or for a pair the directory, which must not exist.
        bucket: The length that a reader of one length runs, by default the longest; in a `.litertlm` the only
            one, by default all.
        progress: Called as each step begins.

    Raises:
        MissingExtraError: If Google's wheel is not installed.
        ConversionError: If the container cannot hold the model, its reader cannot run it, or it cannot be
            written. Nothing is written then.
        ParityError: If the reader's vectors are not the file's. Nothing is written then.
    """
    if to not in CONTAINERS:
        raise ConversionError("unknown container", got=repr(to), expected=", ".join(CONTAINERS))
    ticker = Ticker(progress, 3)
    ticker("reading the model file")
    model = ModelFile.open(file)
    target = Path(os.path.abspath(Path(output).expanduser()))
    _check_target(target, to)
    length = choose_bucket(model, bucket)
    writer = _WRITERS[to]
    writer.READER.require(f"reading back a {to}")
    writer.check(model)
    buckets = model.manifest.buckets if to == LITERTLM and bucket is None else [length]
    with draft_of(target, "the container twice") as draft:
        ticker(f"writing the {to}")
        writer.write(model, buckets, draft)
        ticker(f"reading it back through {writer.READER.label}")
        with Embedder(model.path) as embedder:
            longest = min(buckets[-1], model.manifest.max_tokens)
            reading = read_back(writer.READER, draft, embedder, model.probes(), longest)
        size = _size(draft)
        os.replace(draft, target)
    return Exported(target, size, buckets, reading)


def _check_target(target: Path, to: str) -> None:
    if to == PAIR and target.exists():
        raise ConversionError(
            f"{target} already exists",
            expected="a name for a new directory, since a pair is two files",
            fix="choose another path, or remove it",
        )
    if target.is_dir():
        raise ConversionError(
            f"{target} is a directory",
            expected="a name for a file",
            fix=f"name a file, such as model.{to}",
        )
    check_parent(target)


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
