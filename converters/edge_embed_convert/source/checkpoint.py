"""Load: what a checkpoint directory says about itself, read by its own files and taken at its word.

A sentence-transformers directory is read through `modules.json`; a plain transformers directory works
too once the pooling is named. Weights are not read here.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from typing_extensions import Unpack  # in typing from Python 3.11 on; torch brings it

from edge_embed.errors import CheckpointError
from edge_embed.names import SIMILARITIES
from edge_embed_convert.source.files import read_json, read_object, read_optional, read_text
from edge_embed_convert.source.hub import fetch
from edge_embed_convert.source.weights import weight_files

POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens")
"""The modes that can be exported, in the order sentence-transformers concatenates them."""

"""The similarity functions of sentence-transformers."""

ACTIVATIONS = {"Identity": "identity", "Tanh": "tanh"}


@dataclass(frozen=True)
class Dense:
    """A Dense module: its directory, sizes and activation (`identity` or `tanh`)."""

    path: Path
    in_features: int
    out_features: int
    bias: bool
    activation: str


@dataclass(frozen=True)
class Checkpoint:
    """Everything about a checkpoint but its weights.

    Attributes:
        path: The directory.
        id: Hub id, or the directory's name.
        revision: The hub commit, if it came from there.
        transformer_path: Directory of the encoder's own config.json and weights.
        config: That config.json.
        modular: Whether it came with a modules.json.
        pooling: Pooling modes, in order.
        dense: Dense modules, in order.
        normalize: Whether a Normalize module ends it.
        max_tokens: The longest input, special tokens included.
        prompts: Prompt texts by name.
        default_prompt_name: The prompt used when none is named.
        similarity: The similarity function the checkpoint names.
        lowercase: Whether text is lowercased ahead of the tokenizer.
        licence: The licence's name from the model card, if there is one.
        licence_files: Files of licence terms and notices to hand on.
        sliding_window: The user's override of the window.
        without_dense: The user says that no Dense modules belong to it.
    """

    path: Path
    id: str
    revision: str | None
    transformer_path: Path
    config: dict[str, Any] = field(repr=False)
    modular: bool
    pooling: tuple[str, ...]
    dense: tuple[Dense, ...]
    normalize: bool
    max_tokens: int
    prompts: dict[str, str] = field(repr=False)
    default_prompt_name: str | None
    similarity: str
    lowercase: bool
    licence: str | None
    licence_files: tuple[Path, ...]
    sliding_window: int | None = None
    without_dense: bool = False

    @property
    def dimension(self) -> int:
        """The length of the embedding."""
        if self.dense:
            return self.dense[-1].out_features
        return int(self.config["hidden_size"]) * len(self.pooling)

    def weights_sha256(self) -> str:
        """Returns one hash over every weight file, in module order."""
        digest = hashlib.sha256()
        for directory in (self.transformer_path, *(layer.path for layer in self.dense)):
            for file in weight_files(directory):
                with file.open("rb") as stream:
                    while chunk := stream.read(1 << 20):
                        digest.update(chunk)
        return digest.hexdigest()


class CheckpointOptions(TypedDict, total=False):
    """What a user says of a checkpoint beside its place; `load`, `convert` and `verify_file` take all of it.

    Attributes:
        pooling: The pooling of a plain transformers directory; refused where modules.json names one.
        max_tokens: Lowers the longest input.
        sliding_window: Overrides `sliding_window` of a Gemma checkpoint.
        without_dense: Accepts an EmbeddingGemma checkpoint that has no Dense modules.
        revision: Hub revision: a branch, tag or commit.
    """

    pooling: str | None
    max_tokens: int | None
    sliding_window: int | None
    without_dense: bool
    revision: str | None


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
    modules = _modules(path, pooling)
    transformer = path / modules[0][1]
    config = read_object(transformer / "config.json", "the encoder's configuration")
    bert_config = read_optional(transformer / "sentence_bert_config.json")
    st_config = read_optional(path / "config_sentence_transformers.json")
    modes, dense, normalize = _head(path, modules[1:])
    prompts = _prompts(st_config)
    default_prompt = st_config.get("default_prompt_name")
    if default_prompt is not None and default_prompt not in prompts:
        raise CheckpointError(
            "default_prompt_name names no prompt",
            got=repr(default_prompt),
            expected=", ".join(prompts) or "null",
        )
    result = Checkpoint(
        path=path,
        id=str(source) if commit else Path(os.path.abspath(path)).name,
        revision=commit,
        transformer_path=transformer,
        config=config,
        modular=pooling is None,
        pooling=modes,
        dense=dense,
        normalize=normalize,
        max_tokens=_max_tokens(transformer, config, bert_config, options.get("max_tokens")),
        prompts=prompts,
        default_prompt_name=default_prompt,
        similarity=_similarity(st_config),
        lowercase=bool(bert_config.get("do_lower_case", False)),
        licence=_licence(path),
        licence_files=_licence_files(path),
        sliding_window=options.get("sliding_window"),
        without_dense=options.get("without_dense", False),
    )
    _check_widths(result)
    return result


def _modules(path: Path, pooling: str | None) -> list[tuple[str, str]]:
    """Returns (kind, relative path) of every module, the encoder first."""
    index = path / "modules.json"
    if not index.is_file():
        if not (path / "config.json").is_file():
            raise CheckpointError(
                f"{path} is not a checkpoint",
                got="neither modules.json nor config.json",
                expected="a sentence-transformers or transformers directory",
            )
        if pooling is None:
            raise CheckpointError(
                f"{path} is a plain transformers checkpoint, which does not say how to pool its tokens",
                expected=f"one of {', '.join(POOLING_MODES)}",
                fix="pass --pooling; the model card says which (most use mean, BGE and GTE-large use cls)",
            )
        if pooling not in POOLING_MODES:
            raise CheckpointError("unknown pooling", got=repr(pooling), expected=", ".join(POOLING_MODES))
        return [("Transformer", ""), (f"Pooling:{pooling}", ""), ("Normalize", "")]
    if pooling is not None:
        raise CheckpointError(
            "the pooling is already said by modules.json", got=f"--pooling {pooling}", fix="drop the flag"
        )
    entries = read_json(index)
    try:
        modules = [
            (str(e["type"]).rsplit(".", 1)[-1], str(e["path"]))
            for e in sorted(entries, key=lambda e: e["idx"])
        ]
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{index} is malformed", got=repr(error)) from error
    listed = {relative.split("/", 1)[0] for _, relative in modules}
    stray = sorted(
        p.name for p in path.iterdir() if re.fullmatch(r"\d+_\w+", p.name) and p.name not in listed
    )
    if stray:
        raise CheckpointError(
            "modules.json does not list every module of the checkpoint",
            got=f"directories it leaves out: {', '.join(stray)}",
            expected="an entry for each; without its Dense layers a model returns meaningless vectors",
            fix="restore modules.json from the original, or remove the directories if they do not belong",
        )
    order = "".join(
        {"Transformer": "T", "Pooling": "P", "Dense": "D", "Normalize": "N"}.get(k, "?") for k, _ in modules
    )
    if not re.fullmatch("TPD*N?", order):
        raise CheckpointError(
            "the modules of this checkpoint cannot be exported",
            got=" → ".join(kind for kind, _ in modules),
            expected="Transformer → Pooling → any number of Dense → at most one Normalize",
        )
    return modules


def _head(path: Path, modules: Sequence[tuple[str, str]]) -> tuple[tuple[str, ...], tuple[Dense, ...], bool]:
    modes: tuple[str, ...] = ()
    dense = []
    for kind, relative in modules:
        if kind.startswith("Pooling:"):
            modes = (kind.split(":")[1],)
        elif kind == "Pooling":
            modes = _pooling_modes(read_object(path / relative / "config.json", "the Pooling module"))
        elif kind == "Dense":
            dense.append(_dense(path / relative))
    return modes, tuple(dense), any(kind == "Normalize" for kind, _ in modules)


def _pooling_modes(config: dict[str, Any]) -> tuple[str, ...]:
    if config.get("include_prompt") is False:
        raise CheckpointError(
            "the checkpoint leaves the prompt out of its pooling, which token ids alone cannot express",
            got="include_prompt = false",
            expected="true",
        )
    named = config.get("pooling_mode")
    if named is None:
        legacy = {
            "cls_token": "cls",
            "max_tokens": "max",
            "mean_tokens": "mean",
            "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
            "weightedmean_tokens": "weightedmean",
            "lasttoken": "lasttoken",
        }
        named = [mode for key, mode in legacy.items() if config.get(f"pooling_mode_{key}")] or ["mean"]
    modes = (named,) if isinstance(named, str) else tuple(named)
    if not set(modes) <= set(POOLING_MODES):
        raise CheckpointError(
            "unsupported pooling", got=", ".join(modes), expected=" or ".join(POOLING_MODES)
        )
    return modes


def _dense(path: Path) -> Dense:
    config = read_object(path / "config.json", "a Dense module")
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rsplit(".", 1)[-1]
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"unsupported activation in {path.name}", got=name, expected=" or ".join(ACTIVATIONS)
        )
    try:
        return Dense(
            path,
            int(config["in_features"]),
            int(config["out_features"]),
            bool(config.get("bias", True)),
            ACTIVATIONS[name],
        )
    except KeyError as error:
        raise CheckpointError(f"{path / 'config.json'} is incomplete", got=f"no {error}") from error


def _check_widths(checkpoint: Checkpoint) -> None:
    width = int(checkpoint.config.get("hidden_size", 0)) * len(checkpoint.pooling)
    for layer in checkpoint.dense:
        if layer.in_features != width:
            raise CheckpointError(
                f"{layer.path.name} does not fit to what comes before it",
                got=f"in_features = {layer.in_features}",
                expected=str(width),
                fix="check that no module between is missing from modules.json",
            )
        width = layer.out_features


def _max_tokens(
    transformer: Path, config: dict[str, Any], bert_config: dict[str, Any], asked: int | None
) -> int:
    tokenizer = read_optional(transformer / "tokenizer_config.json")
    limits = [config.get("max_position_embeddings"), bert_config.get("max_seq_length")]
    if bert_config.get("max_seq_length") is None:
        limits.append(tokenizer.get("model_max_length"))
    # A tokenizer without a limit says 1e30.
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < 1e9]
    if not known:
        raise CheckpointError("config.json lacks max_position_embeddings", got="no length limit anywhere")
    if asked is None:
        return min(known)
    if not 0 < asked <= min(known):
        raise CheckpointError("maximum length out of range", got=str(asked), expected=f"1 to {min(known)}")
    return asked


def _prompts(st_config: dict[str, Any]) -> dict[str, str]:
    prompts = st_config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(p, str) for p in prompts.values()):
        raise CheckpointError(
            "prompts in config_sentence_transformers.json are malformed", got=repr(prompts)[:80]
        )
    return dict(prompts)


def _similarity(st_config: dict[str, Any]) -> str:
    name = st_config.get("similarity_fn_name") or "cosine"
    if name not in SIMILARITIES:
        raise CheckpointError(
            "unknown similarity_fn_name in config_sentence_transformers.json",
            got=repr(name),
            expected=", ".join(SIMILARITIES),
        )
    return str(name)


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
