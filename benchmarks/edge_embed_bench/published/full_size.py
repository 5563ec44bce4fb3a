"""The full-size checks: goals for EmbeddingGemma-300M's shape, measured on a random checkpoint.

`make full` runs it. It takes about fifteen minutes, 5 GB of memory and 8 GB of disk. Every check prints its
figure and its goal. The exit code is 1 if a goal is missed. No figure says anything about quality, because
the weights are random.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edge_embed import Embedder
from edge_embed.errors import EdgeEmbedError
from edge_embed_bench.files import ensure_directory
from edge_embed_bench.published.exactness import largest_difference
from edge_embed_bench.published.measured_conversion import convert
from edge_embed_bench.records.machine import describe_machine
from edge_embed_bench.run import session
from edge_embed_bench.synthetic.tokenizers import gemma_tokenizer_files

LENGTHS = (8, 256, 600, 1800)
"""Token counts at which vectors are compared: short, the window's radius, beyond the window, and long."""

QUERY = "which planet of the whole solar system is known as the red one among those we know"
"""Shortened by words until it fits into sixteen tokens of the tokenizer."""

HALF_TEXTS = 10

ROUNDS = 15


@dataclass(frozen=True)
class Check:
    """One figure beside its goal."""

    name: str
    figure: float
    unit: str
    goal: str
    met: bool


