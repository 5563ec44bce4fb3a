"""Chunk sizes that a model can take, and titles that fit beside a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_embed.errors import InputError
from edge_embed.model_file.manifest import Manifest
from edge_embed.names import DOCUMENT_PROMPTS
from edge_embed.retrieval.chunks.counting import Count
from edge_embed.retrieval.chunks.cutting import CHARACTERS_PER_TOKEN, SMALLEST, check_size
from edge_embed.text.prompts import choose_prompt, task_prompt_name

LARGEST_DEFAULT = 512
"""Models that read thousands of tokens still find a passage better in a chunk that has one subject."""

_TITLE_SHARE, _LONGEST_TITLE = 8, 32
_OVERLAP_SHARE = 8


@dataclass(frozen=True)
class Sizes:
    """How the documents of an index are cut.

    Attributes:
        size: The most tokens of a chunk.
        overlap: The most tokens that a chunk repeats of the one before.
        title: The most tokens of a chunk's title, which goes into the document prompt.
    """

    size: int
    overlap: int
    title: int


def sizes_for(
    manifest: Manifest, count: Count, *, size: int | None = None, overlap: int | None = None
) -> Sizes:
    """Returns sizes with which special tokens, document prompt, title and chunk fit into the model.

    By default a chunk takes what prompt and title leave, at most 512 tokens, and an eighth of it overlaps.

    Args:
        manifest: The manifest of the model.
        count: Tells how many tokens a text has.
        size: The size asked for.
        overlap: The overlap asked for.

    Raises:
        InputError: If the model cannot take them.
    """
    record = manifest.tokenizer
    name = task_prompt_name(manifest.prompts, DOCUMENT_PROMPTS)
    prompt = choose_prompt(manifest.prompts, None, name, manifest.default_prompt_name)
    room = manifest.max_tokens - len(record.prefix_ids) - len(record.suffix_ids) - count(prompt)
    if room < SMALLEST:
        raise InputError(
            f"the model {manifest.name} can read too few tokens to index documents",
            got=f"{max(room, 0)} tokens beside the document prompt",
            expected=f"{SMALLEST} or more",
            fix="convert it with a larger bucket",
        )
    title = min(_LONGEST_TITLE, room // _TITLE_SHARE)
    if size is None:
        size = max(SMALLEST, min(room - title, LARGEST_DEFAULT))
    if size > room:
        raise InputError(
            "the chunk size is larger than the model's maximum",
            got=f"{size} tokens",
            expected=f"at most {room}: {manifest.max_tokens} without special tokens and document prompt",
        )
    if overlap is None:
        overlap = size // _OVERLAP_SHARE
    check_size(size, overlap)
    return Sizes(size, overlap, min(title, room - size))


def chunk_title(title: str | None, headings: Sequence[str], *, count: Count, limit: int) -> str | None:
    """Returns the title that stands in a chunk's document prompt: "Title > Heading > Heading below it".

    Where it has too many tokens, headings in the middle go first, then the document's title, then words at
    the end of the last heading.

    Args:
        title: The document's title.
        headings: The headings above the chunk, the outermost first.
        count: Tells how many tokens a text has.
        limit: The most tokens of the title.
    """
    parts = [part for part in (" ".join((part or "").split()) for part in (title, *headings)) if part]
    if len(parts) > 1 and parts[0].casefold() == parts[1].casefold():
        del parts[0]
    if not parts or limit < 1:
        return None
    while len(parts) > 1 and count(" > ".join(parts)) > limit:
        del parts[1 if len(parts) > 2 else 0]
    words = " > ".join(parts)[: limit * CHARACTERS_PER_TOKEN].split(" ")
    while words and count(" ".join(words)) > limit:
        words.pop()
    return " ".join(words) or None
