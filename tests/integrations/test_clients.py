"""The clients that people use, against a running server, and everything that its own description allows."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from langchain_openai import OpenAIEmbeddings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from edge_embed import Index

KEY = "a-key-of-the-tests"


@pytest.fixture(scope="module")
def server(tiny_model: Path, embedder, tmp_path_factory) -> Iterator[str]:
    """A server in a process of its own, with an index and a key."""
    folder = tmp_path_factory.mktemp("server")
    with Index.open(folder / "notes.db", embedder) as index:
        index.add([{"id": "mars", "text": "the red planet mars"}, {"id": "b", "text": "water and stone"}])
    (folder / "keys.txt").write_text(KEY)
    command = [sys.executable, "-m", "edge_embed", "serve", str(tiny_model), "--port", "0", "--threads", "1"]
    command += ["--index", str(folder / "notes.db"), "--api-key-file", str(folder / "keys.txt")]
    log = folder / "log.txt"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, stderr=output, env={**os.environ, "EDGE_EMBED_CACHE": str(folder)}
        )
        try:
            address = _address(process, log)
            yield address
            assert process.poll() is None, log.read_text()
        finally:
            process.terminate()
            process.wait(30)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        lines = [line for line in log.read_text().splitlines() if line.startswith("serving ")]
        if lines:
            address = lines[0].split()[-1]
            if httpx.get(f"{address}/health").status_code == 200:
                return address
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_openai_gives_the_models_vectors(client, embedder, texts):
    for role, method in (("query", embedder.encode_query), ("document", embedder.encode_document)):
        answer = client.embeddings.create(model=f"tiny:{role}", input=texts)  # base64, as it asks by itself
        got = np.array([item.embedding for item in answer.data], np.float32)
        np.testing.assert_array_equal(got, method(texts))
    floats = client.embeddings.create(model="tiny", input=texts[0], encoding_format="float", dimensions=4)
    np.testing.assert_array_equal(
        np.array(floats.data[0].embedding, np.float32), embedder.encode(texts[0], truncate_dim=4)
    )
    assert floats.usage.prompt_tokens == len(embedder.tokenize(texts[0])[0])
    typed = client.embeddings.create(model="tiny", input=texts[0], extra_body={"input_type": "query"})
    np.testing.assert_array_equal(
        np.array(typed.data[0].embedding, np.float32), embedder.encode_query(texts[0])
    )
    assert [model.id for model in client.models.list().data][:3] == ["tiny", "tiny:query", "tiny:document"]


def test_openai_names_each_error(client, server):
    with pytest.raises(openai.NotFoundError, match="another"):
        client.embeddings.create(model="another", input="a")
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model="tiny", input=[[1, 2]])
    assert error.value.code == "token_arrays_not_supported"
    with pytest.raises(openai.UnprocessableEntityError):
        client.embeddings.create(model="tiny", input="red " * 100, extra_body={"truncate": False})
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{server}/v1", api_key="wrong", max_retries=0).models.list()


async def test_openai_async(server, embedder, texts):
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key=KEY, max_retries=0) as client:
        answer = await client.embeddings.create(model="tiny", input=texts)
    got = np.array([item.embedding for item in answer.data], np.float32)
    np.testing.assert_array_equal(got, embedder.encode(texts))


def test_langchain_openai(server, embedder, texts):
    options = {"base_url": f"{server}/v1", "api_key": KEY, "model": "tiny:document", "max_retries": 0}
    embeddings = OpenAIEmbeddings(check_embedding_ctx_length=False, **options)
    got = np.array(embeddings.embed_documents(texts), np.float32)
    np.testing.assert_array_equal(got, embedder.encode_document(texts))


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_what_the_description_allows_is_answered_as_it_says(server, mode):
    """Requests that it allows, and requests that it does not allow, to each path and method."""
    headers = {"Authorization": f"Bearer {KEY}"}
    schema = schemathesis.openapi.from_dict(httpx.get(f"{server}/openapi.json", headers=headers).json())
    schema.config.base_url = server
    operations = [result.ok() for result in schema.get_all_operations()]
    if mode == schemathesis.GenerationMode.NEGATIVE:  # nothing can be wrong with a request without a body
        operations = [operation for operation in operations if operation.body]
    assert {"/v1/embeddings", "/embed", "/similarity", "/tokenize", "/search"} <= {o.path for o in operations}
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=40,
            deadline=None,
            derandomize=True,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        def check(case):
            excluded = [positive_data_acceptance]  # it knows nothing of texts that are too long
            answer = case.call_and_validate(headers=headers, timeout=30, excluded_checks=excluded)
            if mode == schemathesis.GenerationMode.POSITIVE and answer.status_code == 400:
                # A description cannot say that the role must not contradict the model's name.
                assert answer.json()["error"]["param"] == "input_type"

        check()
