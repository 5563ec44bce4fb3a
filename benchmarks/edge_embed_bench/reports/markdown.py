"""Records as Markdown, the form of the published figures: command, machine, versions, tables."""

from __future__ import annotations

from collections.abc import Sequence

from edge_embed_bench.records.machine import describe
from edge_embed_bench.records.record import Record
from edge_embed_bench.reports.columns import (
    LEGEND,
    UNKNOWN,
    Summary,
    Table,
    number,
    remarks,
    summaries,
    tables,
)


def to_markdown(
    records: Sequence[Record], title: str = "Benchmark", opening: Sequence[str] = (), *, full: bool = False
) -> str:
    """Returns the document.

    Args:
        records: The records.
        title: The heading.
        opening: Lines before the command and the tables.
        full: Every figure, in wider tables.
    """
    parts = [f"# {title}", "", *opening]
    parts += [f"`{command}`" for command in dict.fromkeys(r.run.command for r in records)]
    for machine in dict.fromkeys(describe(r.machine) for r in records):
        parts += ["", f"Machine: {machine}."]
    features = dict.fromkeys(" ".join(r.machine.features) for r in records)
    parts += [f"CPU features: {text or 'none known'}." for text in features]
    parts += ["", *(f"- {line}" for line in versions(records))]
    for summary in summaries(records):
        parts += ["", f"## {summary.title}", "", *_pivot(summary), "", LEGEND]
    for table in tables(records, full=full):
        parts += ["", f"## {table.title}", "", *_table(table)]
    if notes := remarks(records):
        parts += ["", *(f"- {_escape(note)}" for note in notes)]
    return "\n".join(parts) + "\n"


def versions(records: Sequence[Record]) -> list[str]:
    """Returns a line per engine with its versions and settings."""
    lines = []
    for engine in dict.fromkeys(r.engine.name for r in records):
        facts = [r.engine for r in records if r.engine.name == engine and r.engine.versions]
        if facts:
            items = [f"{k} {v}" for k, v in facts[0].versions.items()]
            items += [f"{k}: {v}" for k, v in facts[0].settings.items()]
            lines.append(f"{engine}: {', '.join(items)}")
    return lines


def _pivot(summary: Summary) -> list[str]:
    """Returns the table of subjects by lengths, with the best figures in bold."""
    rows = []
    for name, row in summary.rows:
        marks = ["**" if leads else "" for leads in summary.leads(row)]
        shown = [
            UNKNOWN if v is None else f"{mark}{number(v)}{mark}" for v, mark in zip(row, marks, strict=True)
        ]
        rows.append([_escape(name), *shown])
    head = ["tokens", *map(str, summary.lengths)]
    return _lines(head, [False, *(True for _ in summary.lengths)], rows)


def _table(table: Table) -> list[str]:
    rows = [[_escape(c.show(r)) for c in table.columns] for r in table.rows]
    lines = _lines([c.title for c in table.columns], [not c.text for c in table.columns], rows)
    shared = ", ".join(f"{title} {_escape(text)}" for title, text in table.shared)
    return [f"Every row: {shared}.", "", *lines] if shared else lines


def _lines(head: Sequence[str], right: Sequence[bool], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = "|".join("---:" if is_right else "---" for is_right in right)
    return [f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
