"""Load: what the files of a checkpoint directory say about the model.

A sentence-transformers directory is read through `modules.json`; a plain transformers directory works
too once the pooling is named. Weights are not read here.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from typing_extensions import Unpack  # in typing from Python 3.11 on; torch brings it

from edge_embed.errors import CheckpointError
from edge_embed_convert.families import EncoderConfig, Family, family_of
from edge_embed_convert.source.files import read_object, read_optional, read_text, weight_files
from edge_embed_convert.source.hub import fetch
from edge_embed_convert.source.modules import (
    Cut,
    Dense,
    HeadModule,
    LayerNorm,
    Normalize,
    check_widths,
    read_modules,
)
from edge_embed_convert.source.prompts import merged_prompts, missing_prompts
from edge_embed_convert.source.settings import (
    TransformerSettings,
    check_kind,
    cut_dimension,
    read_settings,
    similarity_of,
)
from edge_embed_convert.source.static import static_config

TRAINED_RECIPE = "quantization_aware_recipe"
"""The entry of config.json with the recipe that quantization-aware training was for."""

TAKEN_IN = ("nomic_bert",)
"""Model types that transformers computes now itself, whose released checkpoints still name their old code."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything about a checkpoint but its weights.

    Attributes:
        path: The directory.
        id: Hub id, or the directory's name.
        revision: The hub commit, if it came from there.
        transformer_path: Directory of the encoder's own config.json and weights.
        config: That config.json, or what the files of a static model imply.
        family: Its family.
        encoder: That config.json as the family reads it.
        modular: Whether it came with a modules.json.
        pooling: Pooling modes, in order.
        head: The modules that follow the pooling, in order.
        dimension: The length of the embedding.
        max_tokens: The longest input, special tokens included.
        prompts: Prompt texts by name.
        default_prompt_name: The prompt used when none is named.
        similarity: The similarity function the checkpoint names.
        lowercase: Whether text is lowercased before it is tokenized.
        licence: The licence's name from the model card, if there is one.
        licence_files: Files of licence terms and notices, which the model file carries.
        sliding_window: The user's override of the window.
        without_dense: The user says that no Dense modules belong to it.
        notes: What the user should know of it.
    """

    path: Path
    id: str
    revision: str | None
    transformer_path: Path
    config: dict[str, Any] = field(repr=False)
    family: Family = field(repr=False)
    encoder: EncoderConfig = field(repr=False)
    modular: bool
    pooling: tuple[str, ...]
    head: tuple[HeadModule, ...]
    dimension: int
    max_tokens: int
    prompts: dict[str, str] = field(repr=False)
    default_prompt_name: str | None
    similarity: str
    lowercase: bool
    licence: str | None
    licence_files: tuple[Path, ...]
    sliding_window: int | None = None
    without_dense: bool = False
    notes: tuple[str, ...] = ()

    @property
    def dense(self) -> tuple[Dense, ...]:
        """The Dense modules, in order."""
        return tuple(module for module in self.head if isinstance(module, Dense))

    @property
    def normalize(self) -> bool:
        """Whether the embedding has unit length."""
        return bool(self.head) and isinstance(self.head[-1], Normalize)

    @property
    def trained_recipe(self) -> str | None:
        """The recipe of its quantization-aware training, None without one."""
        recipe = self.config.get(TRAINED_RECIPE)
        return None if recipe is None else str(recipe)

    def weights_sha256(self) -> str:
        """Returns one hash over every weight file, in module order."""
        digest = hashlib.sha256()
        modules = [module.path for module in self.head if isinstance(module, Dense | LayerNorm)]
        for directory in (self.transformer_path, *modules):
            for file in weight_files(directory):
                with file.open("rb") as stream:
                    while chunk := stream.read(1 << 20):
                        digest.update(chunk)
        return digest.hexdigest()


class CheckpointOptions(TypedDict, total=False):
    """What a user may say about a checkpoint; `load`, `convert` and `verify_file` take all of it.

    Attributes:
        pooling: The pooling of a plain transformers directory; refused where modules.json names one.
        max_tokens: Lowers the longest input.
        sliding_window: Overrides `sliding_window` of a Gemma checkpoint.
        without_dense: Accepts an EmbeddingGemma checkpoint that has no Dense modules.
        revision: Hub revision: a branch, tag or commit.
        prompts: Prompts by name that the checkpoint does not have.
        default_prompt: The name of the prompt used when none is named, where the checkpoint has no default.
    """

    pooling: str | None
    max_tokens: int | None
    sliding_window: int | None
    without_dense: bool
    revision: str | None
    prompts: Mapping[str, str] | None
    default_prompt: str | None


def load(source: str | Path, **options: Unpack[CheckpointOptions]) -> Checkpoint:
    """Reads a checkpoint's description.

    Args:
        source: A directory, or a hub id such as `google/embeddinggemma-300m`.
        **options: See `CheckpointOptions`.

    Raises:
        CheckpointError: If the directory is absent, incomplete, or holds a module that cannot be exported.
    """
    pooling = options.get("pooling")
    path, commit = fetch(str(source), options.get("revision"))
    modules = read_modules(path, pooling)
    transformer = modules.transformer
    if modules.static:
        config = static_config(transformer)
    else:
        config = read_object(transformer / "config.json", "the encoder's configuration")
        _check_code(config)
        _check_adapters(transformer)
    family = family_of(config)
    encoder = family.parse(config, options.get("sliding_window"))
    # sentence-transformers reads neither these settings nor the tokenizer's for a static model.
    own = TransformerSettings() if modules.static else read_settings(transformer)
    settings = {} if modules.static else read_optional(transformer / "tokenizer_config.json")
    st_config = read_optional(path / "config_sentence_transformers.json", unique=True)
    check_kind(st_config)
    prompts, default_prompt = merged_prompts(
        st_config, options.get("prompts") or {}, options.get("default_prompt")
    )
    name = str(source) if commit else Path(os.path.abspath(path)).name
    note = missing_prompts(path, name, prompts)
    dimension = check_widths(modules, encoder.hidden_size)
    cut = cut_dimension(st_config, dimension)
    checkpoint = Checkpoint(
        path=path,
        id=name,
        revision=commit,
        transformer_path=transformer,
        config=config,
        family=family,
        encoder=encoder,
        modular=pooling is None,
        pooling=modules.pooling,
        head=(*modules.head, *([Cut(cut)] if cut else [])),
        dimension=cut or dimension,
        max_tokens=_max_tokens(
            settings, encoder, own.limits, options.get("max_tokens"), family.default_max_tokens
        ),
        prompts=prompts,
        default_prompt_name=default_prompt,
        similarity=similarity_of(st_config),
        lowercase=own.lowercase,
        licence=_licence(path),
        licence_files=_licence_files(path),
        sliding_window=options.get("sliding_window"),
        without_dense=options.get("without_dense", False),
        notes=(note,) if note else (),
    )
    _check_dense(checkpoint)
    return checkpoint


def _check_code(config: Mapping[str, Any]) -> None:
    """Refuses a checkpoint whose encoder is code of its own; by that name transformers has another."""
    code = config.get("auto_map")
    if code and config.get("model_type") not in TAKEN_IN:
        raise CheckpointError(
            "the checkpoint needs its own Python code, which edge_embed never runs",
            got=f"auto_map {code!r} in config.json"[:200],
            expected="a model that is part of transformers",
            fix="use a checkpoint that needs no trust_remote_code",
        )


def _check_adapters(directory: Path) -> None:
    """Refuses an adapter beside the weights, which sentence-transformers would put on them."""
    if (directory / "adapter_config.json").is_file():
        raise CheckpointError(
            "the checkpoint has an adapter beside its weights",
            got="adapter_config.json",
            expected="one set of weights",
            fix="merge the adapter first (peft: merge_and_unload) and save the model again",
        )


def _check_dense(checkpoint: Checkpoint) -> None:
    """Refuses a checkpoint that lacks the Dense modules which all of its family have."""
    needed = checkpoint.family.needs_dense
    if needed and checkpoint.modular and not checkpoint.dense and not checkpoint.without_dense:
        raise CheckpointError(
            f"the Dense modules of this {checkpoint.family.name} checkpoint are missing",
            got="modules.json lists none",
            expected=f"{' and '.join(needed)} between Pooling and Normalize, as released",
            fix=f"restore {' and '.join(needed)} and their entries in modules.json, "
            "or pass --without-dense if the model was trained without them",
        )


def _max_tokens(
    tokenizer: dict[str, Any],
    encoder: EncoderConfig,
    own: tuple[int, ...],
    asked: int | None,
    default: int | None,
) -> int:
    limits: list[Any] = [encoder.max_positions, *own]
    if not own:
        limits.append(tokenizer.get("model_max_length"))
    # A tokenizer without a limit says 1e30.
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < 1e9]
    if asked is None:
        return min(known if default is None else [*known, default])
    if not 0 < asked <= min(known):
        raise CheckpointError(
            "the maximum length is out of range", got=str(asked), expected=f"1 to {min(known)}"
        )
    return asked


def _licence(path: Path) -> str | None:
    card = path / "README.md"
    if not card.is_file():
        return None
    front = re.match(r"---\n(.*?)\n---", read_text(card), re.DOTALL)
    found = re.search(r"^license:\s*['\"]?([\w.\-]+)", front.group(1), re.MULTILINE) if front else None
    return found.group(1) if found else None


def _licence_files(path: Path) -> tuple[Path, ...]:
    names = re.compile(r"(licen[cs]e|notice|terms|gemma_?terms).*", re.IGNORECASE)
    return tuple(sorted(p for p in path.iterdir() if p.is_file() and names.fullmatch(p.name)))
