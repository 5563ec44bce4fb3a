"""The module list of a sentence-transformers directory: what follows the encoder, and in which order.

Only modules are read that can be exported exactly. What a module is set to do otherwise (another input than
the sentence embedding, a prompt left out of the pooling, code of the checkpoint's own) is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_embed.errors import CheckpointError
from edge_embed_convert.source.files import read_json, read_object, read_optional
from edge_embed_convert.source.static import is_model2vec

POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""The modes of sentence-transformers, in the order in which it concatenates those of old configurations."""

LEGACY_POOLING_KEYS = {
    "cls_token": "cls",
    "max_tokens": "max",
    "mean_tokens": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean_tokens": "weightedmean",
    "lasttoken": "lasttoken",
}
"""How configurations before sentence-transformers 5.4 spell the modes, after `pooling_mode_`."""

ACTIVATIONS = {
    "GELU": "gelu",
    "Identity": "identity",
    "ReLU": "relu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
}
"""Activations of a Dense module by the name of their class in `torch.nn`."""

LAYER_NORM_EPS = 1e-5
"""The epsilon of sentence-transformers' LayerNorm module, which takes PyTorch's default."""

_TANH = "torch.nn.modules.activation.Tanh"
_EMBEDDING = "sentence_embedding"
_LETTERS = {
    "Transformer": "T",
    "StaticEmbedding": "S",
    "Pooling": "P",
    "Dense": "D",
    "LayerNorm": "L",
    "Dropout": "O",
    "Normalize": "N",
}


@dataclass(frozen=True)
class Dense:
    """A Dense module.

    Attributes:
        path: Its directory.
        in_features: Length of the vector that it reads.
        out_features: Length of the vector that it gives.
        bias: Whether it has a bias.
        activation: One of the values of `ACTIVATIONS`.
        residual: Whether its input is added to its output, through a projection where the lengths differ.
    """

    path: Path
    in_features: int
    out_features: int
    bias: bool
    activation: str
    residual: bool = False

    @property
    def projects_residual(self) -> bool:
        """Whether the residual input goes through its own projection before it is added."""
        return self.residual and self.in_features != self.out_features


@dataclass(frozen=True)
class LayerNorm:
    """A LayerNorm module: its directory, and the length of the vector."""

    path: Path
    dimension: int


@dataclass(frozen=True)
class Normalize:
    """A module that divides the vector by its L2 norm."""


@dataclass(frozen=True)
class Cut:
    """The first numbers of the vector, as `truncate_dim` asks for them; no module of its own."""

    dimension: int


HeadModule = Dense | LayerNorm | Normalize | Cut
"""What can follow the pooling and changes the vector."""


@dataclass(frozen=True)
class Modules:
    """What a checkpoint does with a text.

    Attributes:
        transformer: Directory of the encoder's own config.json and weights, or of a static model's.
        pooling: Pooling modes, in the order in which their vectors are concatenated.
        head: What follows the pooling, in order; a Dropout module does nothing and is left out.
        embedding_dimension: Length of the token vectors as the Pooling module states it, if it does.
        static: Whether it is a static model.
    """

    transformer: Path
    pooling: tuple[str, ...]
    head: tuple[HeadModule, ...]
    embedding_dimension: int | None
    static: bool = False


def read_modules(path: Path, pooling: str | None) -> Modules:
    """Reads `modules.json` and the configuration of each module.

    Args:
        path: A sentence-transformers directory, or a transformers directory.
        pooling: The pooling of a transformers directory, which does not name one.

    Raises:
        CheckpointError: If the list is malformed or holds a module that cannot be exported.
    """
    if not (path / "modules.json").is_file():
        return _plain(path, pooling)
    if pooling is not None:
        raise CheckpointError(
            "modules.json already names the pooling", got=f"--pooling {pooling}", fix="leave --pooling out"
        )
    entries = _entries(path)
    static = entries[0][0] == "StaticEmbedding"
    modes: tuple[str, ...] = ("mean",) if static else ()
    dimension = None
    head: list[HeadModule] = []
    for kind, relative in entries:
        directory = path / relative
        if kind == "Pooling":
            config = read_object(directory / "config.json", "the Pooling module")
            modes, dimension = _pooling_modes(config), _embedding_dimension(config)
        elif kind == "Dense":
            head.append(_dense(directory))
        elif kind == "LayerNorm":
            config = read_object(directory / "config.json", "a LayerNorm module")
            head.append(LayerNorm(directory, _size(directory, config, "dimension")))
        elif kind == "Normalize":
            _check_input(directory, read_optional(directory / "config.json"))
            head.append(Normalize())
    return Modules(path / entries[0][1], modes, tuple(head), dimension, static)


def check_widths(modules: Modules, hidden_size: int) -> int:
    """Checks that each module takes what the one ahead of it gives.

    Args:
        modules: The module list.
        hidden_size: Length of the encoder's token vectors.

    Returns:
        The length of the embedding.

    Raises:
        CheckpointError: If one does not.
    """
    if modules.embedding_dimension not in (None, hidden_size):
        raise CheckpointError(
            "the Pooling module does not fit the encoder",
            got=f"embedding_dimension = {modules.embedding_dimension}",
            expected=f"{hidden_size}, the length of the encoder's token vectors in config.json",
            fix="check that config.json and the Pooling module belong to one checkpoint",
        )
    width = hidden_size * len(modules.pooling)
    for module in modules.head:
        if not isinstance(module, Dense | LayerNorm):
            continue
        key = "in_features" if isinstance(module, Dense) else "dimension"
        given = getattr(module, key)
        if given != width:
            raise CheckpointError(
                f"{module.path.name} does not fit the module before it",
                got=f"{key} = {given}",
                expected=str(width),
                fix="check that modules.json lists every module",
            )
        width = module.out_features if isinstance(module, Dense) else width
    return width


