"""The endpoints over a real socket; every vector is compared with what the model itself gives."""

from __future__ import annotations

import base64
import json
import logging
import shutil
import threading

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.errors import RuntimeFailure
from edge_embed.serve import logs
from edge_embed.serve.app import create_app
from edge_embed.serve.options import Options

from .conftest import serving, until

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


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"input": "a", "dimensions": NaN}', b"[1]", b"\xff", b'"x"', b"[" * 100_000]
)
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
    assert client.post("/v1/embeddings", {"input": "a"}, authorization="Basic other")[0] == 401
    assert client.post("/v1/embeddings", {"input": "a"}, authorization="other")[0] == 401
    assert client.post("/v1/embeddings", {"input": "a"}, authorization="bearer  secret")[0] == 200
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
    shown = client.get("/info", origin="https://app.example")[2]["access-control-expose-headers"]
    assert {"x-request-id", "x-truncated-texts", "retry-after"} <= set(shown.split(", "))


def test_a_model_file_that_is_overwritten_meanwhile_is_an_error_and_no_other_vector(tiny_model, tmp_path):
    path = tmp_path / "model.tflite"
    shutil.copyfile(tiny_model, path)
    embedder = Embedder(path, weight_cache="memory", num_threads=1)
    with serving(create_app(embedder, Options())) as client:
        assert client.post("/embed", {"inputs": "red"})[0] == 200
        path.write_bytes(bytes(path.stat().st_size))
        status, answer, _ = client.post("/embed", {"inputs": "red"})
        assert (status, answer["error"]["code"]) == (503, "model_failure")


def test_a_model_that_cannot_run_is_told(tiny_model, monkeypatch):
    server = create_app(Embedder(tiny_model, weight_cache="memory", num_threads=1), Options())

    def fail():
        raise RuntimeFailure("LiteRT cannot run the graph")

    monkeypatch.setattr(server.model, "warm_up", fail)
    with serving(server, wait=False) as client:
        until(lambda: server.gate.failure)
        for answer in (client.get("/health"), client.post("/embed", {"inputs": "a"})):
            assert (answer[0], answer[1]["error"]["code"]) == (503, "model_failure")
            assert "LiteRT cannot run the graph" in answer[1]["error"]["message"]


def test_logs_are_json_on_request(serve, caplog, monkeypatch):
    monkeypatch.setattr(logs.log, "propagate", True)
    client = serve(json_logs=True)
    with caplog.at_level(logging.INFO, "edge_embed.serve"):
        client.post("/embed", {"inputs": "red"}, **{"x-request-id": "one"})
        client.post("/embed", {"inputs": 3}, **{"x-request-id": "two"})
        until(lambda: '"id": "two"' in caplog.text)
    words = "\n".join(record.getMessage() for record in caplog.records).splitlines()
    lines = {line["id"]: line for line in map(json.loads, words)}
    assert {"status": 200, "texts": 1}.items() <= lines["one"].items()
    assert {"status": 400, "error": "invalid_value"}.items() <= lines["two"].items()


def test_the_openapi_document_names_what_is_served(client, server, truth):
    document = client.get("/openapi.json")[1]
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) < {path for path, _ in server._handlers}
    body = document["paths"]["/embed"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["dimensions"]["maximum"] == truth.manifest.dimension
    assert body["properties"]["prompt_name"]["enum"] == ["query", "document", None]
