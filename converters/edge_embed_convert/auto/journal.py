"""Journal: remembers measured trials, so that a search that was stopped can continue.

One JSON object a line, appended and flushed as each trial ends, so a killed process loses only the running
trial. A journal's name is a hash of everything that its figures depend on, so it is never used for another
model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Figures = dict[str, float]


class Journal:
    """Figures by the name of the trial.

    Args:
        directory: Where journals are kept; None keeps nothing.
        facts: Everything that the figures depend on, as JSON values.
    """

    def __init__(self, directory: Path | None, facts: Mapping[str, Any]) -> None:
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
        self.path = None if directory is None else directory / f"{key}.jsonl"
        self.reused = 0
        self._known = self._read()

    def remember(self, name: str, measure: Callable[[], Figures]) -> Figures:
        """Returns the figures of a trial, measured now if they are not known."""
        if name in self._known:
            self.reused += 1
            return self._known[name]
        figures = self._known[name] = measure()
        # A journal only saves time: a full or read-only disk must not end a search.
        with contextlib.suppress(OSError):
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as handle:
                    handle.write(json.dumps({"trial": name, "figures": figures}) + "\n")
        return figures

    def _read(self) -> dict[str, Figures]:
        known: dict[str, Figures] = {}
        try:
            lines = self.path.read_text("utf-8").splitlines() if self.path is not None else []
        except (OSError, UnicodeDecodeError):
            return known
        for line in lines:
            # The last line of a killed process may be cut.
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                record = json.loads(line)
                known[str(record["trial"])] = {k: float(v) for k, v in record["figures"].items()}
        return known
