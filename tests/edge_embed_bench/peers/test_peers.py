"""Peers: the same weights and ids, checked first, and a failure is a row."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from edge_embed.errors import InputError
from edge_embed_bench.commands import bench as cli
from edge_embed_bench.peers import registry as peers
from edge_embed_bench.peers.base import TokenPeer
from edge_embed_bench.records.model import Model
from edge_embed_bench.worker.measure import Job

STOCK = {
    "minilm": "ships no encoder of the family bert",
    # Its padded positions see nothing but padding where the window is narrower than the padding.
    "embeddinggemma-300m": "values that are not numbers",
}
"""What the stock graph of litert-torch makes of the small shapes."""

QUICK = ("--repetitions", "2", "--loads", "1", "--threads", "1", "--warmup", "0")


class Echo(TokenPeer):
    """Its vectors are the sums of a text's ids and the width of its batch."""

    def run(self, tokens, mask):
        return np.stack([(tokens * mask).sum(1), np.full(len(tokens), tokens.shape[1])], axis=1)


def job(path):
    return Job(str(path), None, "", 1, 8)


def test_batches_are_padded_and_masked(tiny_model):
    echo = Echo()
    echo.load(job(tiny_model))
    assert echo.embed([[2, 50, 3], [2, 3]]).tolist() == [[55, 3], [5, 3]]


def test_documents_of_like_length_run_together_and_come_back_in_order(tiny_model):
    echo = Echo()
    echo.load(job(tiny_model))
    texts = ["water " * 20, "stone", "water " * 21, "red", "water " * 100]
    widths = echo.embed_documents(texts, 2)[:, 1].tolist()
    assert widths[1] == widths[3] < widths[0] == widths[2] < widths[4] == 32
    tokens, cut = echo.count(texts)
    assert cut == 1
    assert max(tokens) == 32
    alone = [echo.embed_documents([text], 1)[0, 0] for text in texts]
    assert echo.embed_documents(texts, 2)[:, 0].tolist() == alone


def test_the_help_names_every_peer():
    assert tuple(peers.PEERS) == cli.PEERS


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--peers", "tensorrt"), "onnxruntime-fp32, onnxruntime-int8"),
        (("--peers", "openvino"), "--checkpoint"),
        (("--peers", "openvino", "--checkpoint", "none"), "none"),
    ],
)
def test_bad_input(bench, tiny_model, words, problem):
    result = bench(tiny_model, "--lengths", "8", *QUICK, *words)
    assert result.code == 2
    assert problem in result.err


def test_other_weights_are_refused(tiny_model, small):
    from edge_embed_bench.synthetic.models import checkpoint

    with pytest.raises(InputError, match="was not made from"):
        peers.subjects(["openvino"], Model.open(tiny_model), checkpoint("minilm"), 1, 60)


@pytest.fixture
def made_from_small(tiny_model, small, build_model, tmp_path):
    """A model file that claims the weights of the small checkpoint, and that checkpoint."""
    from edge_embed_bench.synthetic.models import checkpoint
    from edge_embed_convert.source.checkpoint import load

    source = checkpoint("minilm")
    model = Model.open(tiny_model)
    origin = replace(model.manifest.source, sha256=load(source).weights_sha256())
    return replace(model, manifest=replace(model.manifest, source=origin)), source


def test_a_missing_package_is_a_row(made_from_small, monkeypatch):
    missing = peers.Peer(
        "ghost", "edge_embed_bench.peers.registry.ghost:Ghost", {"no_such_engine": "no-such-engine"}, 0.9
    )
    monkeypatch.setitem(peers.PEERS, "ghost", missing)
    (subject,) = peers.subjects(["ghost"], *made_from_small, 1, 60)
    assert subject.problem == "not installed: pip install no-such-engine"


