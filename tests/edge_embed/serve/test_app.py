"""The endpoints over a real socket; every vector is compared with what the model itself gives."""

from __future__ import annotations

import base64
import json
import logging
import shutil
import socket
import threading
import time

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.serve import gate as gates
from edge_embed.serve.app import create_app
from edge_embed.serve.options import Options

from .conftest import serving

LONG = "the red planet mars " * 60


@pytest.fixture(scope="module")
def server(tiny_model):
    return create_app(Embedder(tiny_model, weight_cache="memory", num_threads=2), Options(max_texts=64))


@pytest.fixture(scope="module")
def client(server):
    with serving(server) as client:
        yield client


@pytest.fixture(scope="module")
def truth(module_embedder):
    return module_embedder


def test_openai_embeddings_are_the_models_own(client, truth):
    texts = ["the red planet", "", "water over stone", "naïve café 東京"]
    status, answer, _ = client.post("/v1/embeddings", {"input": texts, "model": truth.manifest.name})
    assert status == 200
    assert [item["index"] for item in answer["data"]] == [0, 1, 2, 3]
    got = np.array([item["embedding"] for item in answer["data"]], np.float32)
    np.testing.assert_array_equal(got, truth.encode(texts))
    tokens = sum(map(len, truth.tokenize(texts)))
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert answer["truncated"] == []


def test_one_text_without_a_list_and_base64(client, truth):
    status, answer, _ = client.post(
        "/v1/embeddings", {"input": "the red planet", "encoding_format": "base64"}
    )
    assert status == 200
    data = base64.b64decode(answer["data"][0]["embedding"])
    np.testing.assert_array_equal(np.frombuffer(data, "<f4"), truth.encode("the red planet"))


@pytest.mark.parametrize("dimensions", [4, 4.0])  # both are the integer 4 in JSON
def test_dimensions(client, truth, dimensions):
    _, answer, _ = client.post("/v1/embeddings", {"input": "the red planet", "dimensions": dimensions})
    expected = truth.encode("the red planet", truncate_dim=4)
    np.testing.assert_array_equal(np.array(answer["data"][0]["embedding"], np.float32), expected)


@pytest.mark.parametrize(
    ("extra", "method"),
    [
        ({"input_type": "query"}, "encode_query"),
        ({"input_type": "search_document"}, "encode_document"),
        ({"model": ":query"}, "encode_query"),
        ({"model": ":document", "input_type": "passage"}, "encode_document"),
    ],
)
def test_the_role_chooses_the_prompt(client, truth, extra, method):
    extra = dict(extra)
    if "model" in extra:
        extra["model"] = truth.manifest.name + extra["model"]
    _, answer, _ = client.post("/v1/embeddings", {"input": "the red planet", **extra})
    expected = getattr(truth, method)("the red planet")
    np.testing.assert_array_equal(np.array(answer["data"][0]["embedding"], np.float32), expected)
    assert not np.array_equal(expected, truth.encode("the red planet"))


def test_truncation_is_reported_or_refused(client):
    status, answer, headers = client.post("/v1/embeddings", {"input": ["red", LONG]})
    assert (status, answer["truncated"], headers["x-truncated-texts"]) == (200, [1], "1")
    status, answer, _ = client.post("/v1/embeddings", {"input": ["red", LONG], "truncate": False})
    assert (status, answer["error"]["code"]) == (422, "text_too_long")
    status, answer, _ = client.post("/embed", {"inputs": LONG})
    assert (status, answer["error"]["code"]) == (422, "text_too_long")
    assert client.post("/embed", {"inputs": LONG, "truncate": True})[0] == 200


