"""The command `edge_embed train`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from edge_embed.cli import options

SUMMARY = "train a sentence encoder as a recipe says"
EXTRA = "train"

_EPILOG = """\
Run the same command again to continue a stopped run. In several processes, on one machine or more:
  torchrun --nproc-per-node 2 -m edge_embed train recipe.toml -o run

docs/training.md describes recipes."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed train`."""
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="a TOML file")
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        help="directory of the run (default: the name of the recipe file without its ending)",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help="where to keep tables and teacher vectors, which runs can share (default: DIR of --output)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="run a few steps of every stage, report steps, time and memory, and keep nothing",
    )
    options.add_json(parser, "print the result as JSON")
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Trains, and prints the scores."""
    # Imported here: the help must not wait for torch.
    from edge_embed_train.run import estimate, train

    if args.dry_run:
        stages = estimate(args.recipe)
        if args.json:
            options.print_json([asdict(stage) for stage in stages], indent=1)
            return 0
        for stage in stages:
            time = (
                ""
                if stage.seconds is None
                else f", {stage.seconds_per_step:.3g} s a step, {stage.seconds:.0f} s"
            )
            print(f"{stage.name} ({stage.kind}): {stage.steps} steps{time}, {stage.memory / 1e6:.0f} MB")
        return 0
    trained = train(args.recipe, args.output or args.recipe.with_suffix(""), cache=args.cache)
    if args.json:
        options.print_json({"model": str(trained.model), "scores": trained.scores}, indent=1)
        return 0
    for name, scores in trained.scores.items():
        print(f"{name}: " + ", ".join(f"{key} {100 * value:.2f}" for key, value in scores.items()))
    print(f"saved {trained.model}; next: edge_embed convert {trained.model}")
    return 0
