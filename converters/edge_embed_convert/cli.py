"""The command `edge_embed convert`, and the part of `edge_embed verify` that reruns the gate."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edge_embed._progress import step_bar
from edge_embed.cli import _options as options

if TYPE_CHECKING:
    from edge_embed_convert.checkpoint import CheckpointOptions


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed convert`."""
    parser.add_argument("source", help="sentence-transformers or transformers directory, or a hub id")
    parser.add_argument(
        "-o", "--output", metavar="PATH", help="file to write, or a directory (default: here)"
    )
    parser.add_argument(
        "--recipe", metavar="NAME",
        help="fp32, fp16, int8, int4, mixed, int8-block32, int4-block32, or a spelling such as e4_a8_f4_p4 "
        "(default: mixed for EmbeddingGemma, int8 for BERT)",
    )  # fmt: skip
    parser.add_argument(
        "--buckets",
        type=_lengths,
        metavar="N,N,…",
        help="input lengths (default: 16, 32, … up to the maximum)",
    )
    parser.add_argument("--name", help="what to call the model (default: the checkpoint's name)")
    parser.add_argument(
        "--force", action="store_true", help="save a file that failed verification, marked so"
    )
    options.add_threads(parser)
    options.add_json(parser, "print the report as JSON")
    options.add_checkpoint(parser)


def run(args: argparse.Namespace) -> int:
    """Converts and prints the parity report.

    Returns:
        0 if the file was verified, 1 if it was saved in spite of failing.
    """
    # Imported here: the help must not wait for numpy and torch.
    from edge_embed._parity import format_report  # noqa: PLC0415
    from edge_embed_convert.pipeline import convert  # noqa: PLC0415

    with step_bar("converting") as progress:
        result = convert(
            args.source, args.output, recipe=args.recipe, buckets=args.buckets, name=args.name,
            num_threads=args.threads, force=args.force, progress=progress, **_checkpoint_options(args),
        )  # fmt: skip
    manifest, size = result.manifest, result.path.stat().st_size
    if args.json:
        report = json.loads(manifest.to_json())
        keys = ("name", "recipe", "buckets", "dimension", "parity", "tools")
        summary = {"path": str(result.path), "bytes": size, "notes": list(result.notes)}
        options.print_json(summary | {key: report[key] for key in keys}, indent=1)
    else:
        print(format_report(manifest.parity))
        for note in result.notes:
            print(f"note: {note}")
        print(f"saved {result.path}: {size / 1e6:.1f} MB, {manifest.recipe.name} ({manifest.recipe.spec}), "
              f"buckets {', '.join(map(str, manifest.buckets))}")  # fmt: skip
    return 0 if manifest.parity.passed else 1


def verify_against_source(model_path: Path, source: str, args: argparse.Namespace) -> int:
    """Reruns the gate: `edge_embed verify MODEL --source CHECKPOINT`.

    Args:
        model_path: The model file.
        source: Its checkpoint, a directory or a hub id.
        args: The parsed command line, with the options of `options.add_checkpoint`.

    Returns:
        0 if the file agrees with the source, 1 if not.
    """
    from edge_embed._parity import format_report  # noqa: PLC0415
    from edge_embed_convert.verify import verify_file  # noqa: PLC0415

    with step_bar("verifying") as progress:
        parity, same_weights = verify_file(
            model_path, source, num_threads=args.threads, progress=progress, **_checkpoint_options(args)
        )
    if args.json:
        from dataclasses import asdict  # noqa: PLC0415

        options.print_json({"same_weights": same_weights, "parity": asdict(parity)}, indent=1)
    else:
        print(format_report(parity))
        print(
            "source weights: "
            + ("the ones it was made from" if same_weights else "not the ones it was made from")
        )
    return 0 if parity.passed and same_weights else 1


def _checkpoint_options(args: argparse.Namespace) -> CheckpointOptions:
    return {
        "pooling": args.pooling,
        "max_tokens": args.max_tokens,
        "sliding_window": args.sliding_window,
        "without_dense": args.without_dense,
        "revision": args.revision,
    }


def _lengths(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected lengths such as 16,64,256, got {text!r}") from None
