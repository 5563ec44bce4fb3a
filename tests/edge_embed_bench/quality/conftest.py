"""One small set of each kind, and three models: an fp32 file, its copy that claims int8, and another one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_embed.model_file.manifest import RecipeRecord, Source, TokenizerRecord

WORDS = (
    "red",
    "planet",
    "mars",
    "water",
    "stone",
    "river",
    "song",
    "green",
    "hills",
    "seven",
    "small",
    "birds",
    "night",
    "falls",
    "us",
    "all",
)
SENTENCES = [" ".join(WORDS[i : i + 4]) for i in range(12)]

INT8 = RecipeRecord("int8", "e8_a8_f8_p8", {})


@dataclass(frozen=True)
class Sets:
    """Where each set is."""

    similarity: Path
    bitext: Path
    retrieval: Path
    classification: Path

    @property
    def all(self) -> list[Path]:
        return [self.similarity, self.bitext, self.retrieval, self.classification]


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    """A set of each kind. Read only."""
    root = tmp_path_factory.mktemp("sets")
    found = Sets(root / "pairs.tsv", root / "xxx-eng.tsv", root / "questions", root / "labels")
    pairs = [f"{a}\t{b}\t{i % 5}.5" for i, (a, b) in enumerate(zip(SENTENCES, SENTENCES[3:], strict=False))]
    found.similarity.write_text("\n".join(["sentence1\tsentence2\tscore", *pairs]), "utf-8")
    words = [f"{text}\t{text.upper()} the" for text in SENTENCES]
    found.bitext.write_text("\n".join(words), "utf-8")
    found.retrieval.mkdir()
    corpus = [{"_id": f"d{i}", "title": "the" if i % 2 else "", "text": t} for i, t in enumerate(SENTENCES)]
    queries = [{"_id": f"q{i}", "text": text.split()[0]} for i, text in enumerate(SENTENCES[:6])]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (found.retrieval / f"{name}.jsonl").write_text(text, "utf-8")
    qrels = [f"q{i}\td{i}\t1" for i in range(6)]
    (found.retrieval / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *qrels]), "utf-8")
    found.classification.mkdir()
    labelled = ["text\tlabel", *(f"{text}\t{'ab'[i % 2]}" for i, text in enumerate(SENTENCES))]
    for name in ("train", "test"):
        (found.classification / f"{name}.tsv").write_text("\n".join(labelled), "utf-8")
    return found


@pytest.fixture(scope="session")
def copy_model(build_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The numbers of `tiny_model` under another recipe's name."""
    return build_model(tmp_path_factory.mktemp("models") / "tiny.int8.tflite", recipe=INT8)


@pytest.fixture(scope="session")
def other_model(build_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same graph behind another tokenizer, so that its vectors are others, of other weights."""
    path = tmp_path_factory.mktemp("models") / "other.int8.tflite"
    return build_model(path, kind="sentencepiece", recipe=INT8, source=Source("tests/other", None, "1" * 64))


@pytest.fixture(scope="session")
def checkpoint(
    wordpiece: tuple[TokenizerRecord, bytes],
    wordpiece_config: Callable[[int], bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A BERT of eight dimensions."""
    from edge_embed_convert.families import family_named
    from edge_embed_convert.random_checkpoint import write_random_checkpoint

    files = {"tokenizer.json": wordpiece[1], "tokenizer_config.json": wordpiece_config(32)}
    return write_random_checkpoint(
        tmp_path_factory.mktemp("checkpoints") / "tiny-bert",
        family_named("bert"),
        files,
        vocab_size=512,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
