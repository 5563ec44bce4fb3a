"""The command `edge_embed verify`: is this file whole, and does it still answer as its source did?"""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from edge_embed.cli import options
from edge_embed.cli.commands import load_entry_point
from edge_embed.errors import InputError, ModelFileError, SelfCheckError, TokenizerError
from edge_embed.extras import needs_extra

if TYPE_CHECKING:
    from edge_embed.model_file.file import ModelFile
    from edge_embed.model_file.manifest import Parity
    from edge_embed.model_file.probes import Probe

HOOKS = "edge_embed.verify"
"""The group of entry points through which sibling packages do a part of the work: `source` compares with a
checkpoint, `target` runs the probes on another machine."""

SUMMARY = "compare a model file with the recorded vectors of its source"

_EPILOG = """\
The file holds probes, and the float32 vectors that its source computed for them. So a device can compare its
own answers with them, without the source.

examples:
  edge_embed verify model.tflite
  edge_embed verify model.tflite --source sentence-transformers/all-MiniLM-L6-v2
  edge_embed verify model.tflite --accelerator gpu
  edge_embed verify model.tflite --target ssh://pi@raspberrypi.local"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed verify`."""
    options.add_model(parser)
    options.add_threads(parser)
    options.add_accelerator(parser)
    parser.add_argument(
        "--source",
        metavar="CHECKPOINT",
        help="compare with the checkpoint itself (needs the extra 'convert')",
    )
    options.add_checkpoint(parser)
    elsewhere = parser.add_argument_group("on another machine")
    elsewhere.add_argument(
        "--target",
        metavar="NAME",
        default="local",
        help="run the probes on this target: emulated:aarch64[/CPU], ssh://[USER@]HOST[:PORT], adb[:SERIAL], "
        "browser (default: local; see docs/devices.md)",
    )
    options.add_target(elsewhere)
    options.add_json(parser, "print the checks and the report as one JSON object")
    parser.epilog = _EPILOG


@dataclasses.dataclass(frozen=True)
class Check:
    """One question put to the file."""

    name: str
    passed: bool
    detail: str


def run(args: argparse.Namespace) -> int:
    """Runs every check and prints the report.

    Returns:
        0 if all passed, else 1.
    """
    from edge_embed.model_file.file import ModelFile  # the help must not wait for these

    if args.source and args.target != "local":
        raise InputError(
            "--source compares on this machine, --target on another one", fix="leave one of them out"
        )
    model = ModelFile.open(args.model)
    checks = [_integrity(model)]
    # A damaged graph is not given to native code.
    if args.source and checks[0].passed:
        with needs_extra("convert", "edge_embed verify --source"):
            code: int = load_entry_point(HOOKS, "source")(args.model, args.source, args)
        return code
    parity = None
    if checks[0].passed:
        here = args.target == "local"
        if here:
            checks.append(_self_check(model, args.threads, args.accelerator))
            if args.accelerator != "cpu" and not checks[-1].passed:
                return _finish(args, model, checks, None)  # its vectors have failed already
        parity = (
            compare_probes(model, args.threads, args.accelerator) if here else _compare_on_target(model, args)
        )
        where = "" if here else f", on {args.target}"
        checks.append(
            Check("probes", parity.passed, f"{parity.probes} probes against the source's own vectors{where}")
        )
    return _finish(args, model, checks, parity)


def _finish(args: argparse.Namespace, model: ModelFile, checks: list[Check], parity: Parity | None) -> int:
    """Prints the report and returns the exit code."""
    passed = all(check.passed for check in checks)
    if args.json:
        report = {
            "path": str(model.path),
            "target": args.target,
            "accelerator": args.accelerator,
            "passed": passed,
            "checks": [dataclasses.asdict(c) for c in checks],
        }
        options.print_json(report | {"parity": parity and dataclasses.asdict(parity)}, indent=1)
    else:
        _print(checks, parity)
    return 0 if passed else 1


def compare_probes(model: ModelFile, num_threads: int | None, accelerator: str = "cpu") -> Parity:
    """Runs every stored probe as a user would and compares with the vectors of the source.

    Raises:
        ModelFileError: If the file's probes cannot be read or do not belong to its manifest.
    """
    from edge_embed.progress import progress_bar
    from edge_embed.proof.rerun import rerun_probes

    probes, manifest = model.probes(), model.manifest
    _check_probes(probes, model)
    with progress_bar(len(probes), "probes", unit="probe") as advance:
        return rerun_probes(
            model.path,
            probes,
            thresholds=manifest.parity.thresholds,
            k=manifest.parity.neighbours_k,
            num_threads=num_threads,
            advance=advance,
            accelerator=accelerator,
        )


def _compare_on_target(model: ModelFile, args: argparse.Namespace) -> Parity:
    _check_probes(model.probes(), model)
    with needs_extra("bench", "edge_embed verify --target"):
        parity: Parity = load_entry_point(HOOKS, "target")(
            args.target,
            model,
            args.threads,
            prepare=args.prepare_target,
            python=args.target_python,
            accelerator=args.accelerator,
        )
    return parity


def _check_probes(probes: list[Probe], model: ModelFile) -> None:
    if not probes:
        raise ModelFileError(
            f"{model.path} contains no probes", fix="convert the model again, or use --source"
        )
    unknown = {probe.prompt_name for probe in probes if probe.prompt_name is not None} - set(
        model.manifest.prompts
    )
    if unknown:
        raise ModelFileError(
            f"the probes of {model.path} name prompts that its manifest lacks",
            got=", ".join(sorted(unknown)),
            fix="convert the model again",
        )


def _integrity(model: ModelFile) -> Check:
    """Hashes the graph, and reads every member, which checks their sums and the tokenizer's hash."""
    try:
        model.verify_graph()
        for name in model.names:
            model.read(name)
    except (ModelFileError, TokenizerError) as error:
        return Check("integrity", False, str(error))
    size = model.manifest.graph.bytes
    return Check("integrity", True, f"sha256 of {size:,} bytes of graph, {len(model.names)} members")


def _self_check(model: ModelFile, num_threads: int | None, accelerator: str) -> Check:
    from edge_embed import Embedder

    try:
        with Embedder(
            model.path, num_threads=num_threads, weight_cache="memory", accelerator=accelerator
        ) as embedder:
            where = "" if accelerator == "cpu" else f" on {embedder.acceleration}"
    except SelfCheckError as error:
        return Check("self-check", False, str(error))
    return Check("self-check", True, f"cosine at least {model.manifest.self_check.min_cosine}{where}")


def _print(checks: list[Check], parity: Parity | None) -> None:
    from edge_embed.proof.parity import format_report

    for check in checks:
        print(f"{check.name:<12}{'passed' if check.passed else 'FAILED'}  {check.detail}")
    if parity is not None:
        print(f"\n{format_report(parity)}")
