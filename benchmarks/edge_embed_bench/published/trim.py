"""What trimming costs: coverage and quality of a checkpoint with fewer rows in its token table.

    python -m edge_embed_bench.published.trim CHECKPOINT [MODEL] --texts FILE… \\
        --group English=en:65536 --group two=en,de --set en=stsb-en.tsv --set de=retrieval … --output NAME

Every group of languages is one trimmed checkpoint; a number after the colon is its `--max-tokens`. It is
judged on the sets of its languages, beside the source. MODEL is the source, converted; without it PyTorch
runs the checkpoint in float32. It computes the vectors of both: a trimmed checkpoint is the source but for
its tokenizer and for rows that are gone, so its vector of a text is that of the source for the same rows.
Writes NAME.md and NAME.json after each group.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_embed import Embedder
from edge_embed.errors import InputError
from edge_embed.progress import progress_bar
from edge_embed.report_files import write_file
from edge_embed_bench.files import without_directories
from edge_embed_bench.quality import metrics
from edge_embed_bench.quality.data import Dataset, Retrieval, Similarity, read
from edge_embed_bench.records.machine import describe_machine
from edge_embed_convert.source.checkpoint import load
from edge_embed_convert.source.loaded_tokenizer import load_tokenizer
from edge_embed_convert.source.reference import Reference
from edge_embed_convert.trim.trim import Trimmed, trim

Vectors = npt.NDArray[np.float32]
Ids = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One set under one group's checkpoint.

    Attributes:
        group: The group.
        language: The language of the set.
        data: The set's name.
        metric: Its main figure.
        source: That figure of the source, times 100.
        trimmed: The same of the trimmed checkpoint.
        texts: How many texts the set has.
        changed: How many of them have other tokens than before.
    """

    group: str
    language: str
    data: str
    metric: str
    source: float
    trimmed: float
    texts: int
    changed: int


class Source:
    """The source checkpoint: its tokenizer, and its file for the vectors of ids, each computed once.

    Args:
        checkpoint: The checkpoint.
        file: The same, converted, or None for PyTorch.
    """

    def __init__(self, checkpoint: str | Path, file: str | Path | None) -> None:
        described = load(checkpoint)
        self._run: Callable[[list[int]], Vectors] = Reference(described).embed_tokens
        if file is not None:  # on one thread: short texts gain little from two
            self._run = Embedder(file, num_threads=1).encode_tokens
        self._most = described.max_tokens
        self._vectors: dict[Ids, Vectors] = {}
        self.ids = tokenizer_of(checkpoint)

    def embed(self, texts: Sequence[Ids]) -> Vectors:
        """Returns the vectors of texts by their ids, cut as the model cuts them."""
        cut = [ids if len(ids) <= self._most else (*ids[: self._most - 1], ids[-1]) for ids in texts]
        new = [ids for ids in dict.fromkeys(cut) if ids not in self._vectors]
        with progress_bar(len(new), "embedding") as advance:
            for ids in new:
                self._vectors[ids] = self._run(list(ids))
                advance(1)
        return np.stack([self._vectors[ids] for ids in cut])


def tokenizer_of(checkpoint: str | Path) -> Any:
    """Returns a function from texts to their ids, as sentence-transformers has them, not cut."""
    described = load(checkpoint)
    loaded = load_tokenizer(described.transformer_path, lowercase=described.lowercase).backend_tokenizer
    loaded.no_padding()
    loaded.no_truncation()
    return lambda texts: [tuple(encoding.ids) for encoding in loaded.encode_batch(list(texts))]


def sides(data: Dataset, query: str, document: str) -> tuple[list[str], list[str]]:
    """Returns the two lists of texts that a set compares, with their prompts."""
    if isinstance(data, Similarity):
        return [query + text for text in data.left], [query + text for text in data.right]
    if isinstance(data, Retrieval):
        whole = [f"{title} {text}".strip() for title, text in zip(data.titles, data.documents, strict=True)]
        return [query + text for text in data.queries], [document + text for text in whole]
    raise InputError(
        f"{data.name} cannot be scored here", got=data.kind, expected="a similarity or retrieval set"
    )


def score(data: Dataset, left: Vectors, right: Vectors) -> float:
    """Returns the value, times 100, of a set's main figure."""
    if isinstance(data, Retrieval):
        outcome = metrics.score_retrieval(data, left, right, "cosine", 1)
    else:
        assert isinstance(data, Similarity)
        outcome = metrics.score_similarity(data, left, right, 1)
    return 100 * outcome.values[metrics.MAIN[data.kind]]


