"""The command `edge_embed convert`, and the part of `edge_embed verify` that reruns the gate."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edge_embed.cli import options
from edge_embed.progress import step_bar
from edge_embed.report_files import check_report_file, write_report

if TYPE_CHECKING:
    from edge_embed_convert.source.checkpoint import CheckpointOptions

SUMMARY = "turn a PyTorch checkpoint into one verified model file"
EXTRA = "convert"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed convert`."""
    parser.add_argument("source", help="sentence-transformers or transformers directory, or a hub id")
    parser.add_argument(
        "-o", "--output", metavar="PATH", help="file to write, or a directory (default: here)"
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="fp32, fp16, int8, int4, mixed, int8-block32, int4-block32, a spelling such as e4_a8_f4_p4, "
        "or auto with a budget (default: that of the model's family, see docs/recipes.md)",
    )
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="texts, one per line, for calibrated recipes and for judging recipes (default: built-in texts)",
    )
    parser.add_argument(
        "--buckets",
        type=_lengths,
        metavar="N,N,…",
        help="input lengths (default: 16, 32, … up to the maximum)",
    )
    parser.add_argument("--name", help="what to call the model (default: the checkpoint's name)")
    parser.add_argument(
        "--force", action="store_true", help="save the file even if verification fails; its manifest says so"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="only report how the checkpoint would be converted, from its configuration; convert nothing",
    )
    parser.add_argument(
        "--prompt",
        metavar="NAME=TEXT",
        type=_prompt,
        action="append",
        default=[],
        help="a prompt that the checkpoint does not name, such as query='query: '; can be repeated",
    )
    parser.add_argument(
        "--default-prompt",
        metavar="NAME",
        help="the name of the prompt for texts that are embedded without naming one",
    )
    budget = parser.add_argument_group("budget of --recipe auto (exactly one)")
    budget.add_argument(
        "--max-size",
        metavar="SIZE",
        type=_size,
        help="size of the file: bytes, or a size such as 17MB or 16MiB",
    )
    budget.add_argument(
        "--min-cosine", metavar="X", type=float, help="mean cosine to the source, such as 0.99"
    )
    budget.add_argument(
        "--max-loss",
        metavar="X",
        type=float,
        help="share of each text's ten nearest neighbours that may differ from the source's, such as 0.05",
    )
    parser.add_argument(
        "--report",
        metavar="FILE,FILE,…",
        type=_paths,
        help="files for the report of --recipe auto: .md, .json, .png, .svg, .pdf "
        "(default: .md and .png beside the file)",
    )
    options.add_threads(parser)
    options.add_json(parser, "print the report as JSON")
    options.add_checkpoint(parser)


def run(args: argparse.Namespace) -> int:
    """Converts and prints the parity report.

    Returns:
        0 if the file passed verification, 1 if it failed and was saved all the same.
    """
    if args.check:
        return _run_check(args)
    if args.recipe == "auto" or any(getattr(args, key) is not None for key in (*BUDGETS, "report")):
        return _run_auto(args)
    # Imported here: the help must not wait for numpy and torch.
    from edge_embed.proof.parity import format_report
    from edge_embed_convert.pipeline import convert

    with step_bar("converting") as progress:
        result = convert(
            args.source,
            args.output,
            recipe=args.recipe,
            calibration=args.calibration,
            buckets=args.buckets,
            name=args.name,
            num_threads=args.threads,
            force=args.force,
            progress=progress,
            **_checkpoint_options(args),
        )
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
        print(
            f"saved {result.path}: {size / 1e6:.1f} MB, {manifest.recipe.name} ({manifest.recipe.spec}), "
            f"buckets {', '.join(map(str, manifest.buckets))}"
        )
    return 0 if manifest.parity.passed else 1


def _run_check(args: argparse.Namespace) -> int:
    """Prints what a conversion would make.

    Returns:
        0 if the checkpoint can be converted as far as its configuration tells, 1 if not.
    """
    from dataclasses import asdict

    from edge_embed.errors import CheckpointError, RecipeError
    from edge_embed_convert.check import check

    recipe = None if args.recipe == "auto" else args.recipe
    try:
        plan = check(
            args.source,
            recipe=recipe,
            buckets=args.buckets,
            name=args.name,
            **_checkpoint_options(args),
        )
    except (CheckpointError, RecipeError) as error:
        if args.json:
            options.print_json({"convertible": False, "reason": str(error)}, indent=1)
        else:
            print(f"{args.source} cannot be converted: {error}")
        return 1
    if args.json:
        options.print_json({"convertible": True, **asdict(plan)}, indent=1)
        return 0
    prompts = ", ".join(
        f"{name}{' (default)' if name == plan.default_prompt_name else ''}" for name in plan.prompts
    )
    print(
        f"{plan.name} can be converted as {plan.family} (model_type {plan.model_type}), as far as its "
        "configuration tells\n"
        f"  recipe      {plan.recipe} ({plan.spec})\n"
        f"  buckets     {', '.join(map(str, plan.buckets))}\n"
        f"  embedding   {' + '.join(plan.pooling)} pooling, {plan.dimension} dimensions\n"
        f"  prompts     {prompts or 'none'}\n"
        f"  file        about {plan.file_bytes / 1e6:.1f} MB "
        f"for {plan.parameters / 1e6:.1f} million weights\n"
        f"  memory      about {plan.memory_bytes / 1e6:.0f} MB beside the weights to run it, "
        f"up to {plan.conversion_bytes / 1e9:.1f} GB to convert it"
    )
    for note in plan.notes:
        print(f"note: {note}")
    return 0