class Report:
    """Collects checks and prints each as it comes."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def at_most(self, name: str, figure: float, goal: float, unit: str) -> None:
        """Records a figure that must not exceed its goal."""
        self._add(Check(name, figure, unit, f"at most {goal:g}", figure <= goal))

    def at_least(self, name: str, figure: float, goal: float, unit: str) -> None:
        """Records a figure that must reach its goal."""
        self._add(Check(name, figure, unit, f"at least {goal:g}", figure >= goal))

    def _add(self, check: Check) -> None:
        self.checks.append(check)
        mark = "ok    " if check.met else "MISSED"
        print(f"{mark} {check.name:<66} {check.figure:>12.7g} {check.unit:<5} {check.goal}", flush=True)


def exactness(checkpoint_path: Path, report: Report) -> None:
    """Compares the rewritten encoder with transformers, both in float32 PyTorch."""
    from edge_embed_convert.graph.rewrite import build
    from edge_embed_convert.source import checkpoint as checkpoints
    from edge_embed_convert.source.reference import Reference

    checkpoint = checkpoints.load(checkpoint_path)
    sequences = _id_sequences(checkpoint.config["vocab_size"])
    worst = largest_difference(build(checkpoint, 0), Reference(checkpoint).embed_tokens, sequences)
    report.at_most("rewritten encoder against transformers, max |Δ| of the unit vector", worst, 1e-5, "")


def half_precision(report: Report) -> None:
    """Runs the full depth in float16 arithmetic with outlier-heavy norm gains."""
    import torch
    from transformers import Gemma3TextConfig, Gemma3TextModel

    from edge_embed_convert.families.gemma3 import FAMILY, Gemma3Config
    from edge_embed_convert.families.gemma3.encoder import Gemma3
    from edge_embed_convert.source.weights import Weights

    shape = {**FAMILY.released.config, "vocab_size": 4096}  # overflow does not depend on the vocabulary
    torch.manual_seed(0)
    plain = Gemma3TextModel(Gemma3TextConfig(**shape)).eval()
    for name, parameter in plain.named_parameters():
        if "embed_tokens" in name:
            parameter.data = torch.randn_like(parameter) * 0.05  # as in the synthetic checkpoint
        elif "norm" in name and not name.endswith(("q_norm.weight", "k_norm.weight")):
            parameter.data = torch.randn_like(parameter).abs() * 2
            parameter.data[:4] = 4000.0 if "post_" in name else 30.0
    encoder = Gemma3(Weights.from_tensors(dict(plain.state_dict())), Gemma3Config.parse(shape), 0).eval()
    original, half = copy.deepcopy(plain).half(), copy.deepcopy(encoder).half()
    overflowed, cosines, bad = 0.0, [], 0.0
    with torch.inference_mode():
        for _ in range(HALF_TEXTS):
            tokens = torch.randint(3, 4096, (1, 64))
            expected = plain(input_ids=tokens).last_hidden_state.mean(1)
            ours, _ = half(tokens.to(torch.int32))
            overflowed = max(overflowed, _bad_share(original(input_ids=tokens).last_hidden_state))
            bad = max(bad, _bad_share(ours))
            cosines.append(torch.nn.functional.cosine_similarity(ours.float().mean(1), expected).item())
    report.at_least("original in float16: share of values that overflowed", overflowed, 1e-9, "")
    report.at_most("rewritten in float16: share of values that overflowed", bad, 0.0, "")
    # The median, because in a random network this deep single texts differ much with any rounding.
    median = statistics.median(cosines)
    report.at_least(f"rewritten in float16: cosine to float32, {HALF_TEXTS} texts", median, 0.999, "")


def float_file(checkpoint_path: Path, work: Path, report: Report) -> None:
    """Converts to float32 and compares the file with the source at every length."""
    from edge_embed_convert.source import checkpoint as checkpoints
    from edge_embed_convert.source.reference import Reference

    path = work / "synthetic.fp32.tflite"
    convert(checkpoint_path, path, "--recipe", "fp32")
    reference = Reference(checkpoints.load(checkpoint_path))
    with Embedder(path, weight_cache=work / "cache") as model:
        cosines = [
            float(model.encode_tokens(ids) @ reference.embed_tokens(ids))
            for ids in _id_sequences(model.manifest.tokenizer.vocab_size)
        ]
    report.at_least(
        f"fp32 file at {LENGTHS} tokens: lowest cosine to transformers", min(cosines), 0.99999, ""
    )
    path.unlink()


def mixed_file(checkpoint_path: Path, work: Path, report: Report) -> None:
    """Converts to `mixed` and measures the file: size, load, memory, speed."""
    path, single = work / "synthetic.mixed.tflite", work / "synthetic.mixed.2048.tflite"
    cost = convert(checkpoint_path, path)
    report.at_most("converting with eight buckets: time", cost.seconds / 60, 6, "min")
    report.at_most("converting with eight buckets: peak memory", cost.peak_bytes / 1e9, 8, "GB")
    convert(checkpoint_path, single, "--buckets", "2048")
    size = path.stat().st_size
    report.at_most("mixed file, buckets 16 … 2048", size / 1e6, 190, "MB")
    report.at_most("eight buckets over one", 100 * (size / single.stat().st_size - 1), 3, "%")
    single.unlink()
    query = _sixteen_tokens(path)
    loads = [_child(path, work, query) for _ in range(ROUNDS)][1:]  # the first one packs the weights
    for key, name, goal, unit in (
        ("import", "import edge_embed", 0.2, "s"),
        ("load", "warm load, self-check on", 0.25, "s"),
        ("first", "process start to the first vector of a 16-token query", 0.6, "s"),
        ("anonymous", "anonymous memory after it", 110 * 2**20 / 1e6, "MB"),
    ):
        report.at_most(name, statistics.median(child[key] for child in loads), goal, unit)
    _speed(path, work, report)


def _speed(path: Path, work: Path, report: Report) -> None:
    """Compares 16 tokens in their own bucket with a graph that has a bucket of 256 only, interleaved."""
    with Embedder(path, num_threads=2, weight_cache=work / "cache") as model:
        content = model.tokenize([QUERY])[0][:16]
        long = [*content, *([content[1]] * 240)]
        samples: dict[int, list[float]] = {16: [], 256: []}
        for _ in range(ROUNDS):
            for ids in (content, long[:256]):
                started = time.perf_counter()
                model.encode_tokens(ids)
                samples[16 if ids is content else 256].append(time.perf_counter() - started)
    medians = {length: statistics.median(times[2:]) for length, times in samples.items()}
    ratio = medians[256] / medians[16]
    report.at_least("16-token query against the same graph with the 256 bucket only", ratio, 6, "x")
    print(f"       2 threads: 16 tokens {medians[16] * 1e3:.1f} ms, 256 tokens {medians[256] * 1e3:.1f} ms")


CHILD = """
import time; start = time.perf_counter()
import json, sys
import edge_embed; imported = time.perf_counter()
model = edge_embed.Embedder(sys.argv[1], weight_cache=sys.argv[2], num_threads=2)
loaded = time.perf_counter()
model.encode(sys.argv[3]); first = time.perf_counter()
lines = open("/proc/self/smaps_rollup").read().splitlines()
anonymous = next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Anonymous:"))
print(json.dumps({"import": imported - start, "load": loaded - imported, "anonymous": anonymous}))
"""


def _sixteen_tokens(path: Path) -> str:
    """Returns the longest beginning of the query that fits into sixteen tokens."""
    with Embedder(path, weight_cache="memory") as model:
        words = QUERY.split()
        while len(model.tokenize([" ".join(words)])[0]) > 16:
            words.pop()
    return " ".join(words)


def _child(path: Path, work: Path, query: str) -> dict[str, float]:
    """Loads and embeds one query in a fresh process."""
    command = [sys.executable, "-c", CHILD, str(path), str(work / "cache"), query]
    started = time.perf_counter()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(output)
    # Timed from outside, so that it includes start and end of the interpreter.
    return figures | {"first": time.perf_counter() - started}


def _id_sequences(vocabulary: int) -> Iterator[list[int]]:
    generator = np.random.default_rng(0)
    for length in LENGTHS:
        yield [2, *(int(i) for i in generator.integers(3, vocabulary, length - 2)), 1]


def _bad_share(values: object) -> float:
    import torch

    assert isinstance(values, torch.Tensor)
    return float((~torch.isfinite(values)).float().mean())


@contextmanager
def _workspace(directory: Path) -> Iterator[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    """Runs every check."""
    parser = argparse.ArgumentParser(prog="make full", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tokenizer", type=Path, help="Gemma's tokenizer.json (default: a synthetic one of its size)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("build/full-size"), help="scratch directory, removed at the end"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("benchmarks/results"), help="where the report goes"
    )
    args = parser.parse_args()
    from edge_embed_convert.families import family_named
    from edge_embed_convert.random_checkpoint import write_random_checkpoint

    ensure_directory(args.results)  # before twenty minutes of work
    report = Report()
    with session.ending_in_order(), _workspace(args.work) as work:
        files = gemma_tokenizer_files()
        if args.tokenizer:
            files = {"tokenizer.json": args.tokenizer.read_bytes()}
        checkpoint = write_random_checkpoint(work / "synthetic", family_named("embeddinggemma"), files)
        steps: list[Callable[[], None]] = [
            lambda: exactness(checkpoint, report),
            lambda: half_precision(report),
            lambda: mixed_file(checkpoint, work, report),
            lambda: float_file(checkpoint, work, report),
        ]
        for step in steps:
            step()
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")
    _save(report, args.results, "real" if args.tokenizer else "synthetic")
    return 0 if all(check.met for check in report.checks) else 1


def _save(report: Report, directory: Path, tokenizer: str) -> None:
    command = "make full" + (" TOKENIZER=tokenizer.json" if tokenizer == "real" else "")
    machine = describe_machine()
    record = {"command": command, "machine": machine, "checks": [asdict(check) for check in report.checks]}
    (directory / "full-size.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    rows = [
        f"| {c.name} | {c.figure:.4g} {c.unit} | {c.goal} | {'yes' if c.met else 'no'} |"
        for c in report.checks
    ]
    lines = [
        "# Full-size checks on a random EmbeddingGemma-300M",
        "",
        f"`{command}` on {machine}",
        "",
        "| check | figure | goal | met |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
    (directory / "full-size.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgeEmbedError as error:
        sys.exit(f"full-size: {error}")
