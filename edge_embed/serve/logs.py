"""The log of the requests: a line for each, written many at a time."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

log = logging.getLogger("edge_embed.serve")

DELAY = 0.1
"""How many seconds a line may wait for others. Writing each by itself takes as long as refusing a request."""

MOST_WAITING = 1000
"""The most lines that wait."""


class RequestLog:
    """Gives the logger `edge_embed.serve` one record for all requests of a tenth of a second, a line each.

    Used in the event loop's thread.

    Args:
        as_json: Whether a line is a JSON object; otherwise it is NAME=VALUE, with texts as in JSON.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._lines: list[str] = []

    @property
    def wanted(self) -> bool:
        """Whether anybody reads the lines."""
        return log.isEnabledFor(logging.INFO)

    def add(self, fields: dict[str, Any]) -> None:
        """Takes the line of a request."""
        if not self._lines:
            asyncio.get_running_loop().call_later(DELAY, self.flush)
        self._lines.append(json.dumps(fields) if self._as_json else _plain(fields))
        if len(self._lines) >= MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        if self._lines:
            lines, self._lines = self._lines, []
            log.info("%s", "\n".join(lines))


def _plain(fields: dict[str, Any]) -> str:
    words = [f"{name}={json.dumps(v) if type(v) is str else v}" for name, v in fields.items()]
    return " ".join(words)