@pytest.mark.parametrize("value", [[1, 2, 3], [[1, 2], [3]], [[]]])
def test_token_arrays_are_refused_with_the_switch_of_the_client(client, value):
    status, answer, _ = client.post("/v1/embeddings", {"input": value})
    assert (status, answer["error"]["code"]) == (400, "token_arrays_not_supported")
    assert "check_embedding_ctx_length=False" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": None}, 400, "input"),
        ({"input": {"a": 1}}, 400, "input"),
        ({"input": ["a", 3]}, 400, "input[1]"),
        ({"input": ["a"] * 65}, 413, "input"),
        ({"input": "a", "model": "text-embedding-3-small"}, 404, "model"),
        ({"input": "a", "model": 3}, 400, "model"),
        ({"input": "a", "dimensions": 0}, 400, "dimensions"),
        ({"input": "a", "dimensions": 9}, 400, "dimensions"),
        ({"input": "a", "dimensions": True}, 400, "dimensions"),
        ({"input": "a", "dimensions": 4.5}, 400, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format"),
        ({"input": "a", "truncate": "yes"}, 400, "truncate"),
        ({"input": "a", "input_type": "image"}, 400, "input_type"),
        ({"input": "a", "user": 1}, 400, "user"),
        ({"input": "\ud800"}, 400, "input"),
    ],
)
def test_bad_fields_are_named(client, body, status, param):
    content = json.dumps(body).encode()
    got, answer, _ = client.send("POST", "/v1/embeddings", content)
    assert (got, answer["error"]["param"]) == (status, param)
    assert set(answer["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'"x"', b"[" * 100_000])
def test_bodies_that_are_no_json_object(client, body):
    status, answer, _ = client.send("POST", "/v1/embeddings", body)
    assert (status, answer["error"]["code"]) == (400, "invalid_json")


def test_tei_endpoints(client, truth):
    texts = ["the red planet", "water"]
    np.testing.assert_array_equal(
        np.array(client.post("/embed", {"inputs": texts})[1], np.float32), truth.encode(texts)
    )
    body = {"inputs": {"source_sentence": "the red planet", "sentences": texts}}
    scores = client.post("/similarity", body)[1]
    assert scores == pytest.approx(truth.similarity(truth.encode(texts[0]), truth.encode(texts))[0], abs=1e-6)
    ids = [[token["id"] for token in row] for row in client.post("/tokenize", {"inputs": texts})[1]]
    assert ids == truth.tokenize(texts)
    bare = client.post("/tokenize", {"inputs": "water", "add_special_tokens": False})[1][0]
    assert [token["id"] for token in bare] == truth.tokenize(["water"])[0][1:-1]
    info = client.get("/info")[1]
    assert info["max_input_length"] == truth.max_seq_length
    assert client.post("/embed", {"inputs": "a", "prompt_name": "nope"})[0] == 400
    assert client.post("/embed", {"inputs": "a", "truncation_direction": "left"})[0] == 400
    assert client.post("/similarity", {"inputs": "a"})[0] == 400
    assert client.post("/similarity", {**body, "parameters": []})[0] == 400


def test_models_lists_the_roles(client, truth):
    names = [model["id"] for model in client.get("/v1/models")[1]["data"]]
    name = truth.manifest.name
    assert names[:3] == [name, f"{name}:query", f"{name}:document"]


def test_unknown_paths_and_methods(client):
    status, answer, _ = client.get("/nothing")
    assert (status, answer["error"]["code"]) == (404, "not_found")
    status, answer, headers = client.get("/v1/embeddings")
    assert (status, answer["error"]["code"]) == (405, "method_not_allowed")
    assert "POST" in headers["allow"]
    assert client.get("/search")[0] == 404  # without an index
    assert client.get("/")[0] == 404


def test_request_ids_go_through_and_bad_ones_do_not(client):
    assert client.get("/health", **{"x-request-id": "abc-1"})[2]["x-request-id"] == "abc-1"
    own = client.get("/health", **{"x-request-id": "a b\tc"})[2]["x-request-id"]
    assert own != "a b\tc"
    assert len(own) == 16
    assert len(client.get("/health", **{"x-request-id": "x" * 1000})[2]["x-request-id"]) == 16


def test_metrics_count(client):
    before = client.get("/metrics")[1]
    client.post("/v1/embeddings", {"input": ["red", LONG]})
    client.get("/made/up")
    after = client.get("/metrics")[1]

    def value(text, name):
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))

    assert value(after, "edge_embed_texts_total") == value(before, "edge_embed_texts_total") + 2
    assert (
        value(after, "edge_embed_truncated_texts_total")
        == value(before, "edge_embed_truncated_texts_total") + 1
    )
    assert value(after, "process_resident_memory_bytes") > 1e6
    assert 'path="other",status="404"' in after
    assert "/made/up" not in after
    assert 'edge_embed_run_duration_seconds_bucket{bucket="32",le="+Inf"}' in after


def test_many_clients_at_once_get_their_own_vectors(client, truth):
    texts = [f"{word} {number}" for number in range(12) for word in ("red", "planet water", LONG)]
    expected = truth.encode(texts)
    failures = []

    def ask(place):
        for index in range(place, len(texts), 6):
            _, answer, _ = client.post("/v1/embeddings", {"input": texts[index]})
            got = np.array(answer["data"][0]["embedding"], np.float32)
            if not np.array_equal(got, expected[index]):
                failures.append(index)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_keys(serve):
    client = serve(api_keys=("secret", "other"))
    assert client.get("/health")[0] == 200
    status, answer, headers = client.post("/v1/embeddings", {"input": "a"})
    assert (status, answer["error"]["code"], headers["www-authenticate"]) == (
        401,
        "invalid_api_key",
        "Bearer",
    )
    assert client.post("/v1/embeddings", {"input": "a"}, authorization="Bearer wrong")[0] == 401
    assert client.get("/metrics")[0] == 401
    assert client.post("/v1/embeddings", {"input": "a"}, authorization="Bearer other")[0] == 200


def test_hosts_and_origins(serve):
    client = serve(allowed_hosts=("127.0.0.1",), allowed_origins=("https://app.example",))
    assert client.get("/info")[0] == 200
    assert client.get("/info", host="evil.example")[0] == 421
    headers = {"origin": "https://app.example", "access-control-request-method": "POST"}
    status, _, got = client.send("OPTIONS", "/v1/embeddings", None, headers)
    assert (status, got["access-control-allow-origin"]) == (200, "https://app.example")
    assert "access-control-allow-origin" not in client.get("/info", origin="https://evil.example")[2]


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


class _Held(Embedder):
    """A model that waits until it is let go."""

    let_go = threading.Event()

    def run_plan(self, work, alone=False):
        self.let_go.wait(20)
        return super().run_plan(work, alone)


@pytest.fixture
def held(tiny_model):
    _Held.let_go.set()
    server = create_app(
        _Held(tiny_model, weight_cache="memory", num_threads=1), Options(queue_texts=3, drain_timeout=20)
    )
    with serving(server) as client:
        _Held.let_go.clear()
        yield server, client
        _Held.let_go.set()


def test_a_full_queue_answers_429_at_once(held, monkeypatch):
    server, client = held
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(client.post("/embed", {"inputs": "a"})[0]))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    _until(lambda: server.model.scheduler.texts == 3)
    started = time.perf_counter()
    with monkeypatch.context() as patch:
        patch.setattr(server.model.embedder, "plan", None)  # it is refused before it is tokenized
        status, answer, headers = client.post("/embed", {"inputs": "a"})
    assert time.perf_counter() - started < 5
    assert (status, answer["error"]["code"], headers["retry-after"]) == (429, "queue_full", "1")
    _Held.let_go.set()
    for thread in threads:
        thread.join()
    assert results == [200, 200, 200]


