"""Writes the golden files: what the Python runtime makes of texts, manifests and model files.

`tests/android_demo/test_golden.py` asserts that Python still gives them, and JUnit that Kotlin does. Beside
them lie the three small tokenizers they were made with, built here without chance.

Run `python tests/golden/make_golden.py` after a change that is meant to change them.
"""

# ruff: noqa: RUF001 - lookalike characters are what these texts are for

from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed import Embedder
from edge_embed.model_file.file import write_model_file
from edge_embed.model_file.manifest import (
    Architecture,
    BucketParity,
    Graph,
    Licence,
    Manifest,
    Parity,
    RecipeRecord,
    SelfCheck,
    Source,
    TokenizerRecord,
    encode_vector,
)
from edge_embed.names import MANIFEST_NAME, OVERFLOWS, PROBES_NAME
from edge_embed.proof.rerun import fed
from edge_embed.proof.self_check import bucket_for
from edge_embed.similarity import similarity
from edge_embed.text.tokenizers import Tokenizer, load_tokenizer
from edge_embed.text.windows import plan
from edge_embed_bench.records import record
from edge_embed_convert.source.tokenizer_texts import HOSTILE_TEXTS

sys.path.insert(0, str(Path(__file__).parent))
from damaged_files import GRAPH, b64, files_golden, manifests_golden, verdict
from small_tokenizers import bpe, graphemes, unigram, wordpiece

HERE = Path(__file__).parent
TOKENIZERS = ("bpe.model", "unigram.model", "graphemes.model", "wordpiece.json")
DIMENSION = 8

TEXTS = (
    *HOSTILE_TEXTS,
    "The quick brown fox jumps over the lazy dog, twice; the red planet is known as Mars.",
    "ΟΔΥΣΣΕΥΣ ΣΑΣ Σ ΑΣ1Β ΑΣ.Σ Σ'Α ΑΣ\u0301 ΑΣ",
    "unaffable embeddings' re-embedding of EMBEDDINGS isn't unembeddable",
    "ﬁne ①②③ ｆｕｌｌ\u3000ｗｉｄｔｈ \u212b \u00c5 ﷺ",
    "[CLS][SEP] [MASK]ed  [MASK]  lone[MASK]end\t[MASK]\n<tag> <TAG>two<tag><b></b><bb>",
    "a" * 100 + " " + "b" * 101,
    "x<s>y</s>z<unk>w<pad>",
    "＜ｓ＞ ａ＜ｕｎｋ＞ｄ<unk><unk>🫠🫠 iii (ii) wait.... -3-3-3 \u1112\u1161\u11ab ﬁ\u0301 e\u0301\u0302",
    "\U00010570\u1c89\ua7cb\u2c2f\u0820\u11938 \u09fd\u0a76\u07fd newer letters and marks",
)
"""The hostile texts of the conversion and some that the three small tokenizers find hard."""


class Toy(Embedder):
    """The real `Embedder` on arithmetic in place of a graph: exact in both languages."""

    workers = 1

    def _load(self) -> Any:
        return self

    def run(self, length: int, ids: Sequence[int], alone: bool = False) -> Any:
        """Returns a vector that depends on every id, its place, and the bucket."""
        rows = [
            sum((i + 1) * (token + 1) * (j + 3) for i, token in enumerate(ids)) + length * (j + 1)
            for j in range(DIMENSION)
        ]
        return np.array([(row % 257 - 128.5) / 64 for row in rows], dtype=np.float32)


