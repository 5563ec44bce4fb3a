"""The tokenizer that sentence-transformers feeds a model with.

transformers rebuilds many tokenizers when it loads them: the pre-tokenizer of an XLM-R `tokenizer.json` is
replaced, a BERT's normalizer comes from `tokenizer_config.json`. What a file says is therefore not always
what a model was trained and is run with; what this module returns is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_embed.errors import CheckpointError
from edge_embed_convert.silence import silenced, transformers_silenced
from edge_embed_convert.source.files import read_optional


def load_tokenizer(directory: Path, *, lowercase: bool = False) -> Any:
    """Returns the tokenizer of transformers, set up as sentence-transformers does.

    Args:
        directory: Directory of the encoder's config.json and tokenizer files.
        lowercase: Whether sentence_bert_config.json asks for lower case.

    Raises:
        CheckpointError: If transformers cannot load it, or it would need code of the checkpoint.
    """
    with silenced():  # importing it logs
        from transformers import AutoTokenizer

    code = read_optional(directory / "tokenizer_config.json").get("auto_map")
    if code:
        raise CheckpointError(
            "the tokenizer needs Python code from the checkpoint, which edge_embed never runs",
            got=f"auto_map {code!r} in tokenizer_config.json"[:200],
            expected="a tokenizer that is part of transformers",
            fix="use a checkpoint that needs no trust_remote_code",
        )
    with transformers_silenced():
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
        # Damaged files end in bare Exceptions of the tokenizers library and in most of Python's own.
        except Exception as error:
            raise CheckpointError(
                f"transformers cannot read the tokenizer of {directory}",
                got=str(error)[:300],
                expected="the tokenizer's files, complete",
                fix="copy them again (a Git LFS pointer or a cut download looks like this)",
            ) from error
    if lowercase:
        _lowercase_first(tokenizer)
    return tokenizer


def _lowercase_first(tokenizer: Any) -> None:
    """Has the normalizer lowercase ahead of all that it does; special tokens in a text stay as they are."""
    from tokenizers import normalizers

    if not tokenizer.is_fast:
        raise CheckpointError(
            "do_lower_case is not known for this tokenizer",
            got=type(tokenizer).__name__,
            expected="a tokenizer with a tokenizer.json",
        )
    normalizer = tokenizer.backend_tokenizer.normalizer
    steps: list[Any] = [] if normalizer is None else [normalizer]
    if isinstance(normalizer, normalizers.Sequence):
        steps = [normalizer[i] for i in range(len(normalizer))]
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])
