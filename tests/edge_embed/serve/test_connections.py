"""Connections: slow and half-closed ones, clients that leave, and what a full or stopping server answers."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time

import numpy as np
import pytest

from edge_embed.serve import protocol
from edge_embed.serve.app import create_app
from edge_embed.serve.options import Options
from edge_embed.serve.scheduler import QueueFull, Scheduler

from .conftest import Held, post_head, serving, until


@pytest.fixture
def truth(module_embedder):
    return module_embedder


@pytest.fixture
def client(serve):
    return serve()


def test_a_body_that_is_too_large_or_too_slow(serve):
    client = serve(max_body_bytes=1000, body_timeout=0.3)
    assert client.post("/v1/embeddings", {"input": "a" * 2000})[0] == 413
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        connection.sendall(b"400\r\n" + b"a" * 1024 + b"\r\n0\r\n\r\n")
        assert b"413" in connection.recv(100)
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert b"408" in connection.recv(100)
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        connection.shutdown(socket.SHUT_WR)
    assert client.post("/embed", {"inputs": "a"})[0] == 200


def test_a_full_queue_answers_429_at_once(held, monkeypatch):
    server, client = held
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(client.post("/embed", {"inputs": "a"})[0]))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    until(lambda: server.model.scheduler.texts == 3)
    started = time.perf_counter()
    with monkeypatch.context() as patch:
        patch.setattr(server.model.embedder, "plan", None)  # it is refused before it is tokenized
        status, answer, headers = client.post("/embed", {"inputs": "a"})
    assert time.perf_counter() - started < 5
    assert (status, answer["error"]["code"], headers["retry-after"]) == (429, "queue_full", "1")
    Held.let_go.set()
    for thread in threads:
        thread.join()
    assert results == [200, 200, 200]


def test_a_client_that_left_frees_its_place(held):
    server, client = held
    content = b'{"inputs":["a","red red red red red red red red red red"]}'
    head = b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(content)
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(head + content)
        until(lambda: server.model.scheduler.texts == 2)
    until(lambda: server.model.scheduler.texts <= 1)  # the one that runs
    Held.let_go.set()
    until(lambda: server.model.scheduler.texts == 0)
    assert "edge_embed_abandoned_requests_total 1" in client.get("/metrics")[1]


def test_a_full_queue_answers_before_the_body_arrives(held):
    server, client = held
    threads = [threading.Thread(target=client.post, args=("/embed", {"inputs": "a"})) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: server.model.scheduler.texts == 3)
    content = b'{"inputs":"a"}'
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
        connection.sendall(post_head("/embed", len(content)))
        assert connection.recv(12) == b"HTTP/1.1 429"
        connection.sendall(content)
        Held.let_go.set()
        for thread in threads:
            thread.join()
        connection.sendall(post_head("/embed", len(content)) + content)  # the connection goes on
        seen = b""
        while b"HTTP/1.1 200" not in seen:
            part = connection.recv(1000)
            assert part
            seen += part


def test_the_time_to_wait_is_what_the_queue_takes(serve, monkeypatch):
    client = serve()
    monkeypatch.setattr(Scheduler, "check_room", _raise(QueueFull(9, 99, 6.2)))
    status, answer, headers = client.post("/embed", {"inputs": "a"})
    assert (status, headers["retry-after"]) == (429, "7")
    assert "9 texts with 99 tokens are waiting, for about 6.2 seconds" in answer["error"]["message"]


def test_a_client_that_only_waits_gets_its_answer(held, truth):
    server, client = held
    content = b'{"inputs":["the red planet"]}'
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
        connection.sendall(post_head("/embed", len(content)) + content)
        connection.shutdown(socket.SHUT_WR)
        until(lambda: server.model.scheduler.texts == 1)
        assert connection.recv(9, socket.MSG_PEEK | socket.MSG_WAITALL) == b"HTTP/1.1 "
        time.sleep(0.2)  # longer than until the server looks whether the client has left
        assert server.model.scheduler.texts == 1
        Held.let_go.set()
        seen = b""
        while part := connection.recv(1 << 16):
            seen += part
    head, _, body = seen.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert seen.count(b"HTTP/1.1") == 1
    assert b"connection: close" in head
    np.testing.assert_array_equal(np.array(json.loads(body), np.float32), truth.encode(["the red planet"]))
    assert "edge_embed_abandoned_requests_total 0" in client.get("/metrics")[1]


@pytest.mark.parametrize("requests", [1, 3])
def test_every_request_of_a_half_closed_connection_is_answered(client, requests):
    content = b'{"inputs":["red"]}'
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
        connection.sendall((post_head("/embed", len(content)) + content) * requests)
        connection.shutdown(socket.SHUT_WR)
        seen = b""
        while part := connection.recv(1 << 16):
            seen += part
    assert seen.count(b"HTTP/1.1 200 OK\r\n") == requests
    assert seen.count(b"HTTP/1.1") == requests


def test_50_megabytes_are_refused_and_the_next_request_is_answered(client):
    large = b'{"inputs":"' + b"a" * 50_000_000 + b'"}'
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)) as connection:
        for body, status in ((large, 413), (iter([large]), 413), (b'{"inputs":"a"}', 200)):
            connection.request("POST", "/embed", body, encode_chunked=not isinstance(body, bytes))
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status == status
            if status == 413:
                assert answer["error"]["code"] == "body_too_large"


def test_what_is_no_http_is_an_error_in_the_same_shape(client):
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
        connection.sendall(b"this is no HTTP\r\n\r\n")
        seen = b""
        while part := connection.recv(1000):
            seen += part
    head, _, body = seen.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "invalid_http"


@pytest.mark.parametrize("start", [b"", b"POST /embed HTTP/1.1\r\nhost"])
def test_a_head_that_does_not_come_ends_the_connection(serve, monkeypatch, start):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    client = serve()
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
        connection.sendall(start)
        seen = b""
        while part := connection.recv(1000):
            seen += part
    assert seen.startswith(b"HTTP/1.1 408 ")
    assert json.loads(seen.partition(b"\r\n\r\n")[2])["error"]["code"] == "head_timeout"


def test_a_connection_that_is_answered_or_kept_goes_on(held, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    client = held[1]
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", client.port, timeout=10)) as connection:
        connection.request("POST", "/embed", b'{"inputs":"a"}')
        time.sleep(0.4)
        Held.let_go.set()
        for _ in range(2):
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            time.sleep(0.4)
            connection.request("POST", "/embed", b'{"inputs":"a"}')


def test_half_a_request_and_no_more_ends_the_connection(client):
    with socket.create_connection(("127.0.0.1", client.port), timeout=10) as connection:
        connection.sendall(post_head("/embed", 100) + b'{"inputs"')
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""


def test_running_requests_end_before_the_server_does(tiny_model):
    Held.let_go.set()
    server = create_app(Held(tiny_model, weight_cache="memory", num_threads=1), Options(drain_timeout=20))
    results = []
    with serving(server) as client:
        Held.let_go.clear()
        thread = threading.Thread(target=lambda: results.append(client.post("/embed", {"inputs": "a"})[0]))
        thread.start()
        until(lambda: server.model.scheduler.texts == 1)
        server.gate.draining = True
        assert client.get("/health")[0] == 503
        assert client.post("/embed", {"inputs": "a"})[0] == 503
        Held.let_go.set()
        thread.join()
    assert results == [200]


def _raise(error):
    def call(*_):
        raise error

    return call
