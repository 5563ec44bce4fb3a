"""What clients send, checked field by field, and what they get back."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_embed.model_file.manifest import Vector
from edge_embed.serve.errors import HttpError, invalid

QUERY, DOCUMENT = "query", "document"
ROLES = {
    "query": QUERY,
    "search_query": QUERY,
    "document": DOCUMENT,
    "passage": DOCUMENT,
    "search_document": DOCUMENT,
}
"""Values of `input_type` that other services use, and the role that each names."""

TOKEN_ARRAYS = (
    "this server takes texts, not token ids: ids of another tokenizer would give a wrong vector without an "
    "error. With langchain's OpenAIEmbeddings pass check_embedding_ctx_length=False; with other clients send "
    "strings"
)

Json = dict[str, Any]


@dataclass(frozen=True)
class EmbeddingRequest:
    """A request for embeddings, whatever its endpoint.

    Attributes:
        texts: The texts.
        single: Whether one text came without a list.
        role: "query", "document", or None for the model's default prompt.
        prompt_name: A prompt by name instead of a role.
        truncate: Whether texts that are too long are cut; otherwise they are refused.
        dimensions: How many numbers a vector keeps; None for all.
        base64: Whether vectors are sent as base64 of little-endian float32.
        normalize: Whether vectors get unit length; None as the model does.
    """

    texts: list[str]
    single: bool
    role: str | None = None
    prompt_name: str | None = None
    truncate: bool = True
    dimensions: int | None = None
    base64: bool = False
    normalize: bool | None = None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_json(body: bytes) -> Json:
    """Returns the object that a request body holds. Python's NaN and Infinity are refused."""
    try:
        value = _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is not valid JSON: {error}", code="invalid_json") from error
    if not isinstance(value, dict):
        raise invalid(f"the body is a JSON {_kind(value)}, not an object", code="invalid_json")
    return value


def parse_openai(body: Json, *, model: str, prompts: Mapping[str, str], max_texts: int) -> EmbeddingRequest:
    """Reads a request to `/v1/embeddings`.

    Args:
        body: The parsed body.
        model: The name of the model that is served.
        prompts: Its prompts.
        max_texts: The most texts allowed.
    """
    role, prompt_name = _model_and_role(body.get("model", model), model, prompts)
    if (kind := body.get("input_type")) is not None:
        if not isinstance(kind, str) or kind not in ROLES:
            raise invalid(f"input_type is {kind!r}; expected one of {', '.join(ROLES)}", "input_type")
        if role not in (None, ROLES[kind]) or prompt_name is not None:
            raise invalid(
                f"input_type {kind!r} contradicts the model name {body.get('model')!r}", "input_type"
            )
        role = ROLES[kind]
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise invalid(f"encoding_format is {encoding!r}; expected 'float' or 'base64'", "encoding_format")
    user = body.get("user")
    if user is not None and not isinstance(user, str):
        raise invalid(f"user is a {_kind(user)}; expected a string", "user")
    texts, single = _texts(body.get("input"), "input", max_texts)
    return EmbeddingRequest(
        texts,
        single,
        role,
        prompt_name,
        truncate=_flag(body, "truncate", True),
        dimensions=_dimensions(body),
        base64=encoding == "base64",
    )


def parse_tei(body: Json, *, prompts: Mapping[str, str], max_texts: int) -> EmbeddingRequest:
    """Reads a request to `/embed`."""
    direction = body.get("truncation_direction", "right")
    if not isinstance(direction, str) or direction.lower() != "right":
        raise invalid(
            f"truncation_direction is {direction!r}; only 'right' is supported", "truncation_direction"
        )
    name = _prompt_name(body, prompts)
    texts, single = _texts(body.get("inputs"), "inputs", max_texts)
    # text-embeddings-inference refuses long texts unless it is asked to cut them, and normalizes by default.
    return EmbeddingRequest(
        texts,
        single,
        prompt_name=name,
        truncate=_flag(body, "truncate", False),
        dimensions=_dimensions(body),
        normalize=_flag(body, "normalize", True),
    )


def parse_similarity(body: Json, *, prompts: Mapping[str, str], max_texts: int) -> EmbeddingRequest:
    """Reads a request to `/similarity`; the first text is the source sentence."""
    inputs = body.get("inputs")
    if not isinstance(inputs, dict):
        raise invalid("inputs must be an object with source_sentence and sentences", "inputs")
    source = inputs.get("source_sentence")
    if not isinstance(source, str):
        raise invalid(f"source_sentence is a {_kind(source)}; expected a string", "inputs.source_sentence")
    sentences, _ = _texts(inputs.get("sentences"), "inputs.sentences", max_texts)
    _check_text(source, "inputs.source_sentence")
    parameters = body.get("parameters")
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, dict):
        raise invalid(f"parameters is a {_kind(parameters)}; expected an object", "parameters")
    name = _prompt_name(parameters, prompts)
    truncate = _flag(parameters, "truncate", False)
    return EmbeddingRequest([source, *sentences], False, prompt_name=name, truncate=truncate)


