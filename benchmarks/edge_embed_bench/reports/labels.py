"""The names of subjects: as short as possible, but different within a report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from edge_embed_bench.records.record import OURS, Record

Label = Callable[[Record], str]

HASH_DIGITS = 8
"""Of a file's hash, where it tells files apart."""


def model_name(record: Record) -> str:
    """Returns the name of the model, with its recipe if the engine is ours."""
    own = record.engine.name == OURS
    return f"{record.model.name}.{record.model.recipe}" if own else record.model.name


def machine_name(record: Record) -> str:
    """Returns the name of the device, or of its processor if the device has none."""
    return record.machine.model or record.machine.cpu


def files_by_name(records: Iterable[Record]) -> dict[str, set[tuple[str, str]]]:
    """Returns the files and hashes of each name. An old and a new build of a model have the same name."""
    files: dict[str, set[tuple[str, str]]] = {}
    for record in records:
        if record.engine.name == OURS:
            files.setdefault(record.label, set()).add((record.model.file, record.model.sha256))
    return files


def labels(records: Sequence[Record]) -> Label:
    """Returns a function that names a record's subject.

    The name is that of the engine; if the engine is ours, that of the model, or of the file if two files have
    the same name. Values that differ within the report are added: machine, target, threads, batch, and the
    time of the run if a cell was measured twice.
    """
    files = files_by_name(records)

    def subject(record: Record) -> str:
        same = files[record.label] if record.engine.name == OURS else set()
        if len(same) < 2:
            return record.label
        unique = len({file for file, _ in same}) == len(same)
        return record.model.file if unique else f"{record.model.file} {record.model.sha256[:HASH_DIGITS]}"

    details: list[Label] = [
        detail
        for detail in (
            machine_name,
            lambda r: f"{r.cell.target}/{r.cell.accelerator}",
            lambda r: f"threads {r.cell.threads}",
            lambda r: f"batch {r.cell.batch}",
        )
        if len({detail(r) for r in records}) > 1
    ]

    def name(record: Record) -> str:
        return ", ".join([subject(record), *(detail(record) for detail in details)])

    if len({(r.kind, name(r), r.cell.length) for r in records}) < len(records):
        details.append(lambda r: r.run.started)
    return name
