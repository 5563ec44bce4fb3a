"""The limits and addresses of a server, as values. Importing this loads nothing else."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
"""Names under which a server on the loopback interface answers. Another name in the Host header means that a
web page has pointed a name of its own at this machine (DNS rebinding)."""


@dataclass(frozen=True)
class Options:
    """How a server behaves.

    Attributes:
        max_texts: The most texts of one request. OpenAI's clients send at most 2,048.
        max_body_bytes: The largest request body.
        queue_texts: The most texts that may wait or run, over all requests.
        queue_tokens: The most tokens that they may have together.
        queue_seconds: The longest time that they are expected to take when another request is let in.
        body_timeout: Seconds that a client has to send its request body.
        drain_timeout: Seconds that running requests have to finish after SIGTERM.
        api_keys: Keys of which a request must show one; empty lets every request in.
        allowed_hosts: Names that the Host header may hold; empty allows all.
        allowed_origins: Web origins that may call the server from a browser (CORS); empty allows none.
        json_logs: Whether each request is logged as a line of JSON instead of plain text.
    """

    max_texts: int = 2048
    max_body_bytes: int = 16 * 2**20
    queue_texts: int = 4096
    queue_tokens: int = 300_000
    queue_seconds: float = 10.0
    body_timeout: float = 30.0
    drain_timeout: float = 30.0
    api_keys: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    json_logs: bool = False