def test_a_peer_that_crashes_while_preparing_is_a_row(
    made_from_small, monkeypatch, tmp_path, cache_directory
):
    (tmp_path / "fake_crash.py").write_text(
        "import os\nclass Engine:\n    def prepare(self, checkpoint, directory):\n        os.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(
        peers.PEERS,
        "crash",
        peers.Peer("crash", "fake_crash:Engine", {}, 0.9, peers.Artifact("crash", (), ())),
    )
    (subject,) = peers.subjects(["crash"], *made_from_small, 1, 60)
    assert "died in prepare" in subject.problem
    assert "SIGABRT" in subject.problem
    assert not [path for path in (cache_directory / "peers").rglob("*") if "crash" in path.name]


class Broken(TokenPeer):
    """Divides by a mask that is empty."""

    def run(self, tokens, mask):
        return np.full((len(tokens), 8), np.nan)


def test_vectors_that_are_no_numbers_are_refused(tiny_model):
    broken = Broken()
    broken.load(job(tiny_model))
    with pytest.raises(ValueError, match="not numbers"):
        broken.embed([[2, 3]])


def test_a_form_is_kept_under_what_makes_it(monkeypatch):
    artifact = peers.PEERS["onnxruntime-int8"].artifact
    assert artifact.key() == artifact.key() != peers.PEERS["openvino"].artifact.key()
    assert peers.PEERS["openvino"].artifact.key() == peers.PEERS["onnxruntime-fp32"].artifact.key()
    before = artifact.key()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99")
    assert artifact.key() != before


@pytest.mark.parametrize("shape", ["minilm", "embeddinggemma-300m"])
def test_real_peers_agree_with_the_source(bench, small_and_kept, shape):
    names = list(peers.PEERS)
    cells = ("--lengths", "16,48", "--batch", "2", *QUICK)
    result = bench("--synthetic", shape, *cells, "--peers", ",".join(names), "--json")
    assert result.code == 0, result.out + result.err
    for record in result.records:
        name = record["engine"]["name"]
        packages = peers.PEERS[name].packages if name in peers.PEERS else ()
        if name == "litert-torch":
            assert STOCK[shape] in record["error"]
        elif all(importlib.util.find_spec(package) for package in packages):
            assert record["status"] == "ok", (name, record["error"])
            assert record["agreement"]["cosine_min"] >= record["agreement"]["least"] > 0
            assert len(record["run"]["interleaved_with"]) == len(names)
        else:
            assert "not installed" in record["error"]


def test_corpus_beside_a_peer(bench, small_and_kept, tmp_path):
    corpus = tmp_path / "c.txt"
    corpus.write_text("red planet\nrain fell on the harbour while two boats came home\n" * 5, "utf-8")
    result = bench(
        "--synthetic",
        "minilm",
        "--corpus",
        corpus,
        "--batch",
        "2",
        *QUICK,
        "--peers",
        "sentence-transformers-fp32",
        "--json",
    )
    assert result.code == 0, result.err
    ours, peer = (record["throughput"] for record in result.records)
    assert ours["tokens"] == peer["tokens"]
    assert peer["documents_per_s"] > 0


def test_a_wrong_peer_is_not_timed_on_a_corpus(bench, small_and_kept, tmp_path, monkeypatch):
    from edge_embed_bench.targets import workers

    honest = workers.agreement.least_cosine
    seen = []

    def least_cosine(vectors, expected):
        seen.append(honest(vectors, expected))
        return 0.1 if len(seen) == 2 else seen[-1]  # ours, then the peer

    monkeypatch.setattr(workers.agreement, "least_cosine", least_cosine)
    corpus = tmp_path / "c.txt"
    corpus.write_text("red planet\n" * 3, "utf-8")
    result = bench(
        "--synthetic", "minilm", "--corpus", corpus, *QUICK, "--peers", "sentence-transformers-fp32", "--json"
    )
    ours, peer = result.records
    assert (ours["status"], peer["status"], result.code) == ("ok", "failed", 0)
    assert "wrong vectors" in peer["error"]
    assert peer["throughput"] is None
