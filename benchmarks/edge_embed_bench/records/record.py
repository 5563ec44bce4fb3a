"""The record: one measured cell, in the one schema that every target writes and every output reads.

Names state their unit: `_s` for seconds, `_bytes`, `_per_s`. Such a figure is positive and finite, or it is
None and `not_measured` has the reason. A record with a zero is refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_embed.errors import InputError
from edge_embed.model_file import schema
from edge_embed_bench.errors import MeasurementError
from edge_embed_bench.records.stats import median, percentile

SCHEMA_VERSION = 2
"""Version 2 added `Machine.model`, `.soc`, `.emulator` and `Record.conditions`; version 1 is read as well."""

READABLE = (1, SCHEMA_VERSION)

OK, FAILED = "ok", "failed"

LATENCY, CORPUS = "latency", "corpus"

OURS = "edge_embed"
"""The engine that is this project; every other one is a peer."""

_UNITS = ("_s", "_bytes")


@dataclass(frozen=True)
class Machine:
    """The machine that a cell was measured on.

    Attributes:
        cpu: The processor's own name.
        architecture: For instance x86_64 or aarch64.
        cores: Cores that the process may use.
        features: Instruction sets that the choice of kernels depends on, for instance avx512_vnni.
        governor: The governor of the clock, None if the system does not report it.
        memory_bytes: Main memory.
        system: Kernel and distribution.
        python: Python's version; None on a target without Python.
        model: The name of the device, for instance of a phone, None if it has none.
        soc: Its system on a chip, None if it does not report it.
        emulator: The emulator, if there is one. Times, memory and clock of such a record are those of the
            emulator, and cannot be compared with those of a device or of another host.
    """

    cpu: str
    architecture: str
    cores: int
    features: list[str]
    governor: str | None
    memory_bytes: int
    system: str
    python: str | None
    model: str | None = None
    soc: str | None = None
    emulator: str | None = None


@dataclass(frozen=True)
class ModelFacts:
    """The file that was measured. A peer's record names the file whose weights and ids it shares.

    Attributes:
        synthetic: Whether the weights are random, so that no figure says anything about quality.
    """

    name: str
    file: str
    sha256: str
    recipe: str
    parameters: int
    dimension: int
    buckets: list[int]
    synthetic: bool


@dataclass(frozen=True)
class EngineFacts:
    """The engine: its name, the versions of its packages, and its settings."""

    name: str
    versions: dict[str, str]
    settings: dict[str, str]


@dataclass(frozen=True)
class Cell:
    """A point of the matrix. `length` counts tokens, special ones too; 0 where texts have many lengths."""

    target: str
    accelerator: str
    length: int
    threads: int
    batch: int


@dataclass(frozen=True)
class Load:
    """The time from a started interpreter to a loaded model, each load in a process of its own.

    Attributes:
        import_s: Importing the engine.
        cold_s: Loading without packed weights or another cache of the engine.
        cold_first_s: The first inference after that.
        warm_s: Loading once those exist; one sample per process.
        first_s: The first inference after each warm load.
    """

    import_s: float
    cold_s: float | None
    cold_first_s: float | None
    warm_s: list[float]
    first_s: list[float]


@dataclass(frozen=True)
class Latency:
    """Repeated calls of one batch.

    Attributes:
        tokens: Tokens per text, special ones included.
        samples_s: Every timed call, in order.
        processor_s: The processor time of each, all threads together; empty where it is not known. Other
            processes change it less than the time.
    """

    tokens: int
    samples_s: list[float]
    median_s: float
    p95_s: float
    tokens_per_s: float
    texts_per_s: float
    processor_s: list[float] = field(default_factory=list)

    @classmethod
    def of(
        cls, samples: Sequence[float], *, tokens: int, batch: int, processor: Sequence[float] = ()
    ) -> Latency:
        """Returns the summary of `samples`.

        Raises:
            MeasurementError: If there are none, or the clock stood still in one.
        """
        if not samples or not all(0 < s < math.inf for s in samples):
            raise MeasurementError(
                "a clock reading is impossible", got=repr(list(samples)[:5]), expected="seconds"
            )
        middle = median(samples)
        return cls(
            tokens,
            list(samples),
            middle,
            percentile(samples, 95),
            tokens * batch / middle,
            batch / middle,
            list(processor) if all(used > 0 for used in processor) else [],  # some clocks tick slowly
        )


@dataclass(frozen=True)
class Memory:
    """The measuring process, interpreter and libraries included.

    Attributes:
        rss_bytes: Resident memory, including shared and mapped pages.
        anonymous_bytes: The part without a file behind it, which the system cannot drop.
        peak_bytes: The highest resident memory so far.
    """

    rss_bytes: int
    anonymous_bytes: int | None
    peak_bytes: int


@dataclass(frozen=True)
class Storage:
    """Bytes on disk: the model file, and the files that the engine keeps to load faster."""

    file_bytes: int
    cache_bytes: int | None


@dataclass(frozen=True)
class Delegate:
    """How the graph of this length was divided, and where it ran.

    Attributes:
        nodes: Operators in the graph.
        partitions: Parts that the delegate took, None if an accelerator does not report them.
        outside: Operators that the interpreter's own kernels run.
        ran_on: The device that ran the delegated part.
    """

    nodes: int
    partitions: int | None
    outside: list[str]
    ran_on: str


@dataclass(frozen=True)
class Agreement:
    """The agreement of the engine's vectors with those of the fp32 source, for the same token ids."""

    cosine_min: float
    least: float