def compare(
    source: Source, made: Trimmed, group: str, sets: Sequence[tuple[str, Dataset]], prompts: tuple[str, str]
) -> list[Row]:
    """Returns the figures of one trimmed checkpoint."""
    kept = json.loads((made.path / "trim.json").read_text("utf-8"))["kept"]
    trimmed = tokenizer_of(made.path)
    rows = []
    for language, data in sets:
        changed, seen = set(), set()
        both = sides(data, *prompts)
        before = [source.ids(texts) for texts in both]
        after = [[tuple(kept[i] for i in ids) for ids in trimmed(texts)] for texts in both]
        for texts, old, new in zip(both, before, after, strict=True):
            seen |= set(texts)
            changed |= {text for text, a, b in zip(texts, old, new, strict=True) if a != b}
        first, second = (score(data, *map(source.embed, ids)) for ids in (before, after))
        rows.append(
            Row(
                group,
                language,
                data.name,
                metrics.MAIN[data.kind],
                first,
                second,
                len(seen),
                len(changed),
            )
        )
    return rows


def markdown(name: str, command: str, made: dict[str, Trimmed], rows: Sequence[Row]) -> str:
    """Returns the report."""
    lines = [f"# {name} with fewer tokens", "", f"`{command}` on {describe_machine()}", ""]
    lines += ["| group | rows | weights, MB | given texts covered |", "|---|---|---|---|"]
    for group, found in made.items():
        texts, covered = (sum(getattr(c, key) for c in found.given.values()) for key in ("texts", "covered"))
        lines.append(
            f"| {group} | {found.rows:,} of {found.rows_before:,} | {found.bytes / 1e6:.1f} of "
            f"{found.bytes_before / 1e6:.1f} | {covered:,} of {texts:,} |"
        )
    lines += ["", "Coverage of a sample that the choice did not see:", ""]
    lines += ["| group | language | texts | covered | tokens that stay |", "|---|---|---|---|---|"]
    for group, found in made.items():
        for language, c in found.sample.items():
            lines.append(f"| {group} | {language} | {c.texts:,} | {c.share:.1%} | {c.token_share:.2%} |")
    lines += ["", "Quality, times 100. Changed: texts of the set with other tokens than before.", ""]
    lines.append("| group | set | figure | source | trimmed | difference | changed |")
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        lines.append(
            f"| {row.group} | {row.data} ({row.language}) | {row.metric} | {row.source:.2f} | "
            f"{row.trimmed:.2f} | {row.trimmed - row.source:+.2f} | {row.changed:,} of {row.texts:,} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Trims, judges and writes the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--texts", nargs="+", required=True)
    parser.add_argument("--group", action="append", required=True, metavar="NAME=LANG,LANG,…[:N]")
    parser.add_argument("--set", action="append", required=True, metavar="LANG=PATH", dest="sets")
    parser.add_argument("--query-prompt", default="", help="goes before queries and the texts of similarity")
    parser.add_argument("--document-prompt", default="")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(arguments)
    sets = [(language, read(path)) for language, _, path in (entry.partition("=") for entry in args.sets)]
    source, prompts = Source(args.checkpoint, args.model), (args.query_prompt, args.document_prompt)
    made: dict[str, Trimmed] = {}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for entry in args.group:
            group, _, rest = entry.partition("=")
            names, _, most = rest.partition(":")
            languages = names.split(",")
            made[group] = trim(
                args.checkpoint,
                args.texts,
                Path(scratch) / group,
                languages=languages,
                max_tokens=int(most) if most else None,
                prompts=[prompt for prompt in prompts if prompt],
            )
            judged = [entry for entry in sets if entry[0] in languages]
            rows += compare(source, made[group], group, judged, prompts)
            _write(args, made, rows)


def _write(args: argparse.Namespace, made: dict[str, Trimmed], rows: Sequence[Row]) -> None:
    command = shlex.join(
        ["python", "-m", "edge_embed_bench.published.trim", *map(without_directories, sys.argv[1:])]
    )
    record = {
        "command": command,
        "machine": describe_machine(),
        "groups": {group: asdict(found) | {"path": group} for group, found in made.items()},
        "rows": [asdict(row) for row in rows],
    }
    report = markdown(Path(args.checkpoint).name, command, made, rows)
    write_file(args.output.with_suffix(".md"), report.encode())
    write_file(args.output.with_suffix(".json"), (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
