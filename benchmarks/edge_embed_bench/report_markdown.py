"""Records as Markdown, in the form in which figures are published: command, machine, versions, tables."""

from __future__ import annotations

from collections.abc import Sequence

from edge_embed_bench.columns import Column, remarks, tables
from edge_embed_bench.machine import describe
from edge_embed_bench.record import Record

TITLES = {"latency": "Latency, memory, size", "corpus": "Corpus throughput"}


def to_markdown(records: Sequence[Record], title: str = "Benchmark", opening: Sequence[str] = ()) -> str:
    """Returns the document.

    Args:
        records: What was measured.
        title: Its head.
        opening: Lines ahead of the command and the tables.
    """
    parts = [f"# {title}", "", *opening]
    parts += [f"`{command}`" for command in dict.fromkeys(r.run.command for r in records)]
    for machine in dict.fromkeys(describe(r.machine) for r in records):
        parts += ["", f"Machine: {machine}."]
    features = dict.fromkeys(" ".join(r.machine.features) for r in records)
    parts += [f"CPU features: {text or 'none known'}." for text in features]
    parts += ["", *versions(records)]
    for columns, rows in tables(records):
        parts += ["", f"## {TITLES[rows[0].kind]}", "", *_table(columns, rows)]
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
            lines.append(f"- {engine}: {', '.join(items)}")
    return lines


def _table(columns: Sequence[Column], rows: Sequence[Record]) -> list[str]:
    head = f"| {' | '.join(c.title for c in columns)} |"
    return [head, "|---" * len(columns) + "|",
            *(f"| {' | '.join(_escape(c.show(r)) for c in columns)} |" for r in rows)]  # fmt: skip


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
