"""Where the time of one text goes: how long each kind of operator takes."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_embed.engine.litert.profile import Operator, operators
from edge_embed.errors import InputError
from edge_embed.options import check_threads
from edge_embed_bench.records.model import Model
from edge_embed_bench.run.matrix import check_lengths
from edge_embed_bench.worker import token_ids


def run(args: argparse.Namespace, paths: Sequence[Path]) -> int:
    """Prints a table for each file, length and number of threads.

    Raises:
        InputError: If an option is given that has no meaning here.
    """
    for name in ("batch", "accelerators", "targets", "peers", "corpus", "output", "compare", "check"):
        if getattr(args, name):
            raise InputError(f"--{name} does nothing with --operators", fix="leave it out")
    results = []
    for model in (Model.open(path) for path in paths):
        for length in check_lengths([model], args.lengths):
            for threads in args.threads or [check_threads(None)]:
                results.append((model, length, threads, _measured(model, length, threads, args)))
    if args.json:
        rows = [
            {
                "file": model.path.name,
                "length": length,
                "threads": threads,
                "operators": [dataclasses.asdict(operator) for operator in found],
            }
            for model, length, threads, found in results
        ]
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    else:
        sys.stdout.write("\n".join(to_text(*result) for result in results))
    return 0


def to_text(model: Model, length: int, threads: int, found: Sequence[Operator]) -> str:
    """Returns the operators as a table, and below it how many there are and what they take together."""
    total, width = sum(o.seconds for o in found), max(len(o.name) for o in found)
    lines = [f"{model.path.name}, {length} tokens, {threads} threads", ""]
    lines += [f"  {'operator':<{width}}  nodes        ms  share"]
    for o in found:
        lines.append(f"  {o.name:<{width}}  {o.count:>5}  {o.seconds * 1e3:>8.3f}  {o.seconds / total:>5.1%}")
    lines += [f"  {'all':<{width}}  {sum(o.count for o in found):>5}  {total * 1e3:>8.3f}", ""]
    return "\n".join(lines)


def _measured(model: Model, length: int, threads: int, args: argparse.Namespace) -> list[Operator]:
    manifest = model.manifest
    bucket = next(n for n in manifest.buckets if n >= length)
    (ids,) = token_ids.batch(manifest.tokenizer, length, 1, args.seed)
    return operators(model.path, bucket, manifest.dimension, ids, threads, args.repetitions)