def test_a_client_that_left_frees_its_place(held):
    server, client = held
    content = b'{"inputs":["a","red red red red red red red red red red"]}'
    head = b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(content)
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(head + content)
        _until(lambda: server.model.scheduler.texts == 2)
    _until(lambda: server.model.scheduler.texts <= 1)  # the one that runs
    _Held.let_go.set()
    _until(lambda: server.model.scheduler.texts == 0)
    assert "edge_embed_abandoned_requests_total 1" in client.get("/metrics")[1]


def test_running_requests_end_before_the_server_does(tiny_model):
    _Held.let_go.set()
    server = create_app(_Held(tiny_model, weight_cache="memory", num_threads=1), Options(drain_timeout=20))
    results = []
    with serving(server) as client:
        _Held.let_go.clear()
        thread = threading.Thread(target=lambda: results.append(client.post("/embed", {"inputs": "a"})[0]))
        thread.start()
        _until(lambda: server.model.scheduler.texts == 1)
        server.gate.draining = True
        assert client.get("/health")[0] == 503
        assert client.post("/embed", {"inputs": "a"})[0] == 503
        _Held.let_go.set()
        thread.join()
    assert results == [200]


def test_a_model_file_that_is_overwritten_meanwhile_is_an_error_and_no_other_vector(tiny_model, tmp_path):
    path = tmp_path / "model.tflite"
    shutil.copyfile(tiny_model, path)
    embedder = Embedder(path, weight_cache="memory", num_threads=1)
    with serving(create_app(embedder, Options())) as client:
        assert client.post("/embed", {"inputs": "red"})[0] == 200
        path.write_bytes(bytes(path.stat().st_size))
        status, answer, _ = client.post("/embed", {"inputs": "red"})
        assert (status, answer["error"]["code"]) == (503, "model_failure")


def test_logs_are_json_on_request(serve, caplog, monkeypatch):
    monkeypatch.setattr(gates.log, "propagate", True)
    client = serve(json_logs=True)
    with caplog.at_level(logging.INFO, "edge_embed.serve"):
        client.post("/embed", {"inputs": "red"}, **{"x-request-id": "one"})
        client.post("/embed", {"inputs": 3}, **{"x-request-id": "two"})
        _until(lambda: '"id": "two"' in caplog.text)
    lines = {line["id"]: line for line in (json.loads(record.getMessage()) for record in caplog.records)}
    assert {"status": 200, "texts": 1}.items() <= lines["one"].items()
    assert {"status": 400, "error": "invalid_value"}.items() <= lines["two"].items()


def test_the_openapi_document_names_what_is_served(client, server, truth):
    document = client.get("/openapi.json")[1]
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) < {route.path for route in server.gate._app.routes}
    body = document["paths"]["/embed"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["dimensions"]["maximum"] == truth.manifest.dimension
    assert body["properties"]["prompt_name"]["enum"] == ["query", "document", None]


def _until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
