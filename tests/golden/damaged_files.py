"""Manifests and model files that are damaged in every way, and what the Python runtime makes of each."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import json
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed.errors import EdgeEmbedError
from edge_embed.model_file.file import ModelFile, write_model_file
from edge_embed.model_file.manifest import Manifest

GRAPH = b"\x1c\0\0\0TFL3" + bytes(range(56))
"""Enough of a flatbuffer to be taken for one."""

_REPLACEMENTS = ("<removed>", None, True, 0, 1, -1, 2.5, 1e400, "x", "AAAA", [], [8], ["x"], {}, {"a": "b"})


def verdict(action: Callable[[], Any]) -> Any:
    """Returns what an action gives, or the name of our error that it ends in."""
    try:
        return action()
    except EdgeEmbedError as error:
        return type(error).__name__


def manifests_golden(manifest: Manifest) -> dict[str, Any]:
    """Returns a manifest and what becomes of it when each field is removed or replaced, and hostile JSON."""
    base = json.loads(manifest.to_json())
    cases = []
    for path in _paths(base):
        for value in _REPLACEMENTS:
            changed = copy.deepcopy(base)
            parent = changed
            for key in path[:-1]:
                parent = parent[key]
            if value == "<removed>":
                del parent[path[-1]]
            else:
                parent[path[-1]] = value
            cases.append([list(path), value, _parse_verdict(json.dumps(changed).encode())])
    good = json.dumps(base)
    raw = [
        good,
        "\ufeff" + good,
        good + "x",
        good[:-1],
        "",
        "[]",
        "null",
        "[" * 100000,
        '{"schema_version": 2}',
        '{"schema_version": true}',
        good.replace("24", "24.0", 1),
        good.replace("24", "024", 1),
        good.replace("0.99", "NaN", 1),
        good.replace('"golden"', '"🚀\\ud800"'),
        good.replace('"golden"', '"a\tb"'),
        good.replace('"', "'"),
        good.replace("{", '{"unknown": [{}, -0.5e-3, "\\u00e9\\/"],', 1),
        good.replace("24", "+24", 1),
        good.replace("24", "24 ,", 1),
        good.replace(": ", ":\r\n\t "),
        good.replace(": ", ":\x0c "),
        good.replace('"name"', '"name": 3, "name"', 1),
        good.replace("24", "-Infinity", 1),
        good + " \n",
    ]
    encoded = [text.encode() for text in raw] + [good.encode() + b"\xff"]
    hostile = [[b64(text), _parse_verdict(text)] for text in encoded]
    return {"base": base, "cases": cases, "raw": hostile}


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*path, key))


def _parse_verdict(text: bytes) -> str:
    answer = verdict(lambda: Manifest.from_json(text))
    return answer if isinstance(answer, str) else "ok"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def files_golden(manifest: Manifest) -> dict[str, Any]:
    """Returns a small model file, patches to it, and whether it can still be opened and read."""
    small = b'{"not": "a tokenizer, but with the right hash"}'
    record_ = replace(manifest.tokenizer, sha256=hashlib.sha256(small).hexdigest())
    manifest = replace(manifest, tokenizer=record_)
    members = {"edge_embed.json": manifest.to_json().encode(), "wordpiece.json": small}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "toy.tflite"
        write_model_file(path, GRAPH, members)
        whole = path.read_bytes()
        tail = whole.index(b"PK\1\2")
        generator = np.random.default_rng(11)
        cases: list[Any] = [[[], _file_verdict(path, whole)]]
        for offset in [*range(12), *range(len(GRAPH), len(GRAPH) + 60), *range(tail, len(whole))]:
            for byte in {int(b) for b in generator.integers(0, 256, 3)} | {0, 1, 255}:
                patch = [[offset, b64(bytes([byte]))]]
                cases.append([patch, _file_verdict(path, _apply(whole, patch))])
        for length in (0, 3, 8, len(GRAPH), tail, *range(len(whole) - 80, len(whole))):
            cases.append([length, _file_verdict(path, whole[:length])])
        built = [[b64(content), _file_verdict(path, content)] for content in _zips(members, whole)]
    return {"whole": b64(whole), "cases": cases, "built": built}


def _zips(members: dict[str, bytes], whole: bytes) -> Iterator[bytes]:
    """Yields files with hostile and unusual zip parts."""
    unsafe = ["../x", "/x", "a/../b", "a\\b", "C:x", "x/", "..", "a\x00b", "a\nb", "\u202ex"]
    for name in [*unsafe, "a..b", "é", "日本", " ", "ok"]:
        yield GRAPH + _zip({**members, name: b"1"}, len(GRAPH))
    yield GRAPH + _zip(members, 0)  # offsets from the start of the zip
    yield GRAPH + b"gap" + _zip(members, len(GRAPH) + 3)
    yield GRAPH[:40] + _zip(members, 40)
    yield GRAPH + _zip({k: v for k, v in members.items() if k == "wordpiece.json"}, len(GRAPH))
    yield GRAPH + _zip({}, len(GRAPH))
    yield GRAPH + _zip(members, len(GRAPH), zipfile.ZIP_DEFLATED)
    yield GRAPH + _zip(members, len(GRAPH), comment=b"hello")
    yield GRAPH + _zip(members, len(GRAPH), double=True)
    yield whole + b"\0"
    yield whole[:-2] + b"\1\0" + b"x"
    yield b"plain text, no model at all"
    yield GRAPH
    directory = whole[whole.index(b"PK\1\2") : -22]
    yield whole[:-22] + directory + whole[-22:]
    yield whole[:-22] + struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1) + whole[-22:]


def _zip(
    members: dict[str, bytes],
    start: int,
    method: int = zipfile.ZIP_STORED,
    comment: bytes = b"",
    double: bool = False,
) -> bytes:
    buffer = io.BytesIO(b"\0" * start)
    buffer.seek(start)
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # of the name that is there twice
        for name, data in [*members.items(), *([("wordpiece.json", b"again")] if double else [])]:
            info = zipfile.ZipInfo("placeholder", date_time=(1980, 1, 1, 0, 0, 0))
            info.filename = info.orig_filename = name  # as it is, without zipfile's own cleaning
            info.create_system = 3
            info.compress_type = method
            archive.writestr(info, data)
        archive.comment = comment
    return buffer.getvalue()[start:]


def _apply(whole: bytes, patch: Sequence[Any]) -> bytes:
    data = bytearray(whole)
    for offset, content in patch:
        raw = base64.b64decode(content)
        data[offset : offset + len(raw)] = raw
    return bytes(data)


def _file_verdict(path: Path, content: bytes) -> str:
    path.write_bytes(content)

    def use() -> str:
        opened = ModelFile.open(path)
        opened.read(opened.manifest.tokenizer.file)
        opened.verify_graph()
        return "ok"

    return str(verdict(use))
