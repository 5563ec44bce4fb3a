"""The command as a process: it starts, answers, and stops when it is asked to."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from edge_embed.cli.serve import read_keys
from edge_embed.errors import InputError

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")


@pytest.fixture
def start(tiny_model):
    processes = []

    def run(*words):
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_embed", "serve", str(tiny_model), *words],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"EDGE_EMBED_CACHE": "/nonexistent"},
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()


def first_line(process, pattern):
    for line in process.stderr:
        if found := re.search(pattern, line):
            return found
    raise AssertionError("the server ended")


def get(url, data=None):
    with urllib.request.urlopen(url, data, timeout=20) as response:
        return json.load(response)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_stops_with_code_0(start, signal_number):
    process = start("--port", "0", "--json-logs")
    url = first_line(process, r"http://127\.0\.0\.1:\d+").group()
    for _ in range(1000):
        with contextlib.suppress(urllib.error.HTTPError):  # 503 until every bucket is compiled
            assert get(f"{url}/health")["status"] == "ok"
            break
    answer = get(f"{url}/v1/embeddings", b'{"input": "the red planet"}')
    assert len(answer["data"][0]["embedding"]) == 8
    assert json.loads(first_line(process, r"^.*embeddings.*$").group())["status"] == 200
    process.send_signal(signal_number)
    assert process.wait(20) == 0


def test_a_unix_socket(start, tmp_path):
    path = tmp_path / "s"
    process = start("--unix-socket", str(path))
    first_line(process, "serving .* on unix:")
    for _ in range(1000):
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                connection.sendall(b"GET /info HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.1")
            break
        except OSError:
            continue
    process.terminate()
    assert process.wait(20) == 0


def test_an_address_that_is_taken(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = start("--port", str(taken.getsockname()[1]))
        assert process.wait(30) == 2
        assert "cannot listen on 127.0.0.1" in process.stderr.read()


def test_keys_are_read_line_by_line(tmp_path):
    path = tmp_path / "keys"
    path.write_text("# ours\nabc\n\n  def \n")
    assert read_keys(path) == ("abc", "def")
    path.write_text("# nothing\n")
    with pytest.raises(InputError, match="holds no key"):
        read_keys(path)
    with pytest.raises(InputError, match="cannot read"):
        read_keys(tmp_path / "absent")
