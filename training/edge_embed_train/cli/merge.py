"""The command `edge_embed merge`."""

from __future__ import annotations

import argparse

from edge_embed.cli import options

SUMMARY = "average the weights of several checkpoints into a new one"
EXTRA = "train"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed merge`."""
    parser.add_argument(
        "checkpoints", metavar="CHECKPOINT", nargs="+", help="sentence-transformers directories, two or more"
    )
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="the directory to write")
    parser.add_argument(
        "--dev",
        metavar="SET",
        nargs="+",
        default=[],
        help="development sets to score every checkpoint and the result on: a .tsv with the header "
        "sentence1, sentence2, score, or a directory in BEIR's layout",
    )
    options.add_json(parser, "print the scores as JSON")


def run(args: argparse.Namespace) -> int:
    """Merges, and prints the scores."""
    # Imported here: the help must not wait for torch.
    from edge_embed_train.merge import merge

    merged = merge(args.checkpoints, args.output, dev=args.dev)
    if args.json:
        options.print_json({"path": str(merged.path), "scores": merged.scores}, indent=1)
        return 0
    for place, scores in merged.scores.items():
        print(f"{place}: " + ", ".join(f"{name} {100 * value:.2f}" for name, value in scores.items()))
    print(f"saved {merged.path}: the average of {len(merged.parents)} checkpoints")
    return 0
