"""The table of families as Markdown. `docs/converting.md` shows its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edge_embed_bench.records.record import OURS
from edge_embed_bench.records.stats import median

Row = Mapping[str, Any]

_NAMES = {
    OURS: "edge_embed",
    "sentence-transformers-fp32": "sentence-transformers fp32",
    "onnxruntime-fp32": "ONNX Runtime fp32",
    "onnxruntime-int8": "ONNX Runtime int8",
}


def failed(row: Row) -> bool:
    """Returns whether our own file of a row could not be made or measured."""
    return bool(row["error"]) or any(r["error"] for r in row["records"] if r["engine"]["name"] == OURS)


def markdown(document: Mapping[str, Any]) -> str:
    """Returns the report."""
    rows, peers = document["families"], document["peers"]
    notes = list(_notes(rows))
    lines = [
        "# Families of encoders",
        "",
        *(f"`{command}`  " for command in dict.fromkeys(row["command"] for row in rows)),
        "",
        f"Machine: {document['machine']}. Threads: {document['threads']}.",
        "",
        "Random weights have the shape of the released model, but fewer rows in the token table, except in a "
        "static model. The number of rows changes neither latency nor partitions. Max |Δ| is the largest "
        "difference in any element of a unit vector between the rewritten encoder and sentence-transformers, "
        f"both in float32, at {_listed(_lengths(rows))} tokens, each at its own length and padded. "
        f"Partitions are those of the delegate in the signatures of {_listed(document['lengths'])} tokens. "
        "The cosine is the lowest of these to the float32 source. Converting is the highest resident memory.",
        "",
        *files_table(rows, document["lengths"]),
        "",
    ]
    for length in document["lengths"]:
        lines += [
            f"One text of {length} tokens: the median processor time in milliseconds, which other programs "
            "change less than the time; in parentheses, how many times ours. All engines of a row have the "
            "same weights and token ids and took turns.",
            "",
            *latency_table(rows, peers, length),
            "",
        ]
    if notes:
        lines += ["Not measured:", "", *notes, ""]
    return "\n".join(lines)


def files_table(rows: Sequence[Row], lengths: Sequence[int]) -> list[str]:
    """Returns the table of files."""
    lines = [
        "| family | shape | weights | max \\|Δ\\| | partitions | recipe | file, MB | "
        "with the released table, MB | cosine | converting, GB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["error"]:
            lines.append(f"| {row['family']} | {row['shape']} | {weights(row)} |  |  |  |  |  |  |  |")
            continue
        ours = [_record(row, OURS, length) for length in lengths]
        parts = [str(r["delegate"]["partitions"]) if r and r["delegate"] else "-" for r in ours]
        cosines = [r["agreement"]["cosine_min"] for r in ours if r and r["agreement"]]
        cells = [
            *(row["family"], row["shape"], weights(row), f"{row['difference']:.1e}", ", ".join(parts)),
            f"`{row['recipe']}`",
            *(f"{row[key] / 1e6:.1f}" for key in ("file_bytes", "released_file_bytes")),
            f"{min(cosines):.4f}" if cosines else "-",
            f"{row['peak_bytes'] / 1e9:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def latency_table(rows: Sequence[Row], peers: Sequence[str], length: int) -> list[str]:
    """Returns the table of latencies at one length."""
    engines = [OURS, *peers]
    lines = [
        f"| {' | '.join(['family', 'shape', *(_NAMES.get(name, name) for name in engines)])} |",
        "|" + "---|" * (2 + len(engines)),
    ]
    for row in rows:
        if row["error"]:
            continue
        ours = _median(row, OURS, length)
        cells = [f"{ours:.2f}" if ours else "-"]
        for peer in peers:
            theirs = _median(row, peer, length)
            if theirs is None:
                cells.append("-")
            else:
                cells.append(f"{theirs:.2f}" + (f" ({theirs / ours:.2f})" if ours else ""))
        lines.append(f"| {row['family']} | {row['shape']} | {' | '.join(cells)} |")
    return lines


def weights(row: Row) -> str:
    """Returns what a row says of its weights."""
    words = "real" if row["real"] else "random"
    if row["layers"] and row["layers"][0] != row["layers"][1]:
        words += f", {row['layers'][0]} of {row['layers'][1]} layers"
    return words


def _notes(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row["error"]:
            yield f"- {row['name']}: {row['error']}"
            continue
        reasons: dict[tuple[str, str], list[int]] = {}
        for record in row["records"]:
            if record["error"]:
                key = record["engine"]["name"], record["error"]
                reasons.setdefault(key, []).append(record["cell"]["length"])
        for (engine, error), lengths in reasons.items():
            yield f"- {row['name']}, {_NAMES.get(engine, engine)}, at {_listed(lengths)} tokens: {error}"


def _record(row: Row, engine: str, length: int) -> Any:
    found = (r for r in row["records"] if r["engine"]["name"] == engine and r["cell"]["length"] == length)
    return next(found, None)


def _median(row: Row, engine: str, length: int) -> float | None:
    record = _record(row, engine, length)
    latency = record["latency"] if record else None
    return 1e3 * median(latency["processor_s"]) if latency and latency["processor_s"] else None


def _lengths(rows: Sequence[Row]) -> list[int]:
    return next((row["exact_lengths"] for row in rows if not row["error"]), [])


def _listed(numbers: Sequence[int]) -> str:
    *before, last = [str(number) for number in numbers] or ["no"]
    return f"{', '.join(before)} and {last}" if before else last
