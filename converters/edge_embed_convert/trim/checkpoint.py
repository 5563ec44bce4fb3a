"""The files of a trimmed checkpoint: the table, the tokenizer, and every id in a configuration."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from edge_embed.errors import CheckpointError, ConversionError
from edge_embed_convert.source.checkpoint import Checkpoint
from edge_embed_convert.source.files import read_object, read_optional, weight_files
from edge_embed_convert.source.static import MAPPING, ROWS, TABLE, WEIGHTS

RECORD = "trim.json"
"""The file that says which rows of the source stay."""

_TABLE = re.compile(r"(.*\.)?(embed_tokens|word_embeddings|tok_embeddings)\.weight")
_OUTPUT = re.compile(r"(.*\.)?(lm_head|cls\.predictions(\.decoder)?|decoder)\.(weight|bias)")
"""Weights of an output layer have a row for each token as well; an encoder does not use them."""

_STALE = (
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "merges.txt",
    "vocab.json",
    "added_tokens.json",
    "onnx",
    "openvino",
    "*.onnx",
    "*.ot",
    "*.h5",
    "*.msgpack",
    "*.gguf",
    ".git*",
    ".cache",
)
"""Files that hold the whole vocabulary or other forms of the weights, and would contradict the new ones."""

_ID = re.compile(r"(.+_)?token_(id|index|ids)")
"""Entries of a configuration that hold ids."""


def named_ids(checkpoint: Checkpoint) -> set[int]:
    """Returns the token ids that the checkpoint's config.json contains, such as `pad_token_id`."""
    found: set[int] = set()

    def collect(value: Any) -> Any:
        found.update(value if isinstance(value, list) else [value])
        return value

    _map_ids(checkpoint.config, collect)
    return {index for index in found if isinstance(index, int) and index >= 0}


def table_rows(checkpoint: Checkpoint) -> int:
    """Returns how many tokens the table has; converting a static model adds a row that pads."""
    return checkpoint.encoder.vocab_size - int(checkpoint.family.without_transformers)


def write(checkpoint: Checkpoint, spec: Mapping[str, Any], kept: Sequence[int], target: Path) -> None:
    """Writes the directory.

    Args:
        checkpoint: The source.
        spec: The new content of tokenizer.json.
        kept: The old ids that stay, ascending; the place of each is its new id.
        target: A directory that does not exist.

    Raises:
        CheckpointError: If the table of the source is not found.
    """
    moved = {old: new for new, old in enumerate(kept)}
    shutil.copytree(checkpoint.path, target, ignore=shutil.ignore_patterns(*_STALE))
    inner = target / checkpoint.transformer_path.relative_to(checkpoint.path)
    (inner / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=True), encoding="utf-8")
    _write_vocabulary(inner, spec)
    _write_settings(checkpoint, inner, moved, len(kept))
    if checkpoint.family.without_transformers:
        _write_static_weights(checkpoint, inner, kept)
    else:
        _write_weights(checkpoint, inner, kept)
    _drop_other_weights(checkpoint, inner)
    rows = table_rows(checkpoint)
    _write_json(target / RECORD, {"source": checkpoint.id, "rows": rows, "kept": list(kept)})
    card = target / "README.md"
    said = card.read_text("utf-8") if card.is_file() else ""
    note = f"The vocabulary was trimmed from {rows:,} to {len(kept):,} tokens."
    card.write_text(f"{said}\n{note}\n", "utf-8")


def _write_vocabulary(directory: Path, spec: Mapping[str, Any]) -> None:
    if not (directory / "vocab.txt").is_file():
        return
    if spec["model"]["type"] != "WordPiece":  # left from another tokenizer; nothing reads it
        (directory / "vocab.txt").unlink()
    else:
        by_id = sorted(spec["model"]["vocab"], key=spec["model"]["vocab"].__getitem__)
        (directory / "vocab.txt").write_text("\n".join(by_id) + "\n", encoding="utf-8")


def _write_settings(checkpoint: Checkpoint, directory: Path, moved: Mapping[int, int], rows: int) -> None:
    def new(value: Any) -> Any:
        if isinstance(value, list):
            return [moved.get(i, i) for i in value]
        return moved.get(value, value) if isinstance(value, int) and not isinstance(value, bool) else value

    for name in ("config.json", "generation_config.json"):
        settings = read_optional(directory / name)
        if settings:
            _write_json(directory / name, _with_rows(_map_ids(settings, new), table_rows(checkpoint), rows))
    settings = read_optional(directory / "tokenizer_config.json")
    if isinstance(added := settings.get("added_tokens_decoder"), dict):
        settings["added_tokens_decoder"] = {
            str(moved[int(index)]): entry for index, entry in added.items() if int(index) in moved
        }
        _write_json(directory / "tokenizer_config.json", settings)


