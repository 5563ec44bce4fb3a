"""Where the time of one text goes: how long each kind of operator takes."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_embed.engine.litert.profile import Profile, operators
from edge_embed.errors import InputError
from edge_embed.options import check_threads
from edge_embed_bench.records.model import Model
from edge_embed_bench.run.matrix import check_lengths
from edge_embed_bench.worker import token_ids

_REST = "(calls, nodes below 1 µs, waiting)"
"""What the run takes beside the operators, which the profiler counts in whole microseconds, rounded down.
On a busy machine each operator has its fastest runs, but a long run as a whole always waits."""


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
                **dataclasses.asdict(found),
            }
            for model, length, threads, found in results
        ]
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    else:
        sys.stdout.write("\n".join(to_text(*result) for result in results))
    return 0


def to_text(model: Model, length: int, threads: int, found: Profile) -> str:
    """Returns the operators as a table, and below it what the whole run takes."""
    whole, width = found.seconds, max(len(_REST), *(len(o.name) for o in found.operators))
    lines = [f"{model.path.name}, {length} tokens, {threads} threads", ""]
    lines += [f"  {'operator':<{width}}  nodes        ms  share"]

    def add(name: str, nodes: int | str, seconds: float) -> None:
        lines.append(f"  {name:<{width}}  {nodes:>5}  {seconds * 1e3:>8.3f}  {seconds / whole:>5.1%}")

    for o in found.operators:
        add(o.name, o.count, o.seconds)
    add(_REST, "", max(0.0, whole - sum(o.seconds for o in found.operators)))
    add("all", sum(o.count for o in found.operators), whole)
    return "\n".join([*lines, ""])


def _measured(model: Model, length: int, threads: int, args: argparse.Namespace) -> Profile:
    manifest = model.manifest
    bucket = next(n for n in manifest.buckets if n >= length)
    (ids,) = token_ids.batch(manifest.tokenizer, length, 1, args.seed)
    return operators(model.path, bucket, manifest.dimension, ids, threads, args.repetitions)