@dataclass(frozen=True)
class Throughput:
    """A whole corpus, tokenization included.

    Attributes:
        corpus: The file's name.
        documents: How many.
        tokens: Their tokens, as run.
        truncated: How many did not fit and were cut.
        total_s: From the first text to the last vector, the model being loaded.
        first_vector_s: From the start of the process to the first document's vector.
        chunks_s: Each call after the first document, of `worker.measure.CALL_BATCHES` batches.
    """

    corpus: str
    documents: int
    tokens: int
    truncated: int
    total_s: float
    first_vector_s: float
    chunks_s: list[float]
    documents_per_s: float
    tokens_per_s: float


@dataclass(frozen=True)
class Conditions:
    """Conditions during the measurement.

    Attributes:
        temperature_before_c: The processor's, in degrees Celsius, warmed up, ahead of the samples.
        temperature_after_c: After the last one.
        cores: The numbers of the cores that the process could use.
    """

    temperature_before_c: float | None
    temperature_after_c: float | None
    cores: list[int]


@dataclass(frozen=True)
class Run:
    """How the cell was measured.

    Attributes:
        command: The command line.
        started: UTC, ISO 8601.
        warmup: Untimed calls ahead of the first sample.
        repetitions: Samples asked for.
        seed: The seed of the token ids.
        interleaved_with: The other engines and files that took turns with this one.
    """

    command: str
    started: str
    warmup: int
    repetitions: int
    seed: int
    interleaved_with: list[str]


@dataclass(frozen=True)
class Record:
    """One engine, one file, one cell. See the field types for the parts.

    Attributes:
        kind: `LATENCY` or `CORPUS`.
        status: `OK` or `FAILED`.
        error: Why it failed.
        latency: Token ids in, vector out.
        text_latency: Text in, vector out, in a text of `text_latency.tokens` tokens.
        memory: Before any text was tokenized.
        text_memory: After it.
        not_measured: Fields that are None, and why.
    """

    kind: str
    status: str
    error: str | None
    engine: EngineFacts
    model: ModelFacts
    cell: Cell
    machine: Machine
    run: Run
    load: Load | None = None
    latency: Latency | None = None
    text_latency: Latency | None = None
    memory: Memory | None = None
    text_memory: Memory | None = None
    storage: Storage | None = None
    delegate: Delegate | None = None
    agreement: Agreement | None = None
    throughput: Throughput | None = None
    conditions: Conditions | None = None
    not_measured: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name, value in _figures(self, ""):
            if not 0 < value < math.inf:
                raise MeasurementError(
                    f"{name} cannot be {value!r}",
                    expected="a positive figure, or None with a reason",
                    fix="measure again; if the error stays, this system does not report it",
                )

    @property
    def label(self) -> str:
        """The engine, and which file where the engine is ours."""
        return f"{self.model.name}.{self.model.recipe}" if self.engine.name == OURS else self.engine.name


def _figures(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """Yields every figure with a unit, by its path."""
    if dataclasses.is_dataclass(value):
        for f in dataclasses.fields(value):
            yield from _figures(getattr(value, f.name), f"{name}.{f.name}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            yield from _figures(item, name)
    elif isinstance(value, (int, float)) and name.endswith(_UNITS):
        yield name, value


def to_json(records: Iterable[Record]) -> str:
    """Returns records as JSON text."""
    rows = [dataclasses.asdict(record) for record in records]
    return (
        json.dumps({"schema_version": SCHEMA_VERSION, "records": rows}, indent=1, ensure_ascii=False) + "\n"
    )


def from_json(text: str | bytes, name: str = "the file") -> list[Record]:
    """Parses what `to_json` wrote.

    Args:
        text: The JSON.
        name: What to call it in an error.

    Raises:
        InputError: If it is not such JSON, is of a newer schema, or a field is missing or of the wrong type.
        MeasurementError: If it holds a figure that cannot be.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not valid JSON", got=str(error)) from error
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or not isinstance(raw.get("records"), list):
        raise InputError(
            f"{name} holds no benchmark records", expected="what edge_embed bench wrote as .json"
        )
    if version not in READABLE:
        raise InputError(
            f"{name} was written by another version of edge_embed bench",
            got=f"schema {version}",
            expected=f"schema {SCHEMA_VERSION}",
            fix="measure again",
        )
    records = [schema.from_json(Record, row, f"{name}: records[{i}]") for i, row in enumerate(raw["records"])]
    # What version 2 added has defaults.
    return [dataclasses.replace(record, schema_version=SCHEMA_VERSION) for record in records]


def read(path: Path) -> list[Record]:
    """Reads a file of records. Raises as `from_json`, also where it cannot be read."""
    try:
        return from_json(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}", got=error.strerror or str(error)) from error
