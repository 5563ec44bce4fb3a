"""uvicorn's HTTP protocol, for clients that close their side of the connection and wait for the answer."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edge_embed.serve.errors import HttpError

START = b"HTTP/1.1 "
"""What every answer begins with."""

FIRST_LOOK, LAST_LOOK = 0.001, 1.0
"""Seconds between two looks whether a client has left: twice as many each time, within these limits."""


HEAD_SECONDS = 30.0
"""How long a client may take for the head of a request; for the body see `Options.body_timeout`."""


class Protocol(HttpToolsProtocol):
    """Ends connections whose request does not come, and answers those after which nothing more comes.

    The end of what a client sends looks the same whether it waits for the answer or has closed the
    connection. So the answer's first bytes, which every answer has in common, are sent at once. Where nobody
    reads any more, the client's system resets the connection: then the client has left.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for the head of a request."""
        super().connection_made(transport)
        self._head_since: float | None = self.loop.time()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._check_head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the waiting."""
        self._head_timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Notes when the head of a request began."""
        self._head_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Notes that the head has come."""
        self._head_since = None
        super().on_headers_complete()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keeps the connection if an answer is owed."""
        cycle = self.cycle  # of the last request that began
        if cycle is None or cycle.response_complete or cycle.more_body:
            return None  # the connection is closed
        cycle.keep_alive = False  # closed after this answer
        if not self.pipeline and not cycle.response_started:
            self.transport.write(START)
            cycle.transport = cast("asyncio.Transport", _Begun(self.transport))
            self.loop.call_later(FIRST_LOOK, self._look, FIRST_LOOK)
        return True

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP."""
        self._refuse("400 Bad Request", HttpError(400, msg, code="invalid_http"))

    def _check_head(self) -> None:
        """Ends the connection if the head of a request takes too long. It looks rarely, which is cheap."""
        since, answering = self._head_since, self.cycle is not None and not self.cycle.response_complete
        if self.transport.is_closing():
            return
        if since is None or answering or self.loop.time() - since < HEAD_SECONDS:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._check_head)
            return
        message = f"the head of the request did not arrive within {HEAD_SECONDS:g} seconds"
        self._refuse("408 Request Timeout", HttpError(408, message, code="head_timeout"))

    def _refuse(self, status: str, error: HttpError) -> None:
        """Answers without the application, and ends the connection."""
        body = json.dumps(error.body()).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _look(self, waited: float) -> None:
        """Ends the connection if the client has reset it."""
        if self.transport.is_closing() or self.cycle.response_complete:
            return
        connection = cast("socket.socket", self.transport.get_extra_info("socket"))
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
            return
        wait = min(2 * waited, LAST_LOOK)
        self.loop.call_later(wait, self._look, wait)


class _Begun:
    """A transport over which the first bytes of an answer have gone already."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._rest = transport, len(START)

    def write(self, data: bytes) -> None:
        """Writes an answer, or a part of it, without what has gone already."""
        self._transport.write(data[self._rest :])
        self._rest = 0

    def is_closing(self) -> bool:
        """Returns whether the connection is closing."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Closes the connection when everything is written."""
        self._transport.close()