BUDGETS = ("max_size", "min_cosine", "max_loss")


def _run_auto(args: argparse.Namespace) -> int:
    """Searches a recipe, writes its file and what was tried."""
    from edge_embed.errors import InputError, MissingExtraError
    from edge_embed_convert.auto import report as auto_report
    from edge_embed_convert.auto.budget import Budget
    from edge_embed_convert.auto.convert import convert_auto

    if args.recipe != "auto" or args.force:
        raise InputError(
            "a budget and --report need --recipe auto, which does not allow --force",
            got=f"--recipe {args.recipe}" if args.recipe != "auto" else "--recipe auto --force",
            fix="name either a fixed recipe, or auto and exactly one of --max-size, --min-cosine, --max-loss",
        )
    budget = Budget(**{key: getattr(args, key) for key in BUDGETS})
    for path in args.report or []:
        check_report_file(path, auto_report.WRITERS)
    with step_bar("searching") as progress:
        search = convert_auto(
            args.source,
            args.output,
            budget=budget,
            calibration=args.calibration,
            buckets=args.buckets,
            name=args.name,
            num_threads=args.threads,
            progress=progress,
            **_checkpoint_options(args),
        )
    saved, notes = search.conversion.path, list(search.conversion.notes)
    for path in args.report or [saved.with_suffix(".md"), saved.with_suffix(".png")]:
        try:
            write_report(search, path, auto_report.WRITERS)
            notes.append(f"what was tried: {path}")
        except MissingExtraError as error:  # of the default plot; one that was asked for is checked above
            notes.append(f"no plot: {error}")
    manifest, size = search.conversion.manifest, saved.stat().st_size
    if args.json:
        head = {"path": str(saved), "bytes": size, "recipe": manifest.recipe.spec, "notes": notes}
        options.print_json(head | auto_report.summary(search), indent=1)
    else:
        print(auto_report.to_text(search))
        for note in notes:
            print(f"note: {note}")
        print(
            f"saved {saved}: {size / 1e6:.2f} MB, again without a search: --recipe '{manifest.recipe.spec}'"
        )
    return 0


def verify_against_source(model_path: Path, source: str, args: argparse.Namespace) -> int:
    """Reruns the gate: `edge_embed verify MODEL --source CHECKPOINT`.

    Args:
        model_path: The model file.
        source: Its checkpoint, a directory or a hub id.
        args: The parsed command line, with the options of `options.add_checkpoint`.

    Returns:
        0 if the file agrees with the source, 1 if not.
    """
    from edge_embed.proof.parity import format_report
    from edge_embed_convert.gate.rerun import verify_file

    with step_bar("verifying") as progress:
        parity, same_weights = verify_file(
            model_path, source, num_threads=args.threads, progress=progress, **_checkpoint_options(args)
        )
    if args.json:
        from dataclasses import asdict

        options.print_json({"same_weights": same_weights, "parity": asdict(parity)}, indent=1)
    else:
        print(format_report(parity))
        print(
            "source weights: "
            + ("the ones it was made from" if same_weights else "not the ones it was made from")
        )
    return 0 if parity.passed and same_weights else 1


def _checkpoint_options(args: argparse.Namespace) -> CheckpointOptions:
    found: CheckpointOptions = {
        "pooling": args.pooling,
        "max_tokens": args.max_tokens,
        "sliding_window": args.sliding_window,
        "without_dense": args.without_dense,
        "revision": args.revision,
    }
    if "prompt" in args:  # verify takes the prompts of the file
        found["prompts"] = _prompts(args)
        found["default_prompt"] = args.default_prompt
    return found


def _prompts(args: argparse.Namespace) -> dict[str, str]:
    """Returns the prompts of the command line by name.

    Raises:
        InputError: If a name is there twice.
    """
    from edge_embed.errors import InputError

    names = [name for name, _ in args.prompt]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            "a prompt is given twice",
            got=" ".join(f"--prompt {name}={text!r}" for name, text in args.prompt if name in twice),
            expected="each name once",
            fix="give each prompt a name of its own",
        )
    return dict(args.prompt)


def _prompt(text: str) -> tuple[str, str]:
    """Parses a prompt such as query='query: ', for argparse."""
    name, equals, prompt = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"expected NAME=TEXT such as query='query: ', got {text!r}")
    return name.strip(), prompt


def _lengths(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected lengths such as 16,64,256, got {text!r}") from None


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _size(text: str) -> int:
    """Parses a number of bytes such as 17MB, for argparse."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if not found or found[2].upper() not in _UNITS or not float(found[1]):
        raise argparse.ArgumentTypeError(f"expected a size such as 17000000, 17MB or 16MiB, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _paths(text: str) -> list[Path]:
    return [Path(part).expanduser() for part in text.split(",") if part]