def _map_ids(settings: Any, change: Any) -> Any:
    """Returns settings with every id changed, also in parts of them."""
    if not isinstance(settings, dict):
        return settings
    return {
        key: change(value) if _ID.fullmatch(key) and value is not None else _map_ids(value, change)
        for key, value in settings.items()
    }


def _with_rows(settings: dict[str, Any], before: int, rows: int) -> dict[str, Any]:
    found = {
        key: _with_rows(value, before, rows) if isinstance(value, dict) else value
        for key, value in settings.items()
    }
    return found | {"vocab_size": rows} if found.get("vocab_size") == before else found


def _write_weights(checkpoint: Checkpoint, directory: Path, kept: Sequence[int]) -> None:
    rows, places = table_rows(checkpoint), torch.tensor(kept)
    tables = 0
    for source in weight_files(checkpoint.transformer_path):
        tensors = _load(source)
        changed = False
        for name, tensor in tensors.items():
            table = _TABLE.fullmatch(name)
            if (table or _OUTPUT.fullmatch(name)) and tensor.shape[:1] == (rows,):
                tensors[name] = tensor[places].contiguous()
                tables += bool(table)
                changed = True
        if source.suffix != ".safetensors":
            (directory / source.name).unlink()
            _save({name: t.clone() for name, t in tensors.items()}, directory / "model.safetensors")
        elif changed:
            _save(tensors, directory / source.name)
    if tables != 1:
        raise CheckpointError(
            "the token table of the checkpoint was not found",
            got=f"{tables} weights named as a table with {rows} rows",
            expected="exactly one, such as embed_tokens.weight or embeddings.word_embeddings.weight",
        )


def _drop_other_weights(checkpoint: Checkpoint, directory: Path) -> None:
    """Removes copies of the weights that were not read, which still have every row."""
    read = {file.name for file in weight_files(checkpoint.transformer_path)}
    written = {name for name in read if name.endswith(".safetensors")} or {"model.safetensors"}
    for pattern in ("pytorch_model*.bin", "pytorch_model.bin.index.json", "model*.safetensors"):
        for file in directory.glob(pattern):
            if file.name not in written:
                file.unlink()
    if "model.safetensors" in written:
        (directory / "model.safetensors.index.json").unlink(missing_ok=True)


def _write_static_weights(checkpoint: Checkpoint, directory: Path, kept: Sequence[int]) -> None:
    """Writes a static model's table; tokens that shared a row of it share one still."""
    (source,) = weight_files(checkpoint.transformer_path)
    tensors, places = _load(source), torch.tensor(kept)
    table = TABLE if TABLE in tensors else ROWS
    if table == ROWS and WEIGHTS in tensors:
        tensors[WEIGHTS] = tensors[WEIGHTS][places]
    if table == ROWS and MAPPING in tensors:
        mapping = tensors[MAPPING]
        places, moved = torch.unique(mapping[places].long(), return_inverse=True)
        tensors[MAPPING] = moved.to(mapping.dtype)
    tensors[table] = tensors[table][places]
    _save(tensors, directory / source.name)


def _load(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        tensors = torch.load(file, map_location="cpu", weights_only=True)
        return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, AttributeError, EOFError) as error:
        raise CheckpointError(
            f"the weight file {file} cannot be read",
            got=str(error)[:200],
            fix="download or save it again; a Git LFS pointer is not the file itself",
        ) from error


def _save(tensors: Mapping[str, Tensor], file: Path) -> None:
    try:
        save_file({name: t.contiguous() for name, t in tensors.items()}, file, {"format": "pt"})
    except SafetensorError as error:  # what the system says of a full disk is among its words
        raise ConversionError(
            "cannot write the weights; nothing was written",
            got=str(error)[:200],
            expected="a writable directory with room for the checkpoint",
            fix="free some space, or choose another path",
        ) from error


def read_spec(directory: Path, backend: Any) -> dict[str, Any]:
    """Returns the content of a tokenizer.json, or what transformers made of other files.

    Args:
        directory: The directory of the tokenizer's files.
        backend: The tokenizer as transformers loads it.
    """
    file = directory / "tokenizer.json"
    return read_object(file, "tokenizer.json") if file.is_file() else json.loads(backend.to_str())


def _write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
