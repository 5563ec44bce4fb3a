"""The table of families: each one converted, compared with its source, and timed beside other engines.

    python -m edge_embed_bench.published.families [--real NAME=DIRECTORY]… [--layers FAMILY=N]…
        [--only NAME,…] [--prepare] [--results DIRECTORY]

A family has a row for each real checkpoint, or one for a random checkpoint of the released shape. Every row
is converted with the family's default recipe. All engines of a row take turns. Rows are written as they are
finished, and an interrupted run goes on where it was. `--only` measures some rows and leaves the others of
the report. `--prepare` makes the files and measures nothing, so that measuring can have the machine alone.
"""

from __future__ import annotations

import argparse
import gc
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_embed.engine.cache_directory import default_directory
from edge_embed.errors import EdgeEmbedError, InputError
from edge_embed.progress import progress_bar
from edge_embed.report_files import write_file
from edge_embed_bench.choices import choose
from edge_embed_bench.errors import one_line
from edge_embed_bench.files import ensure_directory, without_directories
from edge_embed_bench.peers import registry as peers
from edge_embed_bench.published import families_report, speed
from edge_embed_bench.published.exactness import largest_difference
from edge_embed_bench.published.family_sources import Source, sources
from edge_embed_bench.published.measured_conversion import convert
from edge_embed_bench.records.machine import describe_machine
from edge_embed_bench.records.model import Model
from edge_embed_bench.reports.documents import write_document
from edge_embed_bench.run import session
from edge_embed_bench.synthetic.models import converter_key
from edge_embed_bench.worker import token_ids
from edge_embed_bench.worker.measure import Job
from edge_embed_convert.check import check, stored_bytes
from edge_embed_convert.recipes.grammar import Recipe
from edge_embed_convert.silence import silenced

LENGTHS = (16, 256)
"""Token counts that are timed, and the buckets of the files."""

EXACT_LENGTHS = (8, 16, 100, 250)
"""Token counts at which vectors are compared. Each also runs padded to a power of two."""

PEERS = ("sentence-transformers-fp32", "onnxruntime-fp32", "onnxruntime-int8")

LAYERS = {"qwen3": 4}
"""Layers of families that are too large for a small machine in their full depth."""


@dataclass(frozen=True)
class Prepared:
    """The file of a row.

    Attributes:
        model: The file.
        checkpoint: What it was made of.
        facts: What was found while it was made: `difference`, `peak_bytes`, `seconds`.
    """

    model: Model
    checkpoint: Path
    facts: Mapping[str, Any]


def prepare(source: Source) -> Prepared:
    """Converts a row's checkpoint and compares the encoder with its source, unless both are kept.

    Raises:
        EdgeEmbedError: If it cannot be converted.
    """
    cache = default_directory()
    if cache is None:
        raise InputError("there is no cache directory for the files", fix="set EDGE_EMBED_CACHE")
    from edge_embed_convert.source.checkpoint import load

    checkpoint = source.checkpoint()
    key = f"{converter_key()}-{load(checkpoint).weights_sha256()[:16]}"
    keep = cache / "families" / key
    ensure_directory(keep)
    file, facts = keep / f"{source.name}.tflite", keep / f"{source.name}.json"
    if not facts.is_file():
        cost = convert(checkpoint, file, *_options())
        found = asdict(cost) | {"difference": difference(Model.open(file), checkpoint)}
        gc.collect()  # both models
        write_file(facts, json.dumps(found).encode())
    return Prepared(Model.open(file), checkpoint, json.loads(facts.read_text("utf-8")))


def _options() -> list[str]:
    return ["--buckets", ",".join(map(str, LENGTHS)), "--max-tokens", str(LENGTHS[-1])]


def _exact_lengths() -> list[int]:
    return [length for length in EXACT_LENGTHS if length <= LENGTHS[-1]]


def difference(model: Model, checkpoint: Path) -> float:
    """Returns the largest difference between the rewritten encoder and sentence-transformers."""
    with silenced():  # importing it logs
        from edge_embed_bench.peers.torch import Float32
    from edge_embed_convert.graph.rewrite import build
    from edge_embed_convert.source.checkpoint import load

    record = model.manifest.tokenizer
    source = Float32()
    source.load(Job(str(model.path), str(checkpoint), "", 1, LENGTHS[-1]))
    return largest_difference(
        build(load(checkpoint, max_tokens=LENGTHS[-1]), record.pad_id),
        lambda ids: source.embed([ids])[0],
        [token_ids.batch(record, length, 1, speed.SEED)[0] for length in _exact_lengths()],
        record.pad_id,
    )


