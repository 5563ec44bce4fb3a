"""Trim: choose the tokens, write the checkpoint, and prove that covered texts keep their ids and vectors."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_embed.errors import CheckpointError, ConversionError
from edge_embed.progress import Step, Ticker
from edge_embed_convert.drafts import check_new_directory, draft_of, finish
from edge_embed_convert.source.checkpoint import Checkpoint, load
from edge_embed_convert.trim.choose import Chooser
from edge_embed_convert.trim.coverage import Coverage, measure
from edge_embed_convert.trim.texts import Text, read
from edge_embed_convert.trim.tokens import Form, Tokens, load_backend, merged
from edge_embed_convert.trim.vocabularies import read_vocabulary

PROVED = 8
"""How many covered texts are embedded before and after."""


@dataclass(frozen=True)
class Trimmed:
    """What a trim made.

    Attributes:
        path: The new checkpoint.
        rows_before: Rows of the source's table.
        rows: Rows of the new table.
        bytes_before: Size of the source's files of the encoder's weights.
        bytes: The same of the new ones.
        given: Coverage of the given texts, by language.
        sample: Coverage of a sample that the choice did not see, by language.
        proved: How many texts were tokenized again, with the same result.
        embedded: How many of them were embedded again, with the same vector.
    """

    path: Path
    rows_before: int
    rows: int
    bytes_before: int
    bytes: int
    given: dict[str, Coverage] = field(default_factory=dict)
    sample: dict[str, Coverage] = field(default_factory=dict)
    proved: int = 0
    embedded: int = 0


def trim(
    source: str | Path,
    texts: Sequence[str],
    output: str | Path,
    *,
    languages: Sequence[str] | None = None,
    max_tokens: int | None = None,
    held_out: Sequence[str] = (),
    prompts: Sequence[str] = (),
    text_field: str | None = None,
    progress: Step = lambda step, done, total: None,
) -> Trimmed:
    """Writes a checkpoint with fewer rows in its token table.

    Args:
        source: A sentence-transformers directory, or a hub id.
        texts: Files with texts, as `texts.read` takes them.
        output: The directory to write; it must not exist or be empty.
        languages: Uses the texts in these languages only.
        max_tokens: The most rows that may stay; by default as many as the texts need.
        held_out: Files with the sample on which coverage is measured. By default one text of twenty is set
            aside for it: coverage is that of a choice made without it. The checkpoint's choice sees all.
        prompts: What goes before texts besides the prompts that the checkpoint names.
        text_field: The field with the text in records.
        progress: Called as each step begins.

    Raises:
        CheckpointError: If the checkpoint is incomplete, or its tokenizer cannot be trimmed exactly.
        InputError: If the texts cannot be used.
        ConversionError: If the directory cannot be written.
    """
    ticker = Ticker(progress, 6)
    ticker("reading the checkpoint")
    target = Path(os.path.abspath(Path(output).expanduser()))
    check_new_directory(target)
    checkpoint = load(source)
    if target.is_relative_to(checkpoint.path.resolve()):
        raise ConversionError(
            "the output lies in the checkpoint that is trimmed",
            got=str(target),
            expected=f"a directory outside of {checkpoint.path}",
        )
    static = checkpoint.family.without_transformers
    if not static and not (checkpoint.transformer_path / "config.json").is_file():
        raise CheckpointError(
            f"a checkpoint of the {checkpoint.family.name} family cannot be trimmed",
            got="no config.json beside its table",
            expected="an encoder with its own token table",
        )
    ticker("reading the texts")
    given = read(texts, languages=languages, field=text_field)
    other = read(held_out, languages=languages, field=text_field) if held_out else []
    trimmer = _Trimmer(checkpoint, prompts)
    ticker("tokenizing the texts")
    forms = [(text, found) for text, found in zip(given, trimmer.forms(given), strict=True)]
    ticker("choosing the tokens")
    sample = _sample(trimmer, forms, other, max_tokens)
    kept = sorted(trimmer.choose(forms, max_tokens))
    if len(kept) >= trimmer.rows:
        raise CheckpointError(
            "the texts need every row of the table; there is nothing to trim",
            got=f"{len(kept)} of {trimmer.rows} rows",
            fix="name fewer languages, or --max-tokens",
        )
    with draft_of(target, "the checkpoint") as draft:
        ticker("writing the checkpoint")
        trimmer.write(kept, draft)
        ticker("proving ids and vectors")
        proved, embedded = trimmer.prove(draft, kept, [found for _, found in forms])
        before, after = (_weight_bytes(place) for place in (checkpoint, load(draft)))
        finish(draft, target)
    whole = measure(((text.language, found) for text, found in forms), set(kept))
    return Trimmed(
        target,
        trimmer.rows,
        len(kept),
        before,
        after,
        given=whole,
        sample=sample,
        proved=proved,
        embedded=embedded,
    )


Forms = list[tuple[Text, list[Form]]]


class _Trimmer:
    """A checkpoint that is about to lose rows."""

    def __init__(self, checkpoint: Checkpoint, prompts: Sequence[str]) -> None:
        self._checkpoint = checkpoint
        from edge_embed_convert.trim.checkpoint import named_ids, read_spec, table_rows  # brings PyTorch

        self.rows = table_rows(checkpoint)
        backend = load_backend(checkpoint)
        self._vocabulary = read_vocabulary(read_spec(checkpoint.transformer_path, backend))
        self._prompts = [*checkpoint.prompts.values(), *prompts]
        self._tokens = Tokens(backend, vocabulary=self._vocabulary, prompts=self._prompts)
        self._chooser = Chooser(self._vocabulary, self.rows, named_ids(checkpoint))
        stripped = [prompt.rstrip() for prompt in self._prompts]
        self._fixed = {i for ids in self._tokens.encode(["", *self._prompts, *stripped]) for i in ids}

    def forms(self, texts: Iterable[Text]) -> list[list[Form]]:
        return list(self._tokens.forms([text.text for text in texts]))

    def choose(self, forms: Forms, most: int | None) -> set[int]:
        counts: dict[str, Counter[int]] = {}
        for text, found in forms:
            counts.setdefault(text.language, Counter()).update(merged(found))
        return self._chooser.choose(counts, self._fixed, most)

    def write(self, kept: Sequence[int], target: Path) -> None:
        from edge_embed_convert.trim.checkpoint import write  # brings PyTorch

        spec = self._vocabulary.trimmed({old: new for new, old in enumerate(kept)})
        write(self._checkpoint, spec, kept, target)

    def prove(self, draft: Path, kept: Sequence[int], forms: Sequence[list[Form]]) -> tuple[int, int]:
        """Tokenizes every covered text again, and embeds a few.

        Returns:
            How many forms of texts were tokenized, and how many embedded.

        Raises:
            CheckpointError: If one gets other ids or another vector.
        """
        moved = {old: new for new, old in enumerate(kept)}
        there = set(kept)
        trimmed = load(draft)
        tokens = Tokens(load_backend(trimmed), vocabulary=self._vocabulary, prompts=())
        covered = [form for found in forms for form in found if form.needed <= there]
        for form, ids in zip(covered, tokens.encode([form.text for form in covered]), strict=True):
            if ids != tuple(moved[i] for i in form.ids):
                raise CheckpointError(
                    "this tokenizer cannot be trimmed exactly; nothing was saved",
                    got=f"different ids for {form.text[:60]!r}",
                    expected="the same tokens as the source, with their new ids",
                    fix="report it with the checkpoint's tokenizer.json",
                )
        step = max(len(covered) // PROVED, 1)
        return len(covered), self._embed(trimmed, moved, covered[::step][:PROVED])

    def _embed(self, trimmed: Checkpoint, moved: dict[int, int], forms: Sequence[Form]) -> int:
        from edge_embed_convert.source.reference import Reference  # brings transformers

        most = min(self._checkpoint.max_tokens, trimmed.max_tokens)
        before = Reference(self._checkpoint)
        vectors = [before.embed_tokens(form.ids[:most]) for form in forms]
        del before
        after = Reference(trimmed)
        for form, vector in zip(forms, vectors, strict=True):
            again = after.embed_tokens([moved[i] for i in form.ids[:most]])
            if not (again == vector).all():
                raise CheckpointError(
                    "the trimmed checkpoint gives different vectors; nothing was saved",
                    got=f"a difference of {abs(again - vector).max():.2g} for {form.text[:60]!r}",
                    expected="the same numbers",
                    fix="report it with the checkpoint's config.json",
                )
        return len(forms)


def _sample(trimmer: _Trimmer, forms: Forms, other: Sequence[Text], most: int | None) -> dict[str, Coverage]:
    """Returns the coverage of texts by a choice that did not see them."""
    if other:
        chosen = trimmer.choose(forms, most)
        pairs = list(zip(other, trimmer.forms(other), strict=True))
    else:
        chosen = trimmer.choose([entry for entry in forms if not entry[0].set_aside], most)
        pairs = [entry for entry in forms if entry[0].set_aside]
    return measure(((text.language, found) for text, found in pairs), chosen)


def _weight_bytes(checkpoint: Checkpoint) -> int:
    from edge_embed_convert.source.files import weight_files

    return sum(file.stat().st_size for file in weight_files(checkpoint.transformer_path))
