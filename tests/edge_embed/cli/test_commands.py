"""The commands on a real, tiny model file."""

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.cli import main
from edge_embed.model_file.file import ModelFile
from edge_embed.model_file.manifest import SelfCheck, encode_vector
from edge_embed.names import PROBES_NAME
from edge_embed.progress import progress_bar

TEXTS = ["the red planet", "green hills, small birds", "night falls"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def embedder(tiny_model):
    with Embedder(tiny_model) as model:
        yield model


def vectors_of(result):
    return np.array([line["embedding"] for line in result.lines], dtype=np.float32)


def pipe(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False))


def test_embed_prints_the_vectors_exactly(run, tiny_model, embedder):
    result = run("embed", tiny_model, *TEXTS)
    assert (result.code, result.err) == (0, "")
    assert [line["text"] for line in result.lines] == TEXTS
    assert np.array_equal(vectors_of(result), embedder.encode(TEXTS))


def test_embed_by_task(run, tiny_model, embedder):
    query = vectors_of(run("embed", tiny_model, "--query", *TEXTS))
    assert np.array_equal(query, embedder.encode_query(TEXTS))
    assert np.array_equal(vectors_of(run("embed", tiny_model, "--task", "query", *TEXTS)), query)
    document = vectors_of(run("embed", tiny_model, *TEXTS, "--document"))
    assert np.array_equal(document, embedder.encode_document(TEXTS))
    assert not np.array_equal(document, query)


def test_embed_options_reach_the_model(run, tiny_model, embedder):
    result = run("embed", tiny_model, "--truncate-dim", 4, "--threads", 1, *TEXTS)
    assert np.array_equal(vectors_of(result), embedder.encode(TEXTS, truncate_dim=4))
    long = "red planet " * 40
    cut = run("embed", tiny_model, long)
    assert cut.code == 0
    assert cut.err.startswith("edge_embed: warning: ")
    assert cut.err.count("\n") == 1
    refused = run("embed", tiny_model, long, "--overflow", "error")
    assert (refused.code, refused.out) == (2, "")
    mean = run("embed", tiny_model, long, "--overflow", "mean")
    assert mean.err == ""
    assert not np.array_equal(vectors_of(mean), vectors_of(cut))


def test_embed_stdin_as_lines_or_jsonl(run, tiny_model, monkeypatch, embedder):
    pipe(monkeypatch, b"the red planet\nnight falls\n")
    assert np.array_equal(vectors_of(run("embed", tiny_model)), embedder.encode([TEXTS[0], TEXTS[2]]))
    pipe(monkeypatch, b'{"id": 5, "body": "night falls"}\n')
    result = run("embed", tiny_model, "--input", "-", "--field", "body")
    assert result.lines[0]["id"] == 5
    pipe(monkeypatch, b"")
    assert (run("embed", tiny_model).code, run("embed", tiny_model).out) == (0, "")


def test_embed_files(run, tiny_model, tmp_path, embedder):
    source, target = tmp_path / "a.jsonl", tmp_path / "v.npy"
    source.write_text("".join(json.dumps({"text": text, "title": None}) + "\n" for text in TEXTS))
    result = run("embed", tiny_model, "-i", source, "-o", target, "--json")
    assert result.lines == [{"output": str(target), "texts": 3, "dimension": 8, "bad": 0, "resumed": 0}]
    assert np.array_equal(np.load(target), embedder.encode(TEXTS))
    assert "3 vectors of 8 numbers" in run("embed", tiny_model, "-i", source, "-o", target).out


def test_embed_titles(run, tiny_model, tmp_path, embedder):
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "night", "t": "birds"}\n{"text": "night"}\n')
    result = run("embed", tiny_model, "-i", source, "--document", "--titles-field", "t")
    expected = embedder.encode_document(["night", "night"], titles=["birds", None])
    assert np.array_equal(vectors_of(result), expected)
    refused = run("embed", tiny_model, "-i", source, "--titles-field", "t")
    assert refused.code == 2
    assert "--document" in refused.err


def test_embed_for_people(run, tiny_model, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "72")
    assert main(["embed", str(tiny_model), "night", "night falls " * 2 + "on " * 20]) == 0
    lines = screen.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith('8 numbers  "night"')
    assert max(map(len, lines)) == 72
    assert lines[1].endswith('…"')


