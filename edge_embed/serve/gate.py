"""What every request passes: host and key checks, limits of the body, an id, the log, metrics, errors."""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
from collections.abc import Callable
from hashlib import sha256

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_embed.errors import EdgeEmbedError
from edge_embed.serve.errors import HttpError
from edge_embed.serve.logs import RequestLog, log
from edge_embed.serve.metrics import Metrics
from edge_embed.serve.model import ClientLeft
from edge_embed.serve.options import Options

OPEN_PATHS = frozenset({"/health", "/", "/page.js", "/page.css"})
"""What needs no key: a probe of a load balancer has none, and the page asks for one."""

ID_LENGTH = 128
"""The longest request id that is taken from a client: a longer one would fill the log."""

_NO_SNIFFING = (b"x-content-type-options", b"nosniff")


class Gate:
    """The outermost layer of the application.

    Args:
        app: What answers.
        options: Keys, hosts and limits.
        metrics: Where requests are counted.
        known_paths: Paths with a metric of their own. All others share one: else a client could fill the
            memory.
        admit: Called with the path of a request before its body is read; raises if it has no chance.
    """

    def __init__(
        self,
        app: ASGIApp,
        options: Options,
        metrics: Metrics,
        known_paths: frozenset[str],
        admit: Callable[[str], None],
    ) -> None:
        self._app, self._options, self._metrics, self._paths = app, options, metrics, known_paths
        self._admit = admit
        self.log = RequestLog(options.json_logs)
        self._keys = [sha256(key.encode()).digest() for key in options.api_keys]
        self.ready = False
        self.draining = False
        self.failure = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id"))
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] += [(b"x-request-id", request_id.encode()), _NO_SNIFFING]
            await send(message)

        scope["edge_embed"] = self
        # With it the router raises for a wrong method instead of answering in plain text.
        scope["app"] = self._app
        failure = ""
        try:
            self._check(scope["path"], headers)
            await self._app(scope, receive, send_with_id)
        except HttpError as error:
            failure = error.code
            await answer_error(error, send_with_id)
        except HTTPException as error:  # the router's: a path that takes another method
            refusal = HttpError(
                error.status_code,
                "this path takes another method; see /openapi.json",
                code="method_not_allowed",
                headers=dict(error.headers or {}),
            )
            await answer_error(refusal, send_with_id)
        except ClientLeft:
            self._metrics.abandoned()
            status = 499  # nginx's number for it; nobody receives an answer
        except Exception as error:  # an error of ours must not end the connection without an answer
            if status:  # the answer has begun: the server ends the connection
                raise
            failure = str(error) or repr(error)
            if isinstance(error, EdgeEmbedError):
                refusal = HttpError(503, f"the model failed: {error.what}", code="model_failure")
            else:
                log.exception("request %s failed", request_id)
                refusal = HttpError(500, "internal error", code="internal_error")
            await answer_error(refusal, send_with_id)
        seconds = time.perf_counter() - started
        path = scope["path"] if scope["path"] in self._paths else "other"
        self._metrics.request(path, status, seconds)
        if self.log.wanted:
            self._tell(scope, request_id, status, seconds, failure)

    def _check(self, path: str, headers: dict[bytes, bytes]) -> None:
        hosts = self._options.allowed_hosts
        if hosts and _host(headers.get(b"host", b"")) not in hosts:
            raise HttpError(
                421,
                "the Host header names another server; start with --allow-host to allow it",
                code="wrong_host",
            )
        if self._keys and path not in OPEN_PATHS:
            scheme, _, shown = headers.get(b"authorization", b"").partition(b" ")
            digest = sha256(shown.strip() if scheme.lower() == b"bearer" else b"").digest()
            # Every key is compared, in constant time, so that the time tells nothing about the keys.
            matches = [hmac.compare_digest(digest, key) for key in self._keys]
            if not any(matches):
                raise HttpError(
                    401,
                    "no valid API key; send the header 'Authorization: Bearer KEY'",
                    code="invalid_api_key",
                    headers={"www-authenticate": "Bearer"},
                )
        if path not in OPEN_PATHS and path != "/metrics":
            if self.draining:
                raise HttpError(503, "the server is shutting down", code="shutting_down")
            if self.failure:
                raise HttpError(503, f"the model cannot run: {self.failure}", code="model_failure")
            if not self.ready:
                raise HttpError(503, "the server is starting", code="starting", headers={"retry-after": "1"})
            self._admit(path)

    def _tell(self, scope: Scope, request_id: str, status: int, seconds: float, failure: str) -> None:
        fields = {
            "id": request_id,
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "ms": round(seconds * 1000, 2),
            **scope.get("edge_embed.log", {}),
        }
        if failure:
            fields["error"] = failure
        if self._options.json_logs:
            fields = {"time": round(time.time(), 3), **fields}
        self.log.add(fields)


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Returns the request's body.

    Raises:
        HttpError: If it is too large, or does not arrive in time.
        ClientLeft: If the connection ends first.
    """
    gate: Gate = scope["edge_embed"]
    options = gate._options
    announced = dict(scope["headers"]).get(b"content-length", b"")
    if announced.isdigit() and int(announced) > options.max_body_bytes:
        raise _too_large(options)
    task, late = asyncio.current_task(), False

    def stop() -> None:
        nonlocal late
        late = True
        if task is not None:
            task.cancel()

    # anyio's deadlines and asyncio's take five times as long as this, for each request.
    timer = asyncio.get_running_loop().call_later(options.body_timeout, stop)
    parts: list[bytes] = []
    size = 0
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            part = message.get("body", b"")
            size += len(part)
            if size > options.max_body_bytes:
                raise _too_large(options)
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)
    except asyncio.CancelledError:
        if not late:
            raise
        raise HttpError(
            408, f"the body did not arrive within {options.body_timeout:g} seconds", code="body_timeout"
        ) from None
    finally:
        timer.cancel()


async def answer(send: Send, body: bytes, content_type: str = "application/json", **headers: str) -> None:
    """Sends an answer with status 200. Underscores in header names become hyphens."""
    await _send(send, 200, body, content_type, {k.replace("_", "-"): v for k, v in headers.items()})


async def answer_error(error: HttpError, send: Send) -> None:
    """Sends an error as its JSON object."""
    await _send(send, error.status, json.dumps(error.body()).encode(), "application/json", error.headers)


async def _send(send: Send, status: int, body: bytes, content_type: str, headers: dict[str, str]) -> None:
    fields = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
    fields += [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def _too_large(options: Options) -> HttpError:
    return HttpError(413, f"the body is larger than {options.max_body_bytes} bytes", code="body_too_large")


def _request_id(given: bytes | None) -> str:
    if given is not None and len(given) <= ID_LENGTH:
        text = given.decode("ascii", "replace")
        if text and all(letter.isalnum() or letter in "-_." for letter in text) and text.isascii():
            return text
    return secrets.token_hex(8)


def _host(header: bytes) -> str:
    """Returns the name in a Host header without its port."""
    name = header.decode("latin-1").lower()
    if name.startswith("["):
        return name[: name.find("]") + 1]
    return name.partition(":")[0]
