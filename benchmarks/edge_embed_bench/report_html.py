"""Records as one HTML page that needs nothing beside itself."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

from edge_embed_bench.columns import remarks, tables
from edge_embed_bench.machine import describe
from edge_embed_bench.plots import draw
from edge_embed_bench.record import FAILED, Record
from edge_embed_bench.report_markdown import TITLES, versions

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { border-bottom: 1px solid #d8dce2; padding: .25rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
tr.failed td { color: #a11; white-space: normal; text-align: left; }
div.table { overflow-x: auto; } img { max-width: 100%; } code { background: #f2f4f7; padding: .1rem .3rem; }
"""


def to_html(records: Sequence[Record], quality: Mapping[str, float] | None = None) -> str:
    """Returns the page.

    Args:
        records: What was measured.
        quality: Scores by the model file's name, for the plot of size against quality.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    image = base64.b64encode(draw(records, quality)).decode("ascii")
    body = ["<h1>Benchmark</h1>"]
    body += [f"<p><code>{_text(c)}</code></p>" for c in dict.fromkeys(r.run.command for r in records)]
    body += [f"<p>{_text(m)}</p>" for m in dict.fromkeys(describe(r.machine) for r in records)]
    body += [f'<p><img alt="latency, memory and quality" src="data:image/png;base64,{image}"></p>']
    for columns, rows in tables(records):
        body += [f"<h2>{_text(TITLES[rows[0].kind])}</h2>", '<div class="table"><table>']
        body += ["<tr>", *(f"<th>{_text(c.title)}</th>" for c in columns), "</tr>"]
        for row in rows:
            body += ['<tr class="failed">' if row.status == FAILED else "<tr>"]
            body += [*(f"<td>{_text(c.show(row))}</td>" for c in columns), "</tr>"]
        body += ["</table></div>"]
    notes = [*(line.removeprefix("- ") for line in versions(records)), *remarks(records)]
    body += ["<ul>", *(f"<li>{_text(note)}</li>" for note in notes), "</ul>"]
    head = f'<meta charset="utf-8"><title>Benchmark</title><style>{_STYLE}</style>'
    return "\n".join(
        ["<!doctype html>", f'<html lang="en"><head>{head}</head><body>', *body, "</body></html>", ""]
    )


def _text(text: str) -> str:
    return html.escape(text)