def make_manifest(file: str, data: bytes) -> Manifest:
    """Returns the manifest of a model with that tokenizer and 24 tokens at most."""
    kinds = {"wordpiece.json": "tokenizers", "graphemes.model": "unigram"}
    kind = kinds.get(file, "sentencepiece")
    around = {
        "bpe.model": ([2], [1]),
        "unigram.model": ([], [3]),
        "graphemes.model": ([], [2]),
        "wordpiece.json": ([2], [3]),
    }[file]
    bucket = BucketParity(8, 1, 1.0, 1.0)
    parity = Parity(True, [], 1, 1.0, 1.0, 0.0, 0, 0, 0, 1.0, 1, {"cosine_min": 0.99}, [bucket])
    return Manifest(
        name="golden",
        source=Source("tests/golden", None, "0" * 64),
        architecture=Architecture("toy", 64, {"layers": [1, None, 2.5]}),
        recipe=RecipeRecord("fp32", "fp32", {"all": {"bits": 32}}),
        graph=Graph(len(GRAPH), hashlib.sha256(GRAPH).hexdigest(), True),
        buckets=[8, 16, 24],
        max_tokens=24,
        pooling=["mean"],
        normalize=True,
        dimension=DIMENSION,
        matryoshka_dimensions=[8, 4],
        similarity="cosine",
        prompts={
            "query": "task: search result | query: ",
            "document": "title: none | text: ",
            "long": "the red planet " * 9,
        },
        default_prompt_name=None,
        tokenizer=TokenizerRecord(
            file,
            kind,
            hashlib.sha256(data).hexdigest(),
            lowercase=file == "unigram.model",
            pad_id=0,
            prefix_ids=around[0],
            suffix_ids=around[1],
            vocab_size=1000,
            sees_padding_tokens=kind == "unigram",
        ),
        licence=Licence("apache-2.0", []),
        tools={"edge-embed": "0"},
        parity=parity,
        self_check=SelfCheck([2, 5, 3], encode_vector(Toy.run(None, 8, [2, 5, 3])), 0.9999),  # type: ignore[arg-type]
    )


def texts_golden(file: str, data: bytes) -> dict[str, Any]:
    """Returns, for each text, its ids, and what is run under each prompt and policy."""
    manifest = make_manifest(file, data)
    tokenizer = load_tokenizer(manifest.tokenizer, data)
    cases = []
    for text in TEXTS:
        ids = tokenizer.encode(text)
        # The ids of long runs are told by their hash: they would be most of the file.
        case: dict[str, Any] = {"text": text, "ids": ids if len(ids) <= 400 else [len(ids), _digest(ids)]}
        if len(text) < 400:
            case["plans"] = _plans(tokenizer, manifest, text)
        cases.append(case)
    return {"manifest": json.loads(manifest.to_json()), "cases": cases}


def _plans(tokenizer: Tokenizer, manifest: Manifest, text: str) -> dict[str, Any]:
    plans = {}
    for name, prompt in {"": "", **manifest.prompts}.items():
        for overflow in OVERFLOWS:
            answer = verdict(lambda p=prompt, o=overflow: plan(tokenizer, manifest, p, text, o, index=0))
            plans[f"{name} {overflow}"] = (
                answer
                if isinstance(answer, str)
                else [
                    _digest([token for window in answer.windows for token in window]),
                    [bucket_for(len(window), manifest) for window in answer.windows],
                    answer.weights,
                    answer.tokens,
                    answer.truncated,
                    answer.padding,
                ]
            )
    return plans


def _digest(ids: Sequence[int]) -> str:
    return hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest()[:16]


def vectors_golden(file: str, data: bytes) -> list[dict[str, Any]]:
    """Returns vectors of the public `Embedder` on the toy graph."""
    cases = []
    long = "mars is known as the red planet " * 5
    texts = ("", "the red planet", "Größe straße " * 3, long, "<pad>", "a\ud800b")
    titles = (None, "", "  Mars ", "\x1f\x85Water\u3000", "\udc00")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "toy.tflite"
        for index, document in enumerate(("title: none | text: ", "", "passage: title: none title: none ")):
            manifest = make_manifest(file, data)
            manifest = replace(
                manifest,
                prompts={"query": "query: ", "document": document},
                normalize=index != 1,
                default_prompt_name=None if index else "query",
            )
            members = {"edge_embed.json": manifest.to_json().encode(), file: data}
            write_model_file(path, GRAPH, members)
            for dimension in (None, 3, 8, 9, 0):
                for overflow in OVERFLOWS:
                    answers = _answers(path, dimension, overflow, texts, titles)
                    case = {"dimension": dimension, "overflow": overflow, "answers": answers}
                    cases.append({"manifest": json.loads(manifest.to_json()), **case})
    return cases


def _answers(path: Path, dimension: int | None, overflow: str, texts: Any, titles: Any) -> list[Any]:
    opened = verdict(lambda: Toy(path, truncate_dim=dimension, overflow=overflow))
    if isinstance(opened, str):
        return [["open", None, None, opened]]
    answers: list[Any] = []
    for text in texts:
        answers.append(["encode", text, None, _vector(lambda t=text: opened.encode(t))])
        answers.append(["encode_query", text, None, _vector(lambda t=text: opened.encode_query(t))])
        for title in titles:
            call = _vector(lambda t=text, n=title: opened.encode_document(t, titles=n))
            answers.append(["encode_document", text, title, call])
    return answers


