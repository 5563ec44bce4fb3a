"""`python -m edge_embed_train.ablations NAME --text CORPUS --sts FILE --teacher DIR -o DIRECTORY`."""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
from pathlib import Path

from edge_embed.errors import EdgeEmbedError
from edge_embed_train.ablations.arms import ABLATIONS
from edge_embed_train.ablations.run import Settings, run_ablation, save, to_markdown


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m edge_embed_train.ablations", description=__doc__)
    parser.add_argument("name", choices=list(ABLATIONS))
    parser.add_argument("--text", type=Path, required=True, help="directory of the corpus")
    parser.add_argument("--sts", type=Path, required=True, help="a .tsv of scored pairs of sentences")
    parser.add_argument("--teacher", type=Path, required=True, help="a sentence-transformers directory")
    parser.add_argument("--source", default="cpp-docs", help="whose pairs train (default: cpp-docs)")
    parser.add_argument(
        "--more", default="openstax", help="the second source of mixtures (default: openstax)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("-o", "--output", type=Path, required=True, help="where results and runs go")
    args = parser.parse_args()
    settings = Settings(
        train=args.text / f"{args.source}.train.jsonl.xz",
        more=args.text / f"{args.more}.train.jsonl.xz",
        valid=args.text / f"{args.source}.valid.jsonl.xz",
        sts=args.sts,
        teacher=args.teacher,
        rows=args.rows,
        steps=args.steps,
        batch=args.batch,
    )
    try:
        result = run_ablation(
            args.name,
            settings,
            range(1, args.seeds + 1),
            args.output / "runs",
            lambda line: print(line, file=sys.stderr),
        )
    except EdgeEmbedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    words = ["python", "-m", "edge_embed_train.ablations", args.name, "--steps", str(args.steps)]
    words += ["--rows", str(args.rows), "--batch", str(args.batch), "--seeds", str(args.seeds)]
    result |= {"command": shlex.join(words), "machine": f"{platform.machine()}, {platform.system()}"}
    save(result, args.output / f"training-{args.name}.json")
    print(to_markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
