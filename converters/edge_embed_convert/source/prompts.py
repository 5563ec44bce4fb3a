"""Prompts: those of the checkpoint, those that the user adds, and checkpoints known to need some."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_embed.errors import CheckpointError, InputError
from edge_embed.text.inputs import check_text
from edge_embed_convert.source.files import read_text

NEEDED: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("E5", r"\be5[-_](small|base|large|mistral)", {"query": "query: ", "passage": "passage: "}),
    (
        "BGE for English",
        r"\bbge-(small|base|large)-en\b",
        {"query": "Represent this sentence for searching relevant passages: "},
    ),
    ("nomic-embed", r"\bnomic-embed-text\b", {"query": "search_query: ", "document": "search_document: "}),
    (
        "modernbert-embed",
        r"\bmodernbert-embed\b",
        {"query": "search_query: ", "document": "search_document: "},
    ),
    (
        "mxbai-embed",
        r"\bmxbai-embed\b",
        {"query": "Represent this sentence for searching relevant passages: "},
    ),
    (
        "snowflake-arctic-embed",
        r"\barctic-embed-(xs|s|m|l)\b(?!-v2)",
        {"query": "Represent this sentence for searching relevant passages: "},
    ),
    (
        "Qwen3-Embedding",
        r"\bqwen3-embedding\b",
        {
            "query": "Instruct: Given a web search query, retrieve relevant passages that answer the query"
            "\nQuery:"
        },
    ),
    ("snowflake-arctic-embed 2", r"\barctic-embed-(m|l)-v2", {"query": "query: "}),
)
"""Models trained with prompts that their checkpoints often do not name: the model, how it is called in an id
or a model card, and the prompts by the model card."""

_CARD = 2000
"""How many characters of a model card are searched: it begins with what the model is made from."""


def merged_prompts(
    settings: Mapping[str, Any], added: Mapping[str, str], default: str | None
) -> tuple[dict[str, str], str | None]:
    """Returns all prompts by name, and the name of the default one.

    Args:
        settings: The content of config_sentence_transformers.json.
        added: Prompts of the user.
        default: The user's default prompt, None to keep the checkpoint's.

    Raises:
        CheckpointError: If prompts are malformed, a name is given twice, or the default names none.
    """
    own = settings.get("prompts") or {}
    if not isinstance(own, dict) or not all(_usable(prompt) for prompt in own.values()):
        raise CheckpointError(
            "prompts in config_sentence_transformers.json are malformed", got=repr(own)[:80]
        )
    twice = sorted(name for name in added if name in own)
    if twice:
        raise CheckpointError(
            "the checkpoint already has a prompt of that name",
            got="; ".join(
                f"{name}={added[name]!r}, {name}={own[name]!r} in the checkpoint" for name in twice
            ),
            expected="a new name",
            fix="leave --prompt out, or change config_sentence_transformers.json",
        )
    prompts = {**own, **added}
    named = settings.get("default_prompt_name")
    if default is not None and named is not None and default != named:
        raise CheckpointError(
            "the checkpoint already has a default prompt",
            got=f"--default-prompt {default}",
            expected=repr(named),
            fix="leave --default-prompt out, or change config_sentence_transformers.json",
        )
    chosen = default if default is not None else named
    if chosen is not None and (not isinstance(chosen, str) or chosen not in prompts):
        raise CheckpointError(
            "the default prompt names no prompt" if default else "default_prompt_name names no prompt",
            got=repr(chosen),
            expected=", ".join(prompts) or "null",
        )
    return prompts, chosen


def _usable(prompt: object) -> bool:
    """Returns whether a prompt is a text; a lone surrogate is none."""
    try:
        check_text(prompt, 0)
    except InputError:
        return False
    return True


def missing_prompts(path: Path, name: str, prompts: Mapping[str, str]) -> str | None:
    """Returns what to say of a checkpoint that is known to need prompts and has none.

    Args:
        path: Its directory.
        name: Its hub id, or the directory's name.
        prompts: Its prompts with those of the user. Empty ones count as none.
    """
    if any(prompts.values()):
        return None
    card = path / "README.md"
    text = f"{name}\n{read_text(card)[:_CARD] if card.is_file() else ''}".lower()
    for model, pattern, needed in NEEDED:
        if re.search(pattern, text):
            # A shell reads a line break that is written as one between $'...' alone.
            options = " ".join(
                f"--prompt {key}={'$' if chr(10) in value else ''}{value!r}" for key, value in needed.items()
            )
            return (
                f"{model} models are trained with prompts and this checkpoint names none: convert with "
                f"{options}, or put them before each text; without them retrieval gets worse"
            )
    return None