def _vector(action: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cut texts are the matter here
        answer = verdict(action)
    return answer if isinstance(answer, str) else encode_vector(answer)


def similarity_golden() -> dict[str, Any]:
    """Returns vectors and their similarities by each measure."""
    rows = np.random.default_rng(5).normal(size=(40, 16)).astype(np.float32)
    names = ("cosine", "dot", "euclidean", "manhattan")
    scores = {name: encode_vector(similarity(name, rows[:3], rows).ravel()) for name in names}
    return {"dimension": 16, "rows": encode_vector(rows.ravel()), "queries": 3, "scores": scores}


def probes_golden(file: str, data: bytes) -> dict[str, Any]:
    """Returns a model file that carries probes, and what `edge_embed verify --target adb` is answered."""
    manifest = make_manifest(file, data)
    cases = [("the red planet", "query"), ("", None), ("Größe straße " * 3, "document"), ("mars " * 60, None)]
    probes = [{"text": text, "prompt_name": name} for text, name in cases]
    members = {
        MANIFEST_NAME: manifest.to_json().encode(),
        PROBES_NAME: json.dumps({"probes": probes}).encode(),
        file: data,
    }
    answers = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "toy.tflite"
        write_model_file(path, GRAPH, members)
        whole = path.read_bytes()
        toy = Toy(path)
        for text, name in cases:
            prompt = manifest.prompts[name] if name else ""
            vector = _vector(lambda t=text, p=prompt: toy.encode(t, prompt=p))
            answers.append({"tokens": fed(toy, prompt + text), "vector": vector})
    return {"whole": b64(whole), "answers": answers}


def record_golden(file: bytes) -> dict[str, Any]:
    """Returns what edge_embed_bench writes for the figures that the JUnit test lets the demo measure."""
    samples = [0.25, 0.5, 0.25, 0.75]
    reasons = {
        "text_latency": "the activity measures token ids in, vector out",
        "text_memory": "the activity measures token ids in, vector out",
        "delegate": "the Android runtime does not report it",
        "storage.cache_bytes": "packed weights are kept in memory",
    }
    measured = record.Record(
        kind=record.LATENCY,
        status=record.OK,
        error=None,
        engine=record.EngineFacts(record.OURS, {"litert": "2.3.0"}, {"runtime": "android"}),
        model=record.ModelFacts(
            "golden",
            "toy.tflite",
            hashlib.sha256(file).hexdigest(),
            "fp32",
            64,
            DIMENSION,
            [8, 16, 24],
            synthetic=False,
        ),
        cell=record.Cell("adb", "cpu", 8, 2, 1),
        machine=record.Machine(
            "Exynos", "arm64-v8a", 8, ["asimd"], None, 4 << 30, "Android 16", None, "A Phone", "Exynos", None
        ),
        run=record.Run("am start", "2026-01-01T00:00:00Z", 2, 4, 7, []),
        load=record.Load(0.125, 1.0, 0.5, [], []),
        latency=record.Latency.of(samples, tokens=8, batch=1),
        memory=record.Memory(3 << 20, 1 << 20, 4 << 20),
        storage=record.Storage(len(file), None),
        not_measured=reasons,
    )
    return json.loads(record.to_json([measured]))  # type: ignore[no-any-return]


def golden_files() -> dict[str, bytes]:
    """Returns every golden file by name, the tokenizers as they lie here."""
    data = {name: (HERE / name).read_bytes() for name in TOKENIZERS}
    contents: dict[str, Any] = {}
    for name in TOKENIZERS:
        contents[f"texts.{Path(name).stem}.json"] = texts_golden(name, data[name])
    contents["vectors.json"] = vectors_golden("bpe.model", data["bpe.model"])
    contents["manifests.json"] = manifests_golden(make_manifest("wordpiece.json", data["wordpiece.json"]))
    contents["files.json"] = files_golden(make_manifest("wordpiece.json", data["wordpiece.json"]))
    contents["similarity.json"] = similarity_golden()
    contents["probes.json"] = probes_golden("bpe.model", data["bpe.model"])
    contents["record.json"] = record_golden(base64.b64decode(contents["files.json"]["whole"]))
    packed = {name: json.dumps(value, separators=(",", ":")) + "\n" for name, value in contents.items()}
    return {name: text.encode() for name, text in packed.items()}


def main() -> int:
    """Writes the tokenizers and everything made with them."""
    for name, make in zip(TOKENIZERS, (bpe, unigram, graphemes, wordpiece), strict=True):
        (HERE / name).write_bytes(make())
    for name, content in golden_files().items():
        (HERE / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
