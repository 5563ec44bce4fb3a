"""Rows of pairs, and files of them."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

PAIRS = [
    {"source": "s", "task": "qa", "anchor": f"q {i}", "positive": f"answer {i} " * (i + 1)} for i in range(9)
]


def write(path: Path, records: list[Any]) -> Path:
    text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records)
    opener: Any = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


def nothing(_: int) -> None:
    return None
