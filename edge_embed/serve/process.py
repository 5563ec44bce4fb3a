"""The server's process: sockets, signals, logs."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn

from edge_embed.errors import InputError
from edge_embed.serve.app import Server
from edge_embed.serve.options import DEFAULT_HOST
from edge_embed.serve.protocol import Protocol

KEEP_ALIVE_SECONDS = 65
"""How long an idle connection stays open: longer than the usual 60 seconds of a load balancer before it."""


class _Uvicorn(uvicorn.Server):
    """uvicorn, which says when it listens, and whose stop signal also turns new requests away."""

    def __init__(self, config: uvicorn.Config, server: Server, place: str) -> None:
        super().__init__(config)
        self._server, self._place = server, place

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        await super().startup(sockets)
        if self.started:
            logging.getLogger("edge_embed.serve").info(
                "serving %s on %s", self._server.model.name, self._place
            )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to stop: running requests end, new ones get 503."""
        self._server.gate.draining = True
        super().handle_exit(sig, frame)


def run(server: Server, *, host: str, port: int, unix_socket: str | None = None) -> int:
    """Serves until a signal, and returns the exit code.

    Args:
        server: The application.
        host: The address to listen on.
        port: The port; 0 for any free one, which the log names.
        unix_socket: A path to listen on instead.

    Raises:
        InputError: If the address cannot be used.
    """
    log_to_stderr()
    settings = config(server, host=host, port=port, unix_socket=unix_socket)
    if unix_socket is None:
        listening = bind(settings)
        place = f"http://{host}:{listening.getsockname()[1]}"
        sockets = [listening]
    else:
        place, sockets = f"unix:{unix_socket}", None
    uvicorn_server = _Uvicorn(settings, server, place)
    # uvicorn sends itself the signal once more after it has stopped: that must not end the process.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        uvicorn_server.run(sockets)
    except KeyboardInterrupt:
        return 0
    return 0 if uvicorn_server.started else 2


def config(
    server: Server, *, host: str = DEFAULT_HOST, port: int = 0, unix_socket: str | None = None
) -> uvicorn.Config:
    """Returns how uvicorn serves the application. Arguments as for `run`."""
    return uvicorn.Config(
        server,
        host=host,
        port=port,
        uds=unix_socket,
        http=Protocol,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing here depends on what a proxy says of its client
        ws="none",
        lifespan="on",
        server_header=False,
        date_header=True,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(server.options.drain_timeout) or 1,
        backlog=2048,
    )


def bind(settings: uvicorn.Config) -> socket.socket:
    """Returns the socket that connections are accepted from.

    Raises:
        InputError: If the address cannot be used.
    """
    try:
        listening = settings.bind_socket()
    except SystemExit as error:  # uvicorn logs the reason and ends the process
        raise InputError(
            f"cannot listen on {settings.host}:{settings.port}",
            got="see the line above",
            expected="an address of this machine and a free port",
            fix="choose another with --host and --port",
        ) from error
    # Connections inherit it. asyncio sets it only where a socket names its protocol; uvicorn names none.
    # Without it the second part of each answer waits 40 ms for the client's acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def log_to_stderr() -> None:
    """Writes the log of the server, and uvicorn's warnings, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    for name, level in (("edge_embed.serve", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