@pytest.mark.parametrize(
    "words",
    [
        ["--output", "v.csv", "night"],
        ["--output", "gone/v.npy", "night"],
        ["--input", "gone.txt"],
        ["--input", "gone.txt", "night"],
        ["--field", "body", "night"],
        ["--prompt-name", "poem", "night"],
        ["--truncate-dim", "0", "night"],
        ["--truncate-dim", "9", "night"],
        ["--query", "--document", "night"],
        ["--overflow", "shrug", "night"],
        ["\udcff"],
    ],
)
def test_embed_refuses_and_writes_nothing(run, tiny_model, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    result = run("embed", tiny_model, *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("edge_embed: error: ")
    assert list(tmp_path.iterdir()) == []


def test_embed_without_any_text(run, tiny_model, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal())
    result = run("embed", tiny_model)
    assert result.code == 2
    assert "--input" in result.err


@pytest.mark.parametrize(
    "words",
    [
        ["--engine", "ray"],
        ["--engine", "ray", "--input", "in/"],
        ["--engine", "ray", "--input", "in/", "--output", "out/", "--accelerator", "gpu"],
        ["--address", "head:6379", "a"],
    ],
)
def test_options_of_a_cluster_that_do_not_fit(run, tiny_model, words):
    result = run("embed", tiny_model, *words)
    assert result.code == 2
    assert "to fix it" in result.err or "got" in result.err


@pytest.mark.parametrize("verb", ["embed", "similarity", "inspect", "verify"])
@pytest.mark.parametrize("content", [None, b"", b"just text\n"])
def test_not_a_model(run, tmp_path, verb, content):
    path = tmp_path / "m.tflite"
    if content is not None:
        path.write_bytes(content)
    result = run(verb, path, *(["a", "b"] if verb in ("embed", "similarity") else []))
    assert (result.code, result.out) == (2, "")
    assert str(path) in result.err


def test_similarity_ranks(run, tiny_model, embedder):
    result = run("similarity", tiny_model, "red planet", *TEXTS, "--json")
    (line,) = result.lines
    scores = embedder.similarity(embedder.encode_query(["red planet"]), embedder.encode_document(TEXTS))[0]
    assert line["query"] == "red planet"
    assert [r["rank"] for r in line["results"]] == [1, 2, 3]
    assert [r["index"] for r in line["results"]] == np.argsort(-scores).tolist()
    assert all(r["score"] == pytest.approx(scores[r["index"]], abs=1e-6) for r in line["results"])
    assert all(r["text"] == TEXTS[r["index"]] for r in line["results"])
    table = run("similarity", tiny_model, "red planet", *TEXTS, "--top-k", 2).out.splitlines()
    assert table[0] == "red planet"
    assert [row.split()[0] for row in table[1:]] == ["1", "2"]


def test_similarity_of_files(run, tiny_model, tmp_path):
    queries, documents = tmp_path / "q.txt", tmp_path / "d.jsonl"
    queries.write_text("red planet\nnight\n")
    documents.write_text("".join(json.dumps({"body": f"stone {i}"}) + "\n" for i in range(12)))
    result = run(
        "similarity", tiny_model, "--queries", queries, "--documents", documents, "--field", "body", "--json"
    )
    assert [line["query"] for line in result.lines] == ["red planet", "night"]
    assert [len(line["results"]) for line in result.lines] == [10, 10]
    mixed = run(
        "similarity", tiny_model, "night", "--documents", documents, "--field", "body", "--top-k", 3, "--json"
    )
    assert mixed.lines == [{"query": "night", "results": result.lines[1]["results"][:3]}]
    words = run(
        "similarity", tiny_model, "--queries", queries, "stone", "river", "--prompt-name", "query", "--json"
    )
    assert [len(line["results"]) for line in words.lines] == [2, 2]


def test_equal_documents_keep_their_order(run, tiny_model):
    (line,) = run("similarity", tiny_model, "night", *["same"] * 5, "--json").lines
    assert [r["index"] for r in line["results"]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["query alone"],
        ["--documents", "a.txt"],
        ["q", "d", "--documents", "a.txt"],
        ["--queries", "-", "--documents", "-"],
        ["q", "d", "--top-k", "0"],
        ["q", "d", "--field", "x"],
        ["q", "d", "--titles-field", "x"],
    ],
)
def test_similarity_bad_usage(run, tiny_model, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a text\n")
    assert run("similarity", tiny_model, *words).code == 2


def test_inspect_json_is_complete(run, tiny_model):
    result = run("inspect", tiny_model, "--json")
    assert result.code == 0
    facts = json.loads(result.out)
    assert sum(facts["sizes"].values()) == facts["bytes"] == tiny_model.stat().st_size
    assert facts["sizes"]["graph: embedding table"] == 512 * 16 * 4
    assert [report["bucket"] for report in facts["delegate"]] == facts["buckets"] == [8, 16, 32]
    assert all(report["partitions"] == 1 for report in facts["delegate"])
    manifest = ModelFile.open(tiny_model).manifest
    assert facts["prompts"] == manifest.prompts
    assert facts["parity"]["thresholds"] == manifest.parity.thresholds


def test_inspect_for_people(run, tiny_model):
    text = run("inspect", tiny_model).out
    facts = ["tests/tiny", "apache-2.0", "8 numbers, unit length", "8, 4", "8, 16, 32", "mean", "fp32"]
    facts += [
        "'title: none | text: '",
        "embedding table",
        "tokenizer.json",
        "EMBEDDING_LOOKUP",
        "edge-embed 0",
    ]
    for fact in [*facts, "cosine, lowest"]:
        assert fact in text
    assert "EMBEDDING_LOOKUP" not in run("inspect", tiny_model, "--no-delegate").out


def test_verify_passes(run, tiny_model):
    result = run("verify", tiny_model, "--threads", 1)
    assert (result.code, result.err) == (0, "")
    assert result.out.count("passed") == 4
    report = json.loads(run("verify", tiny_model, "--json").out)
    assert report["passed"] is True
    assert [check["name"] for check in report["checks"]] == ["integrity", "self-check", "probes"]
    assert report["parity"]["cosine_min"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("where", ["graph", "member"])
def test_verify_finds_damage_before_running_it(run, tiny_model, tmp_path, monkeypatch, where):
    data = bytearray(tiny_model.read_bytes())
    data[2000 if where == "graph" else data.index(b'"unk_token"')] ^= 1
    path = tmp_path / "m.tflite"
    path.write_bytes(data)
    monkeypatch.setattr("edge_embed.Embedder", None)
    result = run("verify", path)
    assert result.code == 1
    assert result.out.startswith("integrity   FAILED")
    report = json.loads(run("verify", path, "--json").out)
    assert (report["passed"], report["parity"], len(report["checks"])) == (False, None, 1)


def test_verify_notices_a_failing_self_check(run, build_model, tmp_path):
    wrong = np.zeros(8)
    wrong[0] = 1
    path = build_model(
        tmp_path / "m.tflite",
        self_check=SelfCheck([2, 50, 60, 3], encode_vector(wrong), 0.9999),
        members={PROBES_NAME: probes("night", wrong)},
    )
    result = run("verify", path)
    assert result.code == 1
    assert "self-check  FAILED" in result.out
    assert "FAILED: cosine, lowest" in result.out
    assert run("embed", path, "night").code == 1


def probes(text, vector, prompt_name=None, tokens=(2, 5, 3)):
    probe = {
        "text": text,
        "prompt_name": prompt_name,
        "tokens": list(tokens),
        "length": 8,
        "embedding": encode_vector(vector),
    }
    return json.dumps({"schema_version": 1, "probes": [probe]}).encode()


def test_verify_counts_token_mismatches(run, build_model, tmp_path, embedder):
    stored = probes("night", embedder.encode("night"), tokens=(2, 9, 3))
    path = build_model(tmp_path / "m.tflite", members={PROBES_NAME: stored})
    result = run("verify", path, "--json")
    assert result.code == 1
    parity = json.loads(result.out)["parity"]
    assert parity["token_mismatches"] == 1
    assert parity["cosine_min"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "stored", [b'{"schema_version": 1, "probes": []}', probes("night", np.ones(8), "poem")]
)
def test_verify_without_usable_probes(run, build_model, tmp_path, stored):
    path = build_model(tmp_path / "m.tflite", members={PROBES_NAME: stored})
    result = run("verify", path)
    assert result.code == 2
    assert "probes" in result.err


def test_verify_against_a_source_is_the_converters_work(run, tiny_model, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "edge_embed.cli.verify.load_entry_point",
        lambda group, name: lambda *args: calls.append((group, name, *args[:2])) or 1,
    )
    assert run("verify", tiny_model, "--source", "some/checkpoint").code == 1
    assert calls == [("edge_embed.verify", "source", tiny_model, "some/checkpoint")]


def test_progress_is_for_terminals(monkeypatch):
    for stream, shown in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr("edge_embed.progress.DELAY_SECONDS", 0)
        with progress_bar(3, "work") as advance:
            advance(3)
        assert ("work" in stream.getvalue()) is shown
    monkeypatch.setattr(sys, "stderr", None)
    with progress_bar(3, "work") as advance:
        advance(1)
