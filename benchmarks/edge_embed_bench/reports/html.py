"""Records as one HTML page without other files."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

from edge_embed_bench.records.machine import describe
from edge_embed_bench.records.record import FAILED, Record
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
from edge_embed_bench.reports.markdown import versions
from edge_embed_bench.reports.plots import draw

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; background: #fff; margin: 2rem auto;
       max-width: 96rem; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .4rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
p { margin: .3rem 0; } .shared, .facts { color: #5a6675; font-size: 13px; }
.warning { background: #fff4d6; border-left: 4px solid #d99a00; padding: .4rem .8rem; margin: .8rem 0; }
code { background: #f2f4f7; padding: .1rem .35rem; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; }
div.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th { font-weight: 600; color: #46515f; background: #f6f8fa; position: sticky; top: 0; }
th, td { border-bottom: 1px solid #e3e7ec; padding: .25rem .6rem; text-align: right; white-space: nowrap; }
th.text, td.text { text-align: left; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
th:first-child { background: #f6f8fa; }
tr.begins td { border-top: 2px solid #aeb8c4; }
td.best { font-weight: 700; background: #e4f3e8; }
tr.failed td { color: #a11; }
tr.failed td.status { white-space: normal; min-width: 22rem; }
"""


def to_html(records: Sequence[Record], quality: Mapping[str, float] | None = None) -> str:
    """Returns the page.

    Args:
        records: The records.
        quality: Scores by the model file's name, for the plot of size against quality.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    notes = remarks(records)
    warnings = [note for note in notes if not note.startswith("not measured")]
    image = base64.b64encode(draw(records, quality, form="svg")).decode("ascii")
    body = ["<h1>Benchmark</h1>"]
    body += [f"<p><code>{_text(c)}</code></p>" for c in dict.fromkeys(r.run.command for r in records)]
    body += [f'<p class="facts">{_text(m)}</p>' for m in dict.fromkeys(map(_machine, records))]
    body += [f'<p class="warning">{_text(note)}</p>' for note in warnings]
    body += [f'<p><img alt="{_text(_alternative(records))}" src="data:image/svg+xml;base64,{image}"></p>']
    for summary in summaries(records):
        body += [f"<h2>{_text(summary.title)}</h2>", *_pivot(summary)]
    for table in tables(records):
        body += [f"<h2>{_text(table.title)}</h2>", *_table(table)]
    lines = [*versions(records), *(note for note in notes if note not in warnings)]
    body += ["<h2>Notes</h2>", '<ul class="facts">', *(f"<li>{_text(line)}</li>" for line in lines), "</ul>"]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Benchmark</title><style>{_STYLE}</style>"
    )
    return "\n".join(
        ["<!doctype html>", f'<html lang="en"><head>{head}</head><body>', *body, "</body></html>", ""]
    )


def _machine(record: Record) -> str:
    features = " ".join(record.machine.features) or "none known"
    return f"{describe(record.machine)}; CPU features: {features}; started {record.run.started[:10]}"


def _alternative(records: Sequence[Record]) -> str:
    names = ", ".join(dict.fromkeys(record.label for record in records))
    return f"Plots of the figures in the tables below, for {names}"


def _pivot(summary: Summary) -> list[str]:
    """Returns the table of subjects by lengths, with the best figures marked."""
    lines = ['<div class="table"><table>', '<tr><th class="text">tokens</th>']
    lines += [*(f"<th>{length}</th>" for length in summary.lengths), "</tr>"]
    for name, row in summary.rows:
        lines.append(f'<tr><td class="text">{_text(name)}</td>')
        for value, leads in zip(row, summary.leads(row), strict=True):
            mark = ' class="best"' if leads else ""
            lines.append(f"<td{mark}>{UNKNOWN if value is None else number(value)}</td>")
        lines.append("</tr>")
    return [*lines, "</table></div>", f'<p class="shared">{LEGEND}</p>']


def _table(table: Table) -> list[str]:
    shared = ", ".join(f"{title} {text}" for title, text in table.shared)
    lines = [f'<p class="shared">Every row: {_text(shared)}</p>'] if shared else []
    kinds = ["text" if c.text else "" for c in table.columns]
    heads = (f'<th class="{k}">{_text(c.title)}</th>' for k, c in zip(kinds, table.columns, strict=True))
    lines += ['<div class="table"><table>', "<tr>", *heads, "</tr>"]
    cell = None
    for row in table.rows:
        classes = ["failed"] if row.status == FAILED else []
        classes += ["begins"] if cell not in (None, row.cell) else []
        cell = row.cell
        lines.append(f'<tr class="{" ".join(classes)}">')
        for kind, column in zip(kinds, table.columns, strict=True):
            names = f"{kind} {column.key}" if column.key == "status" else kind
            lines.append(f'<td class="{names}">{_text(column.show(row))}</td>')
        lines.append("</tr>")
    return [*lines, "</table></div>"]


def _text(text: str) -> str:
    return html.escape(text)