def _plain(path: Path, pooling: str | None) -> Modules:
    """Returns the modules of a directory without a list of them.

    That is a transformers directory, with the pooling that the user names and Normalize, or model2vec's.
    """
    if not (path / "config.json").is_file():
        raise CheckpointError(
            f"{path} is not a checkpoint",
            got="neither modules.json nor config.json",
            expected="a sentence-transformers or transformers directory",
        )
    config = read_object(path / "config.json", "the configuration")
    if is_model2vec(config):
        if pooling is not None:
            raise CheckpointError(
                "a static model has a fixed pooling",
                got=f"--pooling {pooling}",
                fix="leave --pooling out",
            )
        head: tuple[HeadModule, ...] = (Normalize(),) if config.get("normalize") else ()
        return Modules(path, ("mean",), head, None, static=True)
    if pooling is None:
        raise CheckpointError(
            f"{path} is a plain transformers checkpoint and does not state its pooling",
            expected=f"one of {', '.join(POOLING_MODES)}",
            fix="pass --pooling; the model card says which (most use mean, BGE and GTE-large use cls)",
        )
    if pooling not in POOLING_MODES:
        raise CheckpointError("unknown pooling", got=repr(pooling), expected=", ".join(POOLING_MODES))
    return Modules(path, (pooling,), (Normalize(),), None)


def _entries(path: Path) -> list[tuple[str, str]]:
    """Returns (kind, relative path) of every module, the encoder first."""
    index = path / "modules.json"
    entries = read_json(index)
    try:
        # In the order of the list, as sentence-transformers runs them: it does not read their `idx`.
        modules = [(str(entry["type"]), os.path.normpath(entry["path"] or ".")) for entry in entries]
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{index} is malformed", got=repr(error)) from error
    foreign = [kind for kind, _ in modules if not kind.startswith("sentence_transformers.")]
    if foreign:
        raise CheckpointError(
            "modules.json needs code that is not part of sentence-transformers, which edge_embed never runs",
            got=", ".join(foreign),
            expected="only modules of sentence-transformers",
            fix="use a checkpoint that needs no trust_remote_code",
        )
    kinds = [(kind.rsplit(".", 1)[-1], relative) for kind, relative in modules]
    listed = {relative.split("/", 1)[0] for _, relative in kinds}
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
    if not re.fullmatch("(TP|S)[DLON]*", "".join(_LETTERS.get(kind, "?") for kind, _ in kinds)):
        raise CheckpointError(
            "the modules of this checkpoint cannot be exported",
            got=" → ".join(kind for kind, _ in kinds),
            expected="Transformer → Pooling, or StaticEmbedding, → any of Dense, LayerNorm, Dropout and "
            "Normalize",
        )
    return kinds


def _pooling_modes(config: Mapping[str, Any]) -> tuple[str, ...]:
    if config.get("include_prompt") is False:
        raise CheckpointError(
            "the checkpoint does not pool the tokens of the prompt, which a file of one input cannot express",
            got="include_prompt = false",
            expected="true",
        )
    named = config.get("pooling_mode")
    if named is None:
        keys = LEGACY_POOLING_KEYS.items()
        named = [mode for key, mode in keys if config.get(f"pooling_mode_{key}")] or ["mean"]
    modes = [named] if isinstance(named, str) else named
    if not isinstance(modes, list) or not modes or not all(mode in POOLING_MODES for mode in modes):
        raise CheckpointError(
            "unknown pooling in the Pooling module", got=repr(named), expected=", ".join(POOLING_MODES)
        )
    return tuple(modes)


def _embedding_dimension(config: Mapping[str, Any]) -> int | None:
    value = config.get("embedding_dimension", config.get("word_embedding_dimension"))
    return value if isinstance(value, int) else None


def _dense(path: Path) -> Dense:
    config = read_object(path / "config.json", "a Dense module")
    _check_input(path, config)
    full = str(config.get("activation_function", _TANH))
    name = full.rsplit(".", 1)[-1]
    if name not in ACTIVATIONS or not full.startswith("torch.nn."):
        raise CheckpointError(
            f"unsupported activation in {path.name}",
            got=full,
            expected=" or ".join(f"torch.nn.{known}" for known in ACTIVATIONS),
        )
    return Dense(
        path,
        in_features=_size(path, config, "in_features"),
        out_features=_size(path, config, "out_features"),
        bias=bool(config.get("bias", True)),
        activation=ACTIVATIONS[name],
        residual=bool(config.get("use_residual", False)),
    )


def _size(path: Path, config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(
            f"{path / 'config.json'} is incomplete", got=f"{key} = {value!r}", expected="a positive number"
        )
    return value


def _check_input(path: Path, config: Mapping[str, Any]) -> None:
    """Checks that a module reads and writes the sentence embedding, as all modules do by default."""
    names: Sequence[str] = ("module_input_name", "module_output_name")
    for name in names:
        if config.get(name) not in (None, _EMBEDDING):
            raise CheckpointError(
                f"{path.name} does not read the sentence embedding",
                got=f"{name} = {config[name]!r}",
                expected=_EMBEDDING,
            )
