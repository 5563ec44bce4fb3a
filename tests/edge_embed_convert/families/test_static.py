"""Static models: exact to sentence-transformers in each layout, and taken whole by the delegate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edge_embed import Embedder
from edge_embed.engine.litert.delegate import partitions
from edge_embed.errors import CheckpointError
from edge_embed_convert.check import check
from edge_embed_convert.gate.probe_texts import SENTENCES
from edge_embed_convert.graph.rewrite import build, survives_float16
from edge_embed_convert.pipeline import convert
from edge_embed_convert.source.checkpoint import load
from edge_embed_convert.source.reference import Reference

TOLERANCE = 1e-5
TOKENS, WIDTH = 600, 64


def _table(rows: int = TOKENS) -> torch.Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(rows))


@pytest.fixture
def write(tmp_path: Path, bert_tokenizer: Mapping[str, bytes]) -> Any:
    """`write(tensors, modules, **config)` writes a directory; without modules, one of model2vec."""

    def directory(
        tensors: Mapping[str, torch.Tensor],
        modules: str | None = "S",
        *,
        place: str = "",
        normalize: bool = True,
        truncation: int | None = None,
    ) -> Path:
        root = tmp_path / "static"
        (root / place).mkdir(parents=True, exist_ok=True)
        spec = json.loads(bert_tokenizer["tokenizer.json"])
        if truncation:
            spec["truncation"] = {
                "direction": "Right",
                "max_length": truncation,
                "strategy": "LongestFirst",
                "stride": 0,
            }
        (root / place / "tokenizer.json").write_text(json.dumps(spec), "utf-8")
        save_file(dict(tensors), root / place / "model.safetensors")
        if modules is None:
            config = {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": normalize}
            (root / "config.json").write_text(json.dumps(config), "utf-8")
            return root
        kinds = {"S": ("StaticEmbedding", place), "N": ("Normalize", "1_Normalize"), "T": ("Transformer", "")}
        listed = [
            {
                "idx": i,
                "name": str(i),
                "path": kinds[k][1],
                "type": f"sentence_transformers.models.{kinds[k][0]}",
            }
            for i, k in enumerate(modules)
        ]
        (root / "modules.json").write_text(json.dumps(listed), "utf-8")
        return root

    return directory


def _furthest(directory: Path, lengths: tuple[int, ...] = (8, 16, 40, 300)) -> float:
    """Returns the largest difference to sentence-transformers: each text exact and padded."""
    from sentence_transformers import SentenceTransformer

    checkpoint = load(directory, max_tokens=min(512, load(directory).max_tokens))
    pad = int(checkpoint.config["pad_token_id"])
    model, source = build(checkpoint, pad), SentenceTransformer(str(directory), device="cpu")
    reference = Reference(checkpoint)
    furthest = 0.0
    for length in lengths:
        text, ids = "", list[int]()
        while len(ids) < length:
            text = f"{text} {SENTENCES[len(text) % len(SENTENCES)]} [PAD]"
            ids = reference.tokenize(text)
        wanted = source.encode([text])[0]
        furthest = max(furthest, float(np.abs(reference.embed_tokens(ids) - wanted).max()))
        for size in (len(ids), checkpoint.max_tokens):
            tokens = torch.tensor([[*ids, *[pad] * (size - len(ids))]], dtype=torch.int32)
            furthest = max(furthest, float(np.abs(model(tokens)["embedding"][0].numpy() - wanted).max()))
    return furthest


@pytest.mark.parametrize("modules", ["S", "SN"])
@pytest.mark.parametrize("place", ["", "0_StaticEmbedding"])
def test_the_module_of_sentence_transformers(modules: str, place: str, write: Any) -> None:
    assert _furthest(write({"embedding.weight": _table()}, modules, place=place)) <= TOLERANCE


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("mapped", [True, False])
def test_the_directories_of_model2vec(normalize: bool, weighted: bool, mapped: bool, write: Any) -> None:
    tensors = {"embeddings": _table(50 if mapped else TOKENS)}
    if mapped:
        tensors["mapping"] = torch.arange(TOKENS) * 7 % 50
    if weighted:
        tensors["weights"] = torch.linspace(0.1, 2.0, TOKENS, dtype=torch.float64)
    directory = write(tensors, "SN" if normalize else "S")
    assert _furthest(directory) <= TOLERANCE
    ours = build(load(directory, max_tokens=32), TOKENS)
    (directory / "modules.json").unlink()
    write(tensors, None, normalize=normalize)
    tokens = torch.arange(5, 37)[None].int()
    alone = build(load(directory, max_tokens=32), TOKENS)
    assert torch.equal(alone(tokens)["embedding"], ours(tokens)["embedding"])


def test_the_tokenizer_file_may_cut(write: Any) -> None:
    directory = write({"embedding.weight": _table()}, truncation=24)
    assert load(directory).max_tokens == 24
    assert _furthest(directory, (8, 24)) <= TOLERANCE


def test_without_a_limit_buckets_end_at_2048_unless_asked(write: Any) -> None:
    directory = write({"embedding.weight": _table()})
    assert load(directory).max_tokens == 2048
    assert load(directory, max_tokens=10_000).max_tokens == 10_000


def test_a_converted_file(write: Any, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    directory = write({"embeddings": _table(), "weights": torch.linspace(0.1, 2.0, TOKENS)}, "SN")
    plan = check(directory, buckets=[16, 64], max_tokens=64)
    assert (plan.family, plan.recipe, plan.dimension) == ("static", "int8", WIDTH)
    made = convert(directory, tmp_path / "s.tflite", buckets=[16, 64], max_tokens=64, num_threads=1)
    assert made.manifest.tokenizer.prefix_ids == made.manifest.tokenizer.suffix_ids == []
    assert made.manifest.tokenizer.pad_id == TOKENS
    assert {partitions(made.path, length).partitions for length in (16, 64)} == {1}
    texts = [*SENTENCES[:5], "red [PAD]", "[PAD]"]
    wanted = SentenceTransformer(str(directory), device="cpu").encode(texts)
    with Embedder(made.path) as model:
        assert ((model.encode(texts) * wanted).sum(1) > 0.999).all()


def test_float16_is_safe(write: Any) -> None:
    model = build(load(write({"embedding.weight": _table()}, "SN")), TOKENS)
    assert survives_float16(model, [list(range(5, 13)), list(range(5, 505))])


@pytest.mark.parametrize(
    ("tensors", "modules", "word"),
    [
        ({"table": _table()}, "S", "no table"),
        ({"embeddings": _table().to(torch.int8)}, "S", "integers"),
        (
            {"embeddings": _table(50), "mapping": torch.arange(TOKENS)},
            "S",
            "a row that the table does not have",
        ),
        ({"embeddings": _table(), "weights": torch.ones(5)}, "S", "does not have the shape"),
        ({"embedding.weight": _table(), "weights": torch.ones(TOKENS)}, "S", "does not use"),
        ({"embedding.weight": _table().fill_(float("nan"))}, "S", "not finite"),
        ({"embedding.weight": _table()}, "ST", "cannot be exported"),
    ],
)
def test_what_is_wrong_is_said(tensors: Any, modules: str, word: str, write: Any) -> None:
    with pytest.raises(CheckpointError, match=word):
        build(load(write(tensors, modules)), TOKENS)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_table(content: bytes, write: Any) -> None:
    directory = write({"embedding.weight": _table()})
    (directory / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be read|no table"):
        load(directory)


def test_a_tokenizer_of_another_vocabulary(write: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no embedding for"):
        convert(write({"embedding.weight": _table(300)}), tmp_path)
    assert not list(tmp_path.glob("*.tflite"))


def test_no_pooling_to_choose(write: Any) -> None:
    with pytest.raises(CheckpointError, match="fixed pooling"):
        load(write({"embeddings": _table()}, None), pooling="mean")


def test_no_tokenizer(write: Any) -> None:
    directory = write({"embeddings": _table()})
    (directory / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="tokenizer of a static model is missing"):
        load(directory)
