"""The application: which path does what.

Endpoints that embed are plain ASGI functions: at a thousand requests a second, Starlette's request and
response objects would take as long as the model.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from edge_embed import __version__
from edge_embed.errors import EdgeEmbedError
from edge_embed.serve.errors import HttpError
from edge_embed.serve.gate import Gate, answer, read_body
from edge_embed.serve.logs import log
from edge_embed.serve.metrics import CONTENT_TYPE, Metrics, resident_bytes
from edge_embed.serve.model import Embeddings, ServedModel
from edge_embed.serve.openapi import document
from edge_embed.serve.options import Options
from edge_embed.serve.requests import (
    DOCUMENT,
    QUERY,
    EmbeddingRequest,
    openai_answer,
    parse_json,
    parse_openai,
    parse_similarity,
    parse_tei,
    parse_tokenize,
    tei_answer,
)
from edge_embed.serve.search import SearchRequest, answer_hits

if TYPE_CHECKING:
    from edge_embed import Embedder
    from edge_embed.retrieval import Index

PAGE_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
"""The file and the content type of each path of the page."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads its own files and calls its own server, and nothing else."""

EMBEDDING_PATHS = frozenset({"/v1/embeddings", "/embed", "/similarity"})
"""Where requests wait in the model's queue."""

MOST_SEARCHES = 64
"""The most searches that wait or run."""

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Endpoint:
    """An ASGI function that Starlette routes to as it stands."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handler(scope, receive, send)


class Server:
    """The endpoints over one model and, if given, one index.

    Args:
        embedder: The model; closed when the application ends.
        options: Limits and keys.
        index: What `/search` and the page search; closed when the application ends.
    """

    def __init__(self, embedder: Embedder, options: Options, index: Index | None = None) -> None:
        self.options, self.index = options, index
        self.metrics = Metrics(
            {
                "edge_embed_queue_texts": ("Texts that wait or run.", lambda: self.model.scheduler.texts),
                "edge_embed_queue_tokens": ("Tokens that wait or run.", lambda: self.model.scheduler.tokens),
                "edge_embed_queue_seconds": (
                    "Seconds that they are expected to take.",
                    lambda: self.model.scheduler.seconds,
                ),
                "process_resident_memory_bytes": ("Resident memory in bytes.", resident_bytes),
            }
        )
        self.model = ServedModel(embedder, options, self.metrics.run)
        self._started = int(time.time())
        self._searches = 0
        handlers: dict[tuple[str, str], Handler] = {
            ("/v1/embeddings", "POST"): self._openai,
            ("/v1/models", "GET"): self._models,
            ("/embed", "POST"): self._tei,
            ("/similarity", "POST"): self._similarity,
            ("/tokenize", "POST"): self._tokenize,
            ("/info", "GET"): self._info,
            ("/health", "GET"): self._health,
            ("/metrics", "GET"): self._metrics,
            ("/openapi.json", "GET"): self._openapi,
        }
        if index is not None:
            handlers |= {("/search", "POST"): self._search}
            self._page_files = {path: _read_page(name) for path, (name, _) in PAGE_FILES.items()}
            handlers |= {(path, "GET"): self._page for path in PAGE_FILES}
        routes = [
            Route(path, _Endpoint(handler), methods=[method]) for (path, method), handler in handlers.items()
        ]
        self._handlers = handlers
        self._router = Router(routes, redirect_slashes=False, default=_no_such_path, lifespan=self._lifespan)
        paths = frozenset(path for path, _ in handlers)
        self.gate = Gate(self._route, options, self.metrics, paths, self._admit)
        self._app: ASGIApp = self.gate
        if options.allowed_origins:
            # Outside the gate: a browser's preflight request carries no key, and errors need the headers too.
            self._app = CORSMiddleware(
                self.gate,
                allow_origins=options.allowed_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type", "x-request-id"],
                expose_headers=["x-request-id", "x-truncated-texts", "retry-after"],
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request: the ASGI interface."""
        await self._app(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls what answers. No path holds a pattern, so a look into a dictionary finds most of them."""
        handler = self._handlers.get((scope.get("path", ""), scope.get("method", "")))
        await (self._router if handler is None else handler)(scope, receive, send)

    def _admit(self, path: str) -> None:
        """Refuses a request that will find the queue full, before its body is read."""
        if path in EMBEDDING_PATHS:
            self.model.admit(1)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: object) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()

        async def warm_up() -> None:
            try:
                await loop.run_in_executor(None, self.model.warm_up)
            except EdgeEmbedError as error:
                self.gate.failure = error.what
                log.error("the model cannot run: %s", error)
            else:
                self.gate.ready = True

        warming = asyncio.create_task(warm_up())
        try:
            yield
        finally:
            self.gate.draining = True
            with contextlib.suppress(asyncio.CancelledError):
                await warming
            await loop.run_in_executor(None, self._close)
            self.gate.log.flush()

    def _close(self) -> None:
        self.model.scheduler.drain(self.options.drain_timeout)
        if self.index is not None:
            self.index.close()
        self.model.close()

    async def _embed(self, request: EmbeddingRequest, scope: Scope, receive: Receive) -> Embeddings:
        result = await self.model.embed(request, lambda: _left(receive))
        self.metrics.texts(len(result.vectors), result.tokens, len(result.truncated))
        scope["edge_embed.log"] = {"texts": len(result.vectors), "tokens": result.tokens}
        return result

    async def _openai(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = parse_json(await read_body(scope, receive))
        request = parse_openai(
            body,
            model=self.model.name,
            prompts=self.model.embedder.prompts,
            max_texts=self.options.max_texts,
        )
        result = await self._embed(request, scope, receive)
        name = str(body.get("model", self.model.name))
        content = openai_answer(
            result.vectors, name, result.tokens, result.truncated, as_base64=request.base64
        )
        await answer(send, content, **_truncation(result))

    async def _tei(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = parse_json(await read_body(scope, receive))
        prompts = self.model.embedder.prompts
        request = parse_tei(body, prompts=prompts, max_texts=self.options.max_texts)
        result = await self._embed(request, scope, receive)
        await answer(send, tei_answer(result.vectors), **_truncation(result))

    async def _similarity(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = parse_json(await read_body(scope, receive))
        prompts = self.model.embedder.prompts
        request = parse_similarity(body, prompts=prompts, max_texts=self.options.max_texts)
        result = await self._embed(request, scope, receive)
        scores = self.model.embedder.similarity(result.vectors[0], result.vectors[1:])[0]
        await answer(send, _json([float(f"{score:.9g}") for score in scores]), **_truncation(result))

    async def _tokenize(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = parse_json(await read_body(scope, receive))
        texts, special = parse_tokenize(body, max_texts=self.options.max_texts)
        record = self.model.embedder.manifest.tokenizer
        loop = asyncio.get_running_loop()
        lists = await loop.run_in_executor(None, self.model.tokenize, texts)
        first, last = len(record.prefix_ids), len(record.suffix_ids)
        rows = []
        for ids in lists:
            row = [
                {"id": token, "special": place < first or place >= len(ids) - last}
                for place, token in enumerate(ids)
            ]
            rows.append(row if special else row[first : len(row) - last])
        await answer(send, _json(rows))

    async def _models(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = self.model.name
        names = [name, f"{name}:{QUERY}", f"{name}:{DOCUMENT}"]
        names += [
            f"{name}:{prompt}" for prompt in self.model.embedder.prompts if prompt not in (QUERY, DOCUMENT)
        ]
        data = [
            {"id": each, "object": "model", "created": self._started, "owned_by": "edge_embed"}
            for each in names
        ]
        await answer(send, _json({"object": "list", "data": data}))

    async def _info(self, scope: Scope, receive: Receive, send: Send) -> None:
        manifest = self.model.embedder.manifest
        info = {
            "model_id": manifest.name,
            "model_sha": manifest.graph.sha256,
            "model_dtype": manifest.recipe.name,
            "model_type": {"embedding": {"pooling": "+".join(manifest.pooling)}},
            "max_input_length": manifest.max_tokens,
            "max_client_batch_size": self.options.max_texts,
            "max_batch_tokens": self.options.queue_tokens,
            "max_concurrent_requests": self.options.queue_texts,
            "dimension": manifest.dimension,
            "dimensions": manifest.matryoshka_dimensions,
            "prompts": manifest.prompts,
            "version": __version__,
        }
        await answer(send, _json(info))

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.gate.failure:
            raise HttpError(503, f"the model cannot run: {self.gate.failure}", code="model_failure")
        if not self.gate.ready or self.gate.draining:
            state = "stopping" if self.gate.draining else "starting"
            raise HttpError(503, f"the server is {state}", code=state)
        await answer(send, _json({"status": "ok"}))

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, self.metrics.render().encode(), CONTENT_TYPE)

    async def _openapi(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = document(
            self.model.embedder.manifest,
            with_index=self.index is not None,
            with_keys=bool(self.options.api_keys),
        )
        await answer(send, _json(content))

    async def _search(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.index is not None
        request = SearchRequest.parse(parse_json(await read_body(scope, receive)))
        if self._searches >= MOST_SEARCHES:
            raise HttpError(
                429, f"{self._searches} searches are waiting", code="queue_full", headers={"retry-after": "1"}
            )
        self._searches += 1
        try:
            hits = await asyncio.get_running_loop().run_in_executor(None, request.run, self.index)
        finally:
            self._searches -= 1
        scope["edge_embed.log"] = {"hits": len(hits)}
        await answer(send, _json(answer_hits(hits)))

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        await answer(
            send,
            self._page_files[path],
            PAGE_FILES[path][1],
            content_security_policy=PAGE_POLICY,
            referrer_policy="no-referrer",
            cache_control="no-cache",
        )


def create_app(embedder: Embedder, options: Options | None = None, index: Index | None = None) -> Server:
    """Returns an ASGI application that serves a model.

    Args:
        embedder: The model. The application closes it when it ends.
        options: Limits and keys.
        index: An index to search; its model must be the same. The application closes it too.
    """
    return Server(embedder, options or Options(), index)


def _read_page(name: str) -> bytes:
    return resources.files("edge_embed.serve").joinpath("page", name).read_bytes()


async def _left(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        continue


def _truncation(result: Embeddings) -> dict[str, str]:
    return {"x_truncated_texts": str(len(result.truncated))} if result.truncated else {}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    raise HttpError(404, f"no such path: {scope['path']}; see /openapi.json", code="not_found")
