"""The command `edge_embed inspect`."""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from edge_embed.cli import options

if TYPE_CHECKING:
    from edge_embed.engine.accelerators import Acceleration
    from edge_embed.model_file.file import ModelFile
    from edge_embed.model_file.manifest import Manifest

_INDENT = 14

SUMMARY = "show what a model file holds"

_EPILOG = """\
examples:
  edge_embed inspect model.tflite
  edge_embed inspect model.tflite --json | jq .delegate"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed inspect`."""
    options.add_model(parser)
    parser.add_argument(
        "--no-delegate",
        action="store_true",
        help="do not show the delegate's partitions; only they need the graph to be loaded",
    )
    options.add_accelerator(parser)
    options.add_json(parser, "print everything as one JSON object")
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Prints what the file says of itself, its sizes, and how the delegate takes its graph."""
    from edge_embed.model_file.file import ModelFile  # the help must not wait for these

    model = ModelFile.open(args.model)
    sizes = _sizes(model)
    delegate = [] if args.no_delegate else _delegate(model)
    acceleration = None if args.accelerator == "cpu" else _acceleration(model, args.accelerator)
    if args.json:
        facts = model.manifest.to_dict()
        # A vector in base64 says nothing to a reader.
        facts["self_check"]["embedding"] = f"{model.manifest.dimension} float32"
        extra = {"path": str(model.path), "bytes": model.path.stat().st_size, "sizes": sizes}
        extra |= {"delegate": delegate or None}
        if acceleration is not None:
            extra["acceleration"] = dataclasses.asdict(acceleration)
        options.print_json(extra | facts, indent=1)
    else:
        print("\n".join(_layout(model, sizes, delegate, acceleration)))
    return 0


def _sizes(model: ModelFile) -> dict[str, int]:
    """Returns the bytes of every part of the file; the parts add up to the file."""
    from edge_embed.engine.litert.sizes import graph_sizes

    sizes = {f"graph: {part}": n for part, n in graph_sizes(model.path, model.manifest.graph.bytes).items()}
    sizes |= {name: len(model.read(name)) for name in model.names}
    sizes["zip directory"] = model.path.stat().st_size - sum(sizes.values())
    return sizes


def _delegate(model: ModelFile) -> list[dict[str, Any]]:
    from edge_embed.engine.litert.delegate import partitions
    from edge_embed.progress import progress_bar

    reports = []
    with progress_bar(len(model.manifest.buckets), "delegating", unit="bucket") as advance:
        for length in model.manifest.buckets:
            reports.append({"bucket": length, **dataclasses.asdict(partitions(model.path, length))})
            advance(1)
    return reports


def _acceleration(model: ModelFile, accelerator: str) -> Acceleration:
    """Lets the accelerator take the graph; whether it computes right is for `edge_embed verify` to say."""
    from edge_embed import Embedder
    from edge_embed.errors import AcceleratorWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AcceleratorWarning)  # what it says is what is printed
        with Embedder(
            model.path, accelerator=accelerator, self_check=False, weight_cache="memory"
        ) as embedder:
            return embedder.acceleration


def _layout(
    model: ModelFile,
    sizes: dict[str, int],
    delegate: Sequence[dict[str, Any]],
    acceleration: Acceleration | None,
) -> Iterable[str]:
    from edge_embed.proof.parity import format_report

    manifest = model.manifest
    total = model.path.stat().st_size
    yield from _facts(manifest)
    yield from _section("sizes")
    yield from _table([(part, f"{n:,}", f"{n / total:.1%}") for part, n in [*sizes.items(), ("file", total)]])
    if delegate:
        yield from _section("delegate")
        rows = [("bucket", "operators", "partitions", "outside")]
        rows += [(str(r["bucket"]), str(r["nodes"]), str(r["partitions"]), _outside(r)) for r in delegate]
        yield from _table(rows, left=(3,))
    if acceleration is not None:
        yield from _section(f"accelerator: {acceleration.asked}")
        yield f"  runs on  {acceleration}"
        if acceleration.ran_on != "cpu":
            yield f"  precision  {'float16 allowed' if acceleration.float16 else 'float32'}"
        yield from (f"  passed over {name}: {why}" for name, why in acceleration.passed_over.items())
    yield from _section("parity")
    yield from (f"  {line}" for line in format_report(manifest.parity).splitlines())


def _facts(manifest: Manifest) -> Iterable[str]:
    source, architecture, tokenizer = manifest.source, manifest.architecture, manifest.tokenizer
    revision = f" at {source.revision}" if source.revision else ""
    licence = manifest.licence.name or "not stated"
    files = f" (text in {', '.join(manifest.licence.files)})" if manifest.licence.files else ""
    unit = "unit length" if manifest.normalize else "not normalized"
    yield from _fact("name", manifest.name)
    yield from _fact("source", f"{source.id}{revision}, weights sha256 {source.sha256}")
    yield from _fact("licence", licence + files)
    yield from _fact("family", f"{architecture.family}, {architecture.parameters:,} parameters")
    yield from _fact("vectors", f"{manifest.dimension} numbers, {unit}, compared by {manifest.similarity}")
    yield from _fact("Matryoshka", ", ".join(map(str, manifest.matryoshka_dimensions)) or "not trained for")
    yield from _fact("pooling", " + ".join(manifest.pooling))
    yield from _fact("buckets", ", ".join(map(str, manifest.buckets)))
    yield from _fact("max tokens", str(manifest.max_tokens))
    yield from _fact("tokenizer", f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens")
    yield from _fact("recipe", f"{manifest.recipe.name} = {manifest.recipe.spec}")
    for group, scheme in manifest.recipe.groups.items():
        yield from _fact("", f"{group.replace('_', '-')} in {_scheme(scheme)}")
    yield from _fact("fp16", "safe" if manifest.graph.fp16_safe else "not safe: activations may overflow")
    for index, (name, prompt) in enumerate(manifest.prompts.items()):
        default = "  (default)" if name == manifest.default_prompt_name else ""
        yield from _fact("" if index else "prompts", f"{name}: {prompt!r}{default}")
    if not manifest.prompts:
        yield from _fact("prompts", "none")
    yield from _fact("tools", ", ".join(f"{name} {version}" for name, version in manifest.tools.items()))


def _scheme(scheme: dict[str, Any]) -> str:
    bits, block = scheme.get("bits"), scheme.get("block")
    if bits in (16, 32):
        return f"float{bits}"
    return f"int{bits}, one scale per {f'block of {block}' if block else 'output channel'}"


def _fact(label: str, text: str) -> list[str]:
    first = f"{label:<{_INDENT}}"
    # Long words stay whole: a hash or a path is copied, not read.
    return textwrap.wrap(
        text,
        100,
        initial_indent=first,
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    ) or [first.rstrip()]


def _section(title: str) -> list[str]:
    return ["", title]


def _table(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> Iterable[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            f"{c:<{w}}" if i in left else f"{c:>{w}}"
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"  {'  '.join(cells)}".rstrip()


def _outside(report: dict[str, Any]) -> str:
    return ", ".join(map(str, report["outside"])) or "nothing"
