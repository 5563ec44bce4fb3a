"""Merge checkpoints by the plain average of their weights: a model soup (arXiv 2203.05482).

EmbeddingGemma's last step averages checkpoints that were finetuned on different mixtures, unweighted.
Only the weight files are averaged; everything else must be the same in all checkpoints.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from edge_embed.errors import CheckpointError, ConversionError
from edge_embed_convert.drafts import check_new_directory, draft_of, finish
from edge_embed_convert.source.checkpoint import Checkpoint, load
from edge_embed_convert.source.files import read_optional
from edge_embed_convert.source.modules import Dense, HeadModule, LayerNorm
from edge_embed_train.evaluate import read_sets, score
from edge_embed_train.quiet import quiet

IGNORED = ("transformers_version", "torch_dtype", "dtype", "_name_or_path", "architectures")
"""Entries of config.json that say how a checkpoint was saved, not what it computes."""

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Merged:
    """What a merge made.

    Attributes:
        path: The new checkpoint.
        parents: The checkpoints that were averaged.
        scores: For each parent by its path, and for the new checkpoint, the score on every set.
    """

    path: Path
    parents: tuple[Path, ...]
    scores: dict[str, dict[str, float]] = field(default_factory=dict)


def merge(
    parents: Sequence[str | Path], output: str | Path, *, dev: Sequence[str | Path] = (), batch_size: int = 64
) -> Merged:
    """Averages checkpoints and writes the result as a new one.

    Args:
        parents: Two or more sentence-transformers directories of one architecture.
        output: The directory to write; it must not exist or be empty.
        dev: Development sets on which every parent and the result are scored.
        batch_size: Texts that are embedded together for the scores.

    Raises:
        CheckpointError: If the parents do not fit each other.
        ConversionError: If the directory cannot be written.
        InputError: If a development set cannot be read.
    """
    sets = read_sets(dev)
    places = [Path(parent).expanduser() for parent in parents]
    if len(places) < 2 or len({place.resolve() for place in places}) < len(places):
        raise CheckpointError(
            "there are not enough checkpoints to merge",
            got=", ".join(map(str, places)) or "none",
            expected="two or more different directories",
        )
    checkpoints = [load(place) for place in places]
    for checkpoint in checkpoints[1:]:
        _check_match(checkpoints[0], checkpoint)
    target = Path(output).expanduser()
    check_new_directory(target)
    inside = [place for place in places if target.resolve().is_relative_to(place.resolve())]
    if inside:
        raise ConversionError(
            "the output lies in a checkpoint that is merged",
            got=str(target),
            expected=f"a directory outside of {inside[0]}",
        )
    with draft_of(target, "the checkpoint") as draft:
        _write(checkpoints, draft)
        finish(draft, target)
    scores = {str(place): _scores(place, sets, batch_size) for place in (*places, target)} if sets else {}
    return Merged(target, tuple(places), scores)


def _scores(place: Path, sets: Sequence[Any], batch_size: int) -> dict[str, float]:
    from sentence_transformers import SentenceTransformer

    with quiet():
        model = SentenceTransformer(str(place))
    return score(model, sets, batch_size=batch_size)


def _check_match(first: Checkpoint, other: Checkpoint) -> None:
    """Checks that two checkpoints differ in nothing but the values of their weights.

    Raises:
        CheckpointError: If they do, with the first difference.
    """
    pair = f"{first.path} and {other.path}"

    def refuse(what: str, ours: object, theirs: object) -> None:
        raise CheckpointError(
            f"{pair} have different {what}",
            got=f"{ours} and {theirs}",
            expected="checkpoints that were trained from the same one",
        )

    configs = [{k: v for k, v in c.config.items() if k not in IGNORED} for c in (first, other)]
    if configs[0] != configs[1]:
        keys = [k for k in {**configs[0], **configs[1]} if configs[0].get(k) != configs[1].get(k)]
        shown = ["; ".join(f"{k} = {c.get(k)!r}" for k in keys[:3]) for c in configs]
        refuse("configurations", *shown)
    heads = [(c.pooling, list(map(_described, c.head))) for c in (first, other)]
    if heads[0] != heads[1]:
        refuse("modules after the encoder", *heads)
    for what, ours, theirs in (
        ("prompts", first.prompts, other.prompts),
        ("default prompts", first.default_prompt_name, other.default_prompt_name),
        ("longest inputs", first.max_tokens, other.max_tokens),
        ("settings of lower case", first.lowercase, other.lowercase),
        ("similarity functions", first.similarity, other.similarity),
    ):
        if ours != theirs:
            refuse(what, repr(ours), repr(theirs))
    settings = [_special_tokens(checkpoint) for checkpoint in (first, other)]
    if settings[0] != settings[1]:
        refuse("special tokens", *settings)
    tokenizers = [_tokenizer(c) for c in (first, other)]
    if tokenizers[0] != tokenizers[1]:
        refuse("tokenizers", *(f"{len(t)} files or pieces" for t in tokenizers))
    for here, there in zip(_weight_places(first), _weight_places(other), strict=True):
        shapes = [_shapes(place) for place in (here, there)]
        if shapes[0] != shapes[1]:
            names = [n for n in {**shapes[0], **shapes[1]} if shapes[0].get(n) != shapes[1].get(n)]
            refuse("weights", *(f"{names[0]}: {s.get(names[0], 'absent')}" for s in shapes))


def _described(module: HeadModule) -> HeadModule:
    """Returns a module without the place of its checkpoint."""
    return replace(module, path=Path(module.path.name)) if isinstance(module, Dense | LayerNorm) else module


def _tokenizer(checkpoint: Checkpoint) -> dict[str, object]:
    """Returns what decides a text's ids: the content of the tokenizer's files.

    Where texts are cut and how they are padded in tokenizer.json says how the last stage trained, and is left
    out: the model's longest input is compared with its configuration.
    """
    found: dict[str, object] = {}
    for name in ("tokenizer.json", "tokenizer.model", "sentencepiece.bpe.model", "vocab.txt"):
        file = checkpoint.transformer_path / name
        if file.is_file():
            if name.endswith(".json"):
                spec = json.loads(file.read_bytes())
                found[name] = {k: v for k, v in spec.items() if k not in ("truncation", "padding")}
            else:
                found[name] = file.read_bytes()
    return found


def _special_tokens(checkpoint: Checkpoint) -> dict[str, object]:
    """Returns the special tokens that tokenizer_config.json names."""
    settings = read_optional(checkpoint.transformer_path / "tokenizer_config.json")
    return {key: value for key, value in settings.items() if key.endswith("_token")}


def _weight_places(checkpoint: Checkpoint) -> list[Path]:
    head = [module.path for module in checkpoint.head if isinstance(module, Dense | LayerNorm)]
    return [checkpoint.transformer_path, *head]


def _tensors(place: Path) -> dict[str, Tensor]:
    if not (place / WEIGHTS).is_file():
        raise CheckpointError(
            f"{place} has no {WEIGHTS}", fix="save the checkpoint again with save_pretrained, in one file"
        )
    try:
        tensors: dict[str, Tensor] = load_file(place / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{place / WEIGHTS} cannot be read", got=str(error)[:200], fix="copy or save it again"
        ) from error
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise CheckpointError(
            f"{place / WEIGHTS} holds weights that are not numbers",
            got=", ".join(broken[:3]),
            expected="numbers",
        )
    return tensors


def _shapes(place: Path) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in _tensors(place).items()}


def _write(checkpoints: Sequence[Checkpoint], target: Path) -> None:
    first = checkpoints[0]
    shutil.copytree(first.path, target)
    every = [_weight_places(checkpoint) for checkpoint in checkpoints]
    for places in zip(*every, strict=True):
        # One parent after another: only two checkpoints are in memory at a time.
        sums: dict[str, Tensor] = {}
        for place in places:
            for name, tensor in _tensors(place).items():
                sums[name] = sums[name] + tensor.double() if name in sums else tensor.double()
        kinds = {name: tensor.dtype for name, tensor in _tensors(places[0]).items()}
        means = {
            name: (total / len(places)).to(kinds[name] if kinds[name].is_floating_point else torch.float32)
            for name, total in sums.items()
        }
        relative = places[0].relative_to(first.path)
        save_file(means, target / relative / WEIGHTS, metadata={"format": "pt"})
    note = "\n".join(f"- {checkpoint.id}" for checkpoint in checkpoints)
    card = target / "README.md"
    text = card.read_text("utf-8") if card.is_file() else ""
    card.write_text(f"{text}\nThe weights are the plain average of these checkpoints:\n\n{note}\n", "utf-8")
