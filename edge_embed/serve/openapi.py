"""The OpenAPI document that the server serves about itself."""

from __future__ import annotations

from typing import Any

from edge_embed import __version__
from edge_embed.model_file.manifest import Manifest
from edge_embed.names import SEARCH_MODES
from edge_embed.serve.requests import ROLES
from edge_embed.serve.search import LONGEST_QUERY, MOST_HITS

Json = dict[str, Any]

_TEXTS: Json = {
    "oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
}
_VECTOR: Json = {"type": "array", "items": {"type": "number"}}
_SCALARS: list[Json] = [
    {"type": ["string", "boolean"]},
    {"type": "number", "minimum": -(2**63), "maximum": 2**63 - 1},
]
_WHERE: Json = {
    "type": ["object", "null"],
    "additionalProperties": {
        "anyOf": [
            *_SCALARS,
            {"type": "null"},
            {"type": "array", "items": {"anyOf": _SCALARS}},
            {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": False,
                "properties": {
                    **{name: {"anyOf": _SCALARS} for name in ("gt", "gte", "lt", "lte")},
                    "exists": {"type": "boolean"},
                },
            },
        ]
    },
}
_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
_REASONS = {
    400: "A field cannot be used.",
    401: "No valid API key.",
    404: "No such model or path.",
    405: "The path takes another method.",
    408: "The body did not arrive in time.",
    413: "Too many texts, or too large a body.",
    421: "The Host header names another server.",
    422: "A text is longer than the model reads, and truncate is false.",
    429: "The queue is full.",
    503: "The server is starting or stopping.",
}


def document(manifest: Manifest, *, with_index: bool, with_keys: bool) -> Json:
    """Returns the OpenAPI 3.1 document.

    Args:
        manifest: What the model that is served says of itself.
        with_index: Whether `/search` is there.
        with_keys: Whether requests need a key.
    """
    model = manifest.name
    dimensions = {"type": ["integer", "null"], "minimum": 1, "maximum": manifest.dimension}
    embeddings: Json = {
        "type": "object",
        "required": ["input"],
        "properties": {
            "input": _TEXTS,
            "model": {"type": "string", "examples": [model, f"{model}:query", f"{model}:document"]},
            "encoding_format": {"enum": ["float", "base64"]},
            "dimensions": dimensions,
            "user": {"type": ["string", "null"]},
            "input_type": {"enum": [*ROLES, None]},
            "truncate": {"type": ["boolean", "null"]},
        },
    }
    item: Json = {
        "type": "object",
        "required": ["object", "index", "embedding"],
        "properties": {
            "object": {"const": "embedding"},
            "index": {"type": "integer"},
            "embedding": {"oneOf": [_VECTOR, {"type": "string", "contentEncoding": "base64"}]},
        },
    }
    usage: Json = {
        "type": "object",
        "required": ["prompt_tokens", "total_tokens"],
        "properties": {"prompt_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"}},
    }
    embedded: Json = {
        "type": "object",
        "required": ["object", "data", "model", "usage", "truncated"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": item},
            "model": {"type": "string"},
            "usage": usage,
            "truncated": {"type": "array", "items": {"type": "integer"}},
        },
    }
    flag: Json = {"type": ["boolean", "null"]}
    prompt_name: Json = {"enum": [*manifest.prompts, None]}
    tei: Json = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "inputs": _TEXTS,
            "truncate": flag,
            "truncation_direction": {"enum": ["right", "Right"]},
            "prompt_name": prompt_name,
            "normalize": {"enum": [True, None]} if manifest.normalize else flag,
            "dimensions": dimensions,
        },
    }
    similarity: Json = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "inputs": {
                "type": "object",
                "required": ["source_sentence", "sentences"],
                "properties": {
                    "source_sentence": {"type": "string"},
                    "sentences": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                },
            },
            "parameters": {
                "type": ["object", "null"],
                "properties": {"truncate": flag, "prompt_name": prompt_name},
            },
        },
    }
    tokenize: Json = {
        "type": "object",
        "required": ["inputs"],
        "properties": {"inputs": _TEXTS, "add_special_tokens": flag},
    }
    token: Json = {
        "type": "object",
        "required": ["id", "special"],
        "properties": {"id": {"type": "integer"}, "special": {"type": "boolean"}},
    }
    paths: Json = {
        "/v1/embeddings": _post("Embed texts (OpenAI's protocol)", embeddings, embedded),
        "/v1/models": _get("List the model and its roles", {"type": "object"}),
        "/embed": _post(
            "Embed texts (text-embeddings-inference's protocol)", tei, {"type": "array", "items": _VECTOR}
        ),
        "/similarity": _post("Compare sentences with a source sentence", similarity, _VECTOR),
        "/tokenize": _post(
            "Turn texts into token ids",
            tokenize,
            {"type": "array", "items": {"type": "array", "items": token}},
        ),
        "/info": _get("Facts about the model and the limits", {"type": "object"}),
        "/health": _get("Whether the server is ready", {"type": "object"}),
    }
    if with_index:
        search: Json = {
            "type": "object",
            "required": ["query"],
            "additionalProperties": False,
            "properties": {
                "query": {"type": "string", "maxLength": LONGEST_QUERY},
                "k": {"type": "integer", "minimum": 1, "maximum": MOST_HITS},
                "mode": {"enum": list(SEARCH_MODES)},
                "where": _WHERE,
                "min_score": {"type": ["number", "null"]},
                "per_document": {"type": "boolean"},
            },
        }
        hits: Json = {
            "type": "object",
            "required": ["hits"],
            "properties": {"hits": {"type": "array", "items": {"type": "object"}}},
        }
        paths["/search"] = _post("Search the index", search, hits)
    result: Json = {
        "openapi": "3.1.0",
        "info": {"title": "edge_embed", "version": __version__, "description": f"Embeddings by {model}."},
        "paths": paths,
    }
    if with_keys:
        result["components"] = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
        result["security"] = [{"key": []}]
        paths["/health"]["get"]["security"] = []  # a probe of a load balancer has no key
    return result


def _content(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _answers(schema: Json) -> Json:
    answers: Json = {"200": {"description": "Done.", "content": _content(schema)}}
    answers |= {
        str(status): {"description": reason, "content": _content(_ERROR)}
        for status, reason in _REASONS.items()
    }
    return answers


def _post(summary: str, body: Json, answer: Json) -> Json:
    request = {"required": True, "content": _content(body)}
    return {"post": {"summary": summary, "requestBody": request, "responses": _answers(answer)}}


def _get(summary: str, answer: Json) -> Json:
    return {"get": {"summary": summary, "responses": _answers(answer)}}
