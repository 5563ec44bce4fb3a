"""What sentence-transformers' own files set beside the encoder: length, case, and what changes vectors.

Every entry that sentence-transformers acts on is either followed here or refused: none is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_embed.errors import CheckpointError
from edge_embed.names import SIMILARITIES
from edge_embed_convert.source.files import read_optional

FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""The names under which sentence-transformers looks for a Transformer module's settings, in its order."""

HARMLESS = {
    "model": (
        *("attn_implementation", "dtype", "torch_dtype", "device_map", "low_cpu_mem_usage"),
        *("trust_remote_code", "add_pooling_layer", "use_safetensors"),
    ),
    "tokenizer": ("use_fast", "trust_remote_code", "padding_side", "clean_up_tokenization_spaces"),
    "config": ("trust_remote_code", "use_cache"),
}
"""Arguments for transformers that change no vector of the float32 model, by what they are given to."""

_ARGUMENTS = {
    "model_args": "model",
    "model_kwargs": "model",
    "tokenizer_args": "tokenizer",
    "processor_kwargs": "tokenizer",
    "config_args": "config",
    "config_kwargs": "config",
}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "transformer_task": ("feature-extraction",),
    "module_output_name": ("token_embeddings",),
    "query_length": (),
    "document_length": (),
    "query_expansion": (),
    "tokenizer_name_or_path": (),
}
"""Entries with the values that change nothing; null never does."""

_WITHOUT_EFFECT = frozenset(["unpad_inputs"])
_TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}
_NEUTRAL_PROCESSING: dict[str, tuple[Any, ...]] = {
    "truncation": (True, "longest_first", "only_first"),
    "padding": (True, False, "longest"),
    "add_special_tokens": (True,),
    "return_tensors": ("pt",),
}


@dataclass(frozen=True)
class TransformerSettings:
    """What a Transformer module's settings say.

    Attributes:
        limits: Lengths that a text is cut to, each of which holds.
        lowercase: Whether text is lowercased before it is tokenized.
    """

    limits: tuple[int, ...] = ()
    lowercase: bool = False


def read_settings(directory: Path) -> TransformerSettings:
    """Reads the settings of a Transformer module.

    Args:
        directory: Its directory.

    Raises:
        CheckpointError: If an entry changes ids or vectors in a way that a model file cannot express.
    """
    for name in FILES:
        settings = read_optional(directory / name)
        if settings:
            return _Reader(directory / name).read(settings)
    return TransformerSettings()


class _Reader:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._limits: list[int] = []

    def read(self, settings: Mapping[str, Any]) -> TransformerSettings:
        for key, value in settings.items():
            if key == "max_seq_length":
                self._limit(key, value)
            elif key == "do_lower_case":
                self._require(isinstance(value, bool | None), key, value, "true or false")
            elif key in _ARGUMENTS:
                self._arguments(key, self._mapping(key, value))
            elif key in _NEUTRAL:
                self._neutral(key, value, _NEUTRAL[key])
            elif key == "modality_config":
                text = self._mapping(key, value).get("text")
                self._require(text == _TEXT, f"{key}: text", text, str(_TEXT))
            elif key == "processing_kwargs":
                self._processing(key, self._mapping(key, value))
            else:
                known = "a setting of sentence-transformers' Transformer module"
                self._require(key in _WITHOUT_EFFECT, key, value, known)
        return TransformerSettings(tuple(self._limits), bool(settings.get("do_lower_case", False)))

    def _arguments(self, where: str, arguments: Mapping[str, Any]) -> None:
        for key, value in arguments.items():
            if _ARGUMENTS[where] == "tokenizer" and key == "model_max_length":
                self._limit(f"{where}: {key}", value)
                continue
            harmless = HARMLESS[_ARGUMENTS[where]]
            self._require(key in harmless, f"{where}: {key}", value, f"one of {', '.join(sorted(harmless))}")

    def _processing(self, where: str, parts: Mapping[str, Any]) -> None:
        for part in ("common", "text"):
            for key, value in self._mapping(f"{where}: {part}", parts.get(part)).items():
                if key == "max_length":
                    self._limit(f"{where}: {part}: {key}", value)
                else:
                    self._neutral(f"{where}: {part}: {key}", value, _NEUTRAL_PROCESSING.get(key, ()))

    def _limit(self, where: str, value: Any) -> None:
        if value is None:
            return
        whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
        self._require(whole and value >= 1, where, value, "a whole number of tokens, 1 or more")
        self._limits.append(int(min(value, 10**9)))

    def _mapping(self, where: str, value: Any) -> Mapping[str, Any]:
        self._require(value is None or isinstance(value, Mapping), where, value, "an object")
        return value or {}

    def _neutral(self, where: str, value: Any, neutral: tuple[Any, ...]) -> None:
        allowed = " or ".join(map(repr, neutral)) or "null"
        self._require(value is None or value in neutral, where, value, allowed)

    def _require(self, condition: bool, where: str, value: Any, expected: str) -> None:
        if not condition:
            raise CheckpointError(
                f"{self._file.name} sets something that a model file cannot express",
                got=f"{where} = {value!r}"[:200],
                expected=expected,
                fix="remove the entry, if the model was not trained with it",
            )


def similarity_of(settings: Mapping[str, Any]) -> str:
    """Returns the similarity function that config_sentence_transformers.json names.

    Raises:
        CheckpointError: If it is unknown.
    """
    name = settings.get("similarity_fn_name")
    if name is None:
        return "cosine"
    if not isinstance(name, str) or name not in SIMILARITIES:
        raise CheckpointError(
            "unknown similarity_fn_name in config_sentence_transformers.json",
            got=repr(name),
            expected=", ".join(SIMILARITIES),
        )
    return name


def check_kind(settings: Mapping[str, Any]) -> None:
    """Refuses a checkpoint that config_sentence_transformers.json calls another kind of model.

    Raises:
        CheckpointError: If it is one: sentence-transformers then makes a sentence encoder of it by itself.
    """
    kind = settings.get("model_type")
    if kind not in (None, "SentenceTransformer"):
        raise CheckpointError(
            "the checkpoint is not a sentence encoder",
            got=f"model_type = {kind!r} in config_sentence_transformers.json",
            expected="'SentenceTransformer'",
        )


def cut_dimension(settings: Mapping[str, Any], dimension: int) -> int | None:
    """Returns to how many numbers the checkpoint cuts its vectors, None if it does not.

    Raises:
        CheckpointError: If `truncate_dim` of config_sentence_transformers.json is no usable length.
    """
    value = settings.get("truncate_dim")
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(
            "truncate_dim in config_sentence_transformers.json is no length of a vector",
            got=repr(value),
            expected=f"1 to {dimension}",
        )
    return value if value < dimension else None
