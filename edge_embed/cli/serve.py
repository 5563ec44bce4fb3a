"""The command `edge_embed serve`."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_embed.cli import options
from edge_embed.errors import InputError
from edge_embed.serve.options import DEFAULT_HOST, DEFAULT_PORT, LOOPBACK_HOSTS, Options

SUMMARY = "serve a model over HTTP"
EXTRA = "serve"

_DEFAULTS = Options()

_EPILOG = """\
endpoints:
  OpenAI                     /v1/embeddings, /v1/models
  text-embeddings-inference  /embed, /similarity, /tokenize, /info, /health, /metrics
  with --index               /search, and a page at /

examples:
  edge_embed serve model.tflite
  edge_embed serve model.tflite --index notes.db
  edge_embed serve model.tflite --host 0.0.0.0 --allow-host embed.example --api-key-file keys.txt"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed serve`."""
    options.add_model(parser)
    parser.add_argument(
        "--index", metavar="FILE", type=Path, help="search this index at /search and on a page at /"
    )
    place = parser.add_argument_group("address")
    place.add_argument(
        "--host",
        default=DEFAULT_HOST,
        help=f"address to listen on (default: {DEFAULT_HOST}: this machine only)",
    )
    place.add_argument(
        "--port",
        metavar="N",
        type=int,
        default=DEFAULT_PORT,
        help=f"port; 0 takes a free one (default: {DEFAULT_PORT})",
    )
    place.add_argument("--unix-socket", metavar="PATH", help="listen on a Unix socket instead")
    access = parser.add_argument_group("access")
    access.add_argument(
        "--api-key-file",
        metavar="FILE",
        type=Path,
        help="file with one key a line; requests must send one of them",
    )
    access.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="accept this name in the Host header (default: on loopback localhost, elsewhere any)",
    )
    access.add_argument(
        "--allow-origin",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="let web pages of this origin call the server (default: none)",
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--queue-texts",
        metavar="N",
        type=options.positive,
        default=_DEFAULTS.queue_texts,
        help=f"texts that may wait; beyond them requests get 429 (default: {_DEFAULTS.queue_texts})",
    )
    limits.add_argument(
        "--queue-tokens",
        metavar="N",
        type=options.positive,
        default=_DEFAULTS.queue_tokens,
        help=f"tokens that they may have together (default: {_DEFAULTS.queue_tokens})",
    )
    limits.add_argument(
        "--queue-seconds",
        metavar="SECONDS",
        type=options.positive_number,
        default=_DEFAULTS.queue_seconds,
        help="time that they may be expected to take before another request is let in "
        f"(default: {_DEFAULTS.queue_seconds:g})",
    )
    limits.add_argument(
        "--drain-timeout",
        metavar="SECONDS",
        type=options.positive,
        default=int(_DEFAULTS.drain_timeout),
        help=f"time for running requests after SIGTERM (default: {int(_DEFAULTS.drain_timeout)})",
    )
    options.add_threads(parser)
    options.add_accelerator(parser)
    parser.add_argument("--json-logs", action="store_true", help="log each request as a line of JSON")
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Serves until a signal."""
    from edge_embed.serve import app, process

    settings = Options(
        queue_texts=args.queue_texts,
        queue_tokens=args.queue_tokens,
        queue_seconds=args.queue_seconds,
        drain_timeout=args.drain_timeout,
        api_keys=read_keys(args.api_key_file) if args.api_key_file is not None else (),
        allowed_hosts=_hosts(args),
        allowed_origins=tuple(args.allow_origin),
        json_logs=args.json_logs,
    )
    args.truncate_dim, args.overflow = None, "truncate"  # a request decides both
    model = options.open_embedder(args)
    index = None
    if args.index is not None:
        from edge_embed.retrieval import Index

        index = Index.open(args.index, model)
    server = app.create_app(model, settings, index)
    return process.run(server, host=args.host, port=args.port, unix_socket=args.unix_socket)


def read_keys(path: Path) -> tuple[str, ...]:
    """Returns the keys in a file, one a line; empty lines and lines that begin with # are left out.

    Raises:
        InputError: If the file cannot be read or holds no key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}", got=str(error)) from error
    keys = tuple(key for line in lines if (key := line.strip()) and not key.startswith("#"))
    if not keys:
        raise InputError(f"{path} holds no key", expected="one key a line")
    return keys


def _hosts(args: argparse.Namespace) -> tuple[str, ...]:
    if args.allow_host:
        return tuple(name.lower() for name in args.allow_host)
    local = args.unix_socket is None and args.host in ("127.0.0.1", "::1", "localhost")
    return LOOPBACK_HOSTS if local else ()
