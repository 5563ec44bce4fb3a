"""What to call a subject: as short as tells it from the others of the same report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from edge_embed_bench.records.record import OURS, Record

Label = Callable[[Record], str]

HASH_DIGITS = 8
"""Of a file's hash, where it tells files apart."""


def model_name(record: Record) -> str:
    """Returns the model, with its recipe where the engine is ours: a peer has a form of its own."""
    own = record.engine.name == OURS
    return f"{record.model.name}.{record.model.recipe}" if own else record.model.name


def machine_name(record: Record) -> str:
    """Returns the device, or its processor where it has no name."""
    return record.machine.model or record.machine.cpu


def files_by_name(records: Iterable[Record]) -> dict[str, set[tuple[str, str]]]:
    """Returns the files and hashes behind each name; an old and a new build of a model share theirs."""
    files: dict[str, set[tuple[str, str]]] = {}
    for record in records:
        if record.engine.name == OURS:
            files.setdefault(record.label, set()).add((record.model.file, record.model.sha256))
    return files


def labels(records: Sequence[Record]) -> Label:
    """Returns a function that names a record's subject.

    The name is the engine's, or the model's where the engine is ours; the file's where two files have one
    name. What the records of a report do not share is added: machine, target, threads, batch, and the time
    of the run where one cell was measured twice.
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