def parse_tokenize(body: Json, *, max_texts: int) -> tuple[list[str], bool]:
    """Reads a request to `/tokenize`: the texts, and whether special tokens are wanted."""
    texts, _ = _texts(body.get("inputs"), "inputs", max_texts)
    return texts, _flag(body, "add_special_tokens", True)


def openai_answer(
    vectors: Sequence[Vector], model: str, tokens: int, truncated: Sequence[int], *, as_base64: bool
) -> bytes:
    """Returns the body of an answer to `/v1/embeddings`."""
    parts = [
        f'{{"object":"embedding","index":{index},"embedding":{_numbers(vector, as_base64)}}}'
        for index, vector in enumerate(vectors)
    ]
    usage = f'{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}'
    tail = f'"model":{json.dumps(model)},"usage":{usage},"truncated":{json.dumps(list(truncated))}'
    return f'{{"object":"list","data":[{",".join(parts)}],{tail}}}'.encode()


def tei_answer(vectors: Sequence[Vector]) -> bytes:
    """Returns the body of an answer to `/embed`."""
    return f"[{','.join(_numbers(vector, False) for vector in vectors)}]".encode()


def _numbers(vector: Vector, as_base64: bool) -> str:
    if as_base64:
        return f'"{base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()}"'
    # Nine digits carry a float32 exactly.
    return f"[{','.join([f'{value:.9g}' for value in vector.tolist()])}]"


def _model_and_role(name: Any, model: str, prompts: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Returns the role or the prompt name in `NAME:ROLE`."""
    if not isinstance(name, str):
        raise invalid(f"model is a {_kind(name)}; expected a string", "model")
    if name == model:
        return None, None
    base, _, suffix = name.rpartition(":")
    if base == model and suffix in (QUERY, DOCUMENT):
        return suffix, None
    if base == model and suffix in prompts:
        return None, suffix
    known = ", ".join([model, f"{model}:{QUERY}", f"{model}:{DOCUMENT}"])
    raise HttpError(
        404, f"the model {name!r} is not served here; served: {known}", code="model_not_found", param="model"
    )


def _prompt_name(body: Mapping[str, Any], prompts: Mapping[str, str]) -> str | None:
    name = body.get("prompt_name")
    if name is None:
        return None
    if not isinstance(name, str) or name not in prompts:
        known = ", ".join(prompts) or "none, since the model has no prompts"
        raise invalid(f"the model has no prompt named {name!r}; known: {known}", "prompt_name")
    return name


def _texts(value: Any, param: str, max_texts: int) -> tuple[list[str], bool]:
    """Returns the texts of a request, and whether one came without a list."""
    single = isinstance(value, str)
    items = [value] if single else value
    if not isinstance(items, list):
        found = "missing" if value is None else f"a {_kind(value)}"
        raise invalid(f"{param} is {found}; expected a string or a list of strings", param)
    if not items:
        raise invalid(f"{param} is an empty list; expected at least one text", param)
    if len(items) > max_texts:
        raise HttpError(
            413, f"{len(items)} texts in one request; at most {max_texts}", code="too_many_texts", param=param
        )
    first = items[0]
    if _is_number(first) or (isinstance(first, list) and all(map(_is_number, first))):
        raise invalid(TOKEN_ARRAYS, param, code="token_arrays_not_supported")
    for index, item in enumerate(items):
        _check_text(item, param if single else f"{param}[{index}]")
    return items, single


def _check_text(text: Any, param: str) -> None:
    if not isinstance(text, str):
        raise invalid(f"{param} is a {_kind(text)}; expected a string", param)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise invalid(
            f"{param} is not valid Unicode: half of a surrogate pair at character {error.start}", param
        ) from error


def _dimensions(body: Mapping[str, Any]) -> int | None:
    value = body.get("dimensions")
    if value is None:
        return None
    number = whole(value)
    if number is None:
        raise invalid(f"dimensions is a {_kind(value)}; expected a whole number", "dimensions")
    return number


def whole(value: Any) -> int | None:
    """Returns a whole number of JSON as an int, where 2.0 is one too; None if it is anything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _flag(body: Mapping[str, Any], name: str, default: bool) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise invalid(f"{name} is a {_kind(value)}; expected true or false", name)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    """Returns what JSON calls the type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "list" if isinstance(value, list) else "object"
