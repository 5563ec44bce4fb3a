"""The command `edge_embed export`."""

from __future__ import annotations

import argparse

from edge_embed.cli import options
from edge_embed.progress import step_bar
from edge_embed_convert.containers.names import CONTAINERS

SUMMARY = "write a model file in a format that Google's own tools load"
EXTRA = "containers"

_EPILOG = """\
examples:
  edge_embed export embeddinggemma.mixed.tflite --to task --bucket 256 -o embeddinggemma.task
  edge_embed export embeddinggemma.mixed.tflite --to litertlm -o embeddinggemma.litertlm
  edge_embed export embeddinggemma.mixed.tflite --to pair -o embeddinggemma-pair"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed export`."""
    options.add_model(parser)
    parser.add_argument(
        "--to",
        choices=CONTAINERS,
        required=True,
        help="task for MediaPipe's TextEmbedder, litertlm for LiteRT-LM's EmbeddingEngine, pair for apps "
        "that take a .tflite and a sentencepiece.model",
    )
    parser.add_argument(
        "--bucket",
        type=options.positive,
        metavar="L",
        help="the input length to keep (default: the longest; in a .litertlm, which can hold several, all)",
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="the file to write; for a pair, a new directory"
    )
    options.add_json(parser, "print what was written as JSON")
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Writes the container and prints the result of reading it back."""
    # Imported here: the help must not wait for numpy.
    from dataclasses import asdict

    from edge_embed_convert.containers.export import export

    with step_bar("exporting") as progress:
        made = export(args.model, args.to, args.output, bucket=args.bucket, progress=progress)
    if args.json:
        options.print_json(asdict(made) | {"path": str(made.path)}, indent=1)
        return 0
    reading = made.reading
    longer = f"; left out as too long: {reading.left_out}" if reading.left_out else ""
    print(
        f"{reading.reader} read it back: {reading.probes} of the file's probes at cosine "
        f"{reading.cosine_min:.6f} or more to the file{longer}\n"
        f"saved {args.output}: {made.bytes / 1e6:.1f} MB, {', '.join(map(str, made.buckets))} tokens"
    )
    return 0
