"""The command `edge_embed cache`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed.cli import options
from edge_embed.errors import InputError

if TYPE_CHECKING:
    from edge_embed.engine.cache_directory import CacheEntry

SUMMARY = "list or remove packed weights on disk"

_DAY = 86_400

_EPILOG = """\
actions:
  list   show each model's packed weights (default)
  size   show the bytes of packed weights and of everything else in the directory
  prune  remove the remains of interrupted processes, and what --unused-days and --max-size select
  clear  remove all packed weights; they are packed again when a model is loaded

Packed weights are a copy of a model's weights in the form that this processor reads fastest. They are stored
in EDGE_EMBED_CACHE, or by default in the user's cache directory. EDGE_EMBED_CACHE_SIZE, such as 2GB, limits
their size: the longest unused are removed first.

examples:
  edge_embed cache
  edge_embed cache prune --unused-days 30
  edge_embed cache prune --max-size 1GB"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed cache`."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=("list", "size", "prune", "clear"),
        default="list",
        help="the actions are explained below",
    )
    parser.add_argument(
        "--directory",
        metavar="DIR",
        type=Path,
        help="use this cache directory (default: EDGE_EMBED_CACHE or the user's)",
    )
    parser.add_argument(
        "--unused-days",
        metavar="N",
        type=options.positive,
        help="prune: remove packed weights that were not used for N days",
    )
    parser.add_argument(
        "--max-size",
        metavar="SIZE",
        help="prune: remove the longest unused until all others fit into this size",
    )
    options.add_json(parser, "print the result as JSON")
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Lists or removes."""
    from edge_embed.engine import cache_directory as cache

    if args.action != "prune" and (args.unused_days or args.max_size):
        raise InputError("--unused-days and --max-size can only be used with prune", got=args.action)
    limit = cache.parse_size(args.max_size, "--max-size") if args.max_size else None
    directory = args.directory or cache.default_directory()
    if directory is None:
        raise InputError("there is no cache directory", fix="set EDGE_EMBED_CACHE, or pass --directory")
    removed: list[CacheEntry] = []
    leftovers: list[Path] = []
    if args.action == "prune":
        leftovers = cache.sweep(directory)
        if args.unused_days:
            oldest = time.time() - args.unused_days * _DAY
            removed += [entry for entry in cache.entries(directory) if entry.last_used < oldest]
        for entry in removed:
            cache.remove(entry)
        if limit is not None:
            removed += cache.evict(directory, limit)
    elif args.action == "clear":
        removed = cache.entries(directory)
        for entry in removed:
            cache.remove(entry)
        leftovers = cache.sweep(directory, age=0.0)
    kept = cache.entries(directory)
    facts: dict[str, Any] = {
        "directory": str(directory),
        "bytes": sum(entry.size for entry in kept),
        "limit": cache.size_limit(),
        "entries": [_facts(entry) for entry in kept],
        "removed": [_facts(entry) for entry in removed],
        "removed_leftovers": len(leftovers),
        "other_bytes": _other_bytes(directory),
    }
    if args.json:
        options.print_json(facts, indent=1)
    else:
        print("\n".join(_lines(args.action, facts)))
    return 0


def _facts(entry: CacheEntry) -> dict[str, Any]:
    return {"key": entry.key, "model": entry.model, "bytes": entry.size, "last_used": round(entry.last_used)}


def _other_bytes(directory: Path) -> dict[str, int]:
    """Returns the bytes of each subdirectory: what conversions and benchmarks keep."""
    return {
        folder.name: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        for folder in sorted(directory.glob("*/"))
        if folder.is_dir()
    }


def _lines(action: str, facts: dict[str, Any]) -> list[str]:
    lines = [f"{facts['directory']}: {_megabytes(facts['bytes'])} of packed weights"]
    if facts["limit"] is not None:
        lines[0] += f", limit {_megabytes(facts['limit'])}"
    if action == "size":
        return lines + [f"  {name}: {_megabytes(size)}" for name, size in facts["other_bytes"].items()]
    if action in ("prune", "clear"):
        count = len(facts["removed"])
        lines.append(f"removed {count} models and {facts['removed_leftovers']} leftover files")
    for entry in facts["entries"]:
        day = time.strftime("%Y-%m-%d", time.localtime(entry["last_used"]))
        name = entry["model"] or "unknown model"
        lines.append(f"  {_megabytes(entry['bytes']):>10}  used {day}  {name}  {entry['key'][:12]}")
    return lines


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