def measure(options: speed.Options, source: Source, made: Prepared) -> tuple[dict[str, Any], speed.Kept]:
    """Returns a row of the report, and the measurements that are kept until the run is over."""
    records, kept = speed.latencies(options, [made.model], made.checkpoint, LENGTHS, loads=1)
    plan = check(made.checkpoint, buckets=LENGTHS, max_tokens=LENGTHS[-1])
    size = made.model.path.stat().st_size
    row = {
        **head(source),
        "recipe": plan.recipe,
        "spec": plan.spec,
        "exact_lengths": _exact_lengths(),
        **made.facts,
        "estimated_bytes": plan.conversion_bytes,
        "file_bytes": size,
        "released_file_bytes": size + stored_bytes(source.missing_table, Recipe.parse(plan.spec).embedding),
        "records": [asdict(record) for record in records],
    }
    return row, kept


def head(source: Source) -> dict[str, Any]:
    """Returns what a row says of its checkpoint."""
    return {
        "name": source.name,
        "family": source.family.name,
        "shape": source.shape,
        "real": source.real,
        "rows": source.rows,
        "layers": list(source.layers) if source.layers else None,
        "error": None,
    }


def run(options: speed.Options, chosen: Sequence[Source], *, only_files: bool) -> int:
    """Makes the files, or makes and measures them and writes the report.

    Returns:
        1 if a file of this project could not be made or measured.
    """
    kept, failed = [], False
    paths = [options.results / f"families{ending}" for ending in (".json", ".md")]
    rows = _rows(paths[0])
    with progress_bar(len(chosen), "families", unit="family", show=True) as advance:
        for source in chosen:
            try:
                made = prepare(source)
                if only_files:
                    peers.subjects(
                        options.peers, made.model, made.checkpoint, options.threads, options.timeout
                    )
                else:
                    row, measured = measure(options, source, made)
                    kept.append(measured)
            except EdgeEmbedError as error:
                row = head(source) | {"error": one_line(error)}
                sys.stderr.write(f"{source.name}: {row['error']}\n")
                failed = True
            if not only_files:
                rows[source.name] = row | {"command": options.command}
                _write(options, rows, paths)
            advance(1)
    for measured in kept:
        measured.forget()
    return int(failed or any(families_report.failed(row) for row in rows.values()))


def _rows(path: Path) -> dict[str, Any]:
    """Returns the rows of an earlier report, by name."""
    if not path.is_file():
        return {}
    return {row["name"]: row for row in json.loads(path.read_text("utf-8"))["families"]}


def _write(options: speed.Options, rows: Mapping[str, Any], paths: Sequence[Path]) -> None:
    document = {
        "machine": describe_machine(),
        "threads": options.threads,
        "lengths": list(LENGTHS),
        "peers": list(options.peers),
        "families": sorted(rows.values(), key=lambda row: (row["family"], row["name"])),
    }
    write_document(document, paths, families_report.markdown)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--real",
        action="append",
        default=[],
        metavar="NAME=DIRECTORY",
        help="a row for a real checkpoint, in place of the random one of its family",
    )
    parser.add_argument(
        "--layers",
        action="append",
        default=[],
        metavar="FAMILY=N",
        help="layers of a random checkpoint (default: all; "
        + ", ".join(f"{name}={count}" for name, count in LAYERS.items())
        + ")",
    )
    parser.add_argument("--only", type=speed.words, default=[], help="rows to measure (default: all)")
    parser.add_argument("--prepare", action="store_true", help="make the files and measure nothing")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: 1)")
    parser.add_argument("--peers", type=speed.words, default=list(PEERS), help="engines beside ours")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="for the reports")
    parser.add_argument("--fresh", action="store_true", help="forget what an unfinished run has measured")
    args = parser.parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    options = speed.Options(
        threads=args.threads,
        lengths=LENGTHS,
        recipes=(),
        peers=args.peers,
        corpus=None,
        titles_field=None,
        results=args.results,
        fresh=args.fresh,
        command=shlex.join(
            ["python", "-m", "edge_embed_bench.published.families", *map(without_directories, given)]
        ),
    )
    try:
        ensure_directory(options.results)
        choose("peer", options.peers, peers.PEERS)
        real = {name: Path(path) for name, path in map(_pair, args.real)}
        rows = sources(real, LAYERS | {name: int(count) for name, count in map(_pair, args.layers)})
        if args.only:
            rows = choose("family", args.only, {source.name: source for source in rows})
        with session.ending_in_order():
            return run(options, rows, only_files=args.prepare)
    except EdgeEmbedError as error:
        sys.stderr.write(f"families: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("families: stopped; what is measured is kept, the same command goes on\n")
        return 130


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError("an option needs a name and a value", got=text, expected="NAME=VALUE")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
