"""Tiny checkpoints of both families, and one converted file of each, made once per session."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from edge_embed_convert import job
from edge_embed_convert.families import family_named
from edge_embed_convert.gate.probe_texts import SENTENCES
from edge_embed_convert.graph.rewrite import EmbeddingModel, build
from edge_embed_convert.pipeline import Conversion, convert
from edge_embed_convert.random_checkpoint import write_random_checkpoint
from edge_embed_convert.recipes import grammar
from edge_embed_convert.source import checkpoint as checkpoints

from .kept_exports import KeptExports

VOCABULARY = 600
GEMMA_BUCKETS, BERT_BUCKETS = [16, 32, 72], [16, 64]


@pytest.fixture(scope="session", autouse=True)
def kept_exports(pytestconfig: pytest.Config) -> Iterator[None]:
    """Conversions share what they export: a graph that was exported before, also in another session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "export", KeptExports(pytestconfig.cache.mkdir("exports")))
        yield


@pytest.fixture(scope="session")
def gemma_tokenizer() -> dict[str, bytes]:
    """A BPE with byte fallback and Gemma's ids, with BOS and EOS around every text."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "\u2581")
    trained.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    latin = [line for line in SENTENCES if line.isascii()]
    trained.train_from_iterator(latin, trainers.BpeTrainer(vocab_size=300, show_progress=False))
    spec = json.loads(trained.to_str())
    special = ("<pad>", "<eos>", "<bos>", "<unk>")
    learned = sorted(spec["model"]["vocab"], key=spec["model"]["vocab"].__getitem__)
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *learned]
    # Every way to split a piece is a merge, as in Gemma, so that SentencePiece can carry it.
    known = set(learned)
    merges = [[p[:k], p[k:]] for p in learned for k in range(1, len(p)) if {p[:k], p[k:]} <= known]
    spec["pre_tokenizer"] = None
    spec["added_tokens"] = [
        {
            "id": i,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, token in enumerate(special)
    ]
    spec["model"] |= {
        "unk_token": "<unk>",
        "byte_fallback": True,
        "fuse_unk": True,
        "merges": merges,
        "vocab": {piece: i for i, piece in enumerate(pieces)},
    }
    template = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)]
    )
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.post_processor = template
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
        "model_max_length": 2048,
    }
    return _files(tokenizer, json.dumps(config).encode())


@pytest.fixture(scope="session")
def bert_tokenizer(wordpiece_config: Callable[[int], bytes]) -> dict[str, bytes]:
    """A WordPiece with [CLS] and [SEP] around every text."""
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    tokenizer = Tokenizer(models.WordPiece({}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=list(special), show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return _files(tokenizer, wordpiece_config(512))


def _files(tokenizer: Tokenizer, config: bytes) -> dict[str, bytes]:
    return {"tokenizer.json": tokenizer.to_str().encode(), "tokenizer_config.json": config}


Writer = Callable[..., Path]


def _writer(name: str, tokenizer: Mapping[str, bytes]) -> Writer:
    family = family_named(name)
    return lambda path, **overrides: write_random_checkpoint(
        path, family, tokenizer, **{**family.tiny, **overrides}
    )


@pytest.fixture(scope="session")
def write_gemma(gemma_tokenizer: dict[str, bytes]) -> Writer:
    """`write_gemma(directory, **config)` writes a tiny EmbeddingGemma checkpoint."""
    return _writer("embeddinggemma", gemma_tokenizer)


@pytest.fixture(scope="session")
def write_tiny_bert(bert_tokenizer: dict[str, bytes]) -> Writer:
    """`write_tiny_bert(directory, **config)` writes a tiny BERT checkpoint."""
    return _writer("bert", bert_tokenizer)


@pytest.fixture(scope="session")
def gemma_checkpoint(write_gemma: Writer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only: tests that damage a checkpoint write their own."""
    directory = write_gemma(tmp_path_factory.mktemp("checkpoints") / "tiny-gemma")
    (directory / "LICENSE").write_text("the terms\n", "utf-8")
    (directory / "NOTICE").write_text("a notice\n", "utf-8")
    return directory


@pytest.fixture(scope="session")
def bert_checkpoint(write_tiny_bert: Writer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only, as `gemma_checkpoint`."""
    return write_tiny_bert(tmp_path_factory.mktemp("checkpoints") / "tiny-bert")


@pytest.fixture(scope="session")
def gemma_file(gemma_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """The tiny EmbeddingGemma under its family's default recipe."""
    out = tmp_path_factory.mktemp("gemma")
    return convert(gemma_checkpoint, out, buckets=GEMMA_BUCKETS, num_threads=1)


@pytest.fixture(scope="session")
def bert_file(bert_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """The tiny BERT under its family's default recipe."""
    out = tmp_path_factory.mktemp("bert")
    return convert(bert_checkpoint, out, buckets=BERT_BUCKETS, num_threads=1)


@pytest.fixture
def edit() -> Callable[..., None]:
    """`edit(file, key=value, other=None)` changes a JSON object on disk; None removes a key."""

    def change(file: Path, **changes: Any) -> None:
        value = json.loads(file.read_text("utf-8")) | changes
        file.write_text(json.dumps({k: v for k, v in value.items() if v is not None}), "utf-8")

    return change


@pytest.fixture(scope="session")
def rewrite_tensors() -> Callable[[Path, Callable[[dict[str, torch.Tensor]], Any]], None]:
    """`rewrite_tensors(directory, change)` runs `change` over a checkpoint's tensors and saves them."""
    from safetensors.torch import load_file, save_file

    def rewrite(directory: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})

    return rewrite


class Source:
    """A checkpoint run by transformers in float32, and pooled by the definitions written out here."""

    def __init__(self, directory: Path) -> None:
        from safetensors.torch import load_file
        from transformers import AutoModel

        self.model = AutoModel.from_pretrained(directory, attn_implementation="eager", dtype=torch.float32)
        self.model.eval()
        modules = json.loads((directory / "modules.json").read_text("utf-8"))
        self.kinds = [(m["type"].rsplit(".", 1)[-1], directory / m["path"]) for m in modules]
        self.dense = {
            path: (
                json.loads((path / "config.json").read_text("utf-8")),
                load_file(path / "model.safetensors"),
            )
            for kind, path in self.kinds
            if kind == "Dense"
        }

    @torch.inference_mode()
    def hidden(self, ids: Sequence[int]) -> torch.Tensor:
        tokens = torch.tensor([list(ids)])
        states: torch.Tensor = self.model(
            input_ids=tokens, attention_mask=torch.ones_like(tokens)
        ).last_hidden_state
        return states[0]

    @torch.inference_mode()
    def __call__(self, ids: Sequence[int]) -> np.ndarray:
        x = self.hidden(ids)
        for kind, path in self.kinds[1:]:
            if kind == "Pooling":
                x = _pool(x, json.loads((path / "config.json").read_text("utf-8")))
            elif kind == "Dense":
                config, tensors = self.dense[path]
                x = tensors["linear.weight"] @ x + tensors.get("linear.bias", torch.zeros(()))
                x = x.tanh() if config["activation_function"].endswith("Tanh") else x
            else:
                x = x / x.norm()
        return x.numpy()


def _pool(x: torch.Tensor, config: Mapping[str, Any]) -> torch.Tensor:
    modes = {
        "cls_token": lambda: x[0],
        "max_tokens": lambda: x.max(dim=0).values,
        "mean_tokens": lambda: x.mean(dim=0),
        "mean_sqrt_len_tokens": lambda: x.sum(dim=0) / len(x) ** 0.5,
    }
    return torch.cat([f() for name, f in modes.items() if config.get(f"pooling_mode_{name}")])


@pytest.fixture(scope="session")
def source_of() -> Callable[[Path], Source]:
    """`source_of(directory)(ids)` is the embedding of one unpadded text, by transformers."""
    return Source


def _run(model: EmbeddingModel, ids: Sequence[int], length: int | None = None, pad: int = 0) -> np.ndarray:
    padded = [*ids, *[pad] * ((length or len(ids)) - len(ids))]
    with torch.inference_mode():
        return model(torch.tensor([padded], dtype=torch.int32))["embedding"][0].numpy()


@pytest.fixture(scope="session")
def ours() -> SimpleNamespace:
    """`ours.load(directory)` rewrites a checkpoint; `ours.run(model, ids, length)` pads and embeds."""

    def load(directory: Path, **options: Any) -> EmbeddingModel:
        return build(checkpoints.load(directory, **options), 0)

    return SimpleNamespace(load=load, run=_run)


@pytest.fixture(scope="session")
def random_ids() -> Callable[[int], list[int]]:
    """`random_ids(n)` are `n` ids of text, none of them special; equal from call to call."""
    return lambda n, seed=0: np.random.default_rng([n, seed]).integers(5, VOCABULARY, n).tolist()


class FamilyChecks:
    """What must hold of every family, on random weights of its tiny shape."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, name: str, tokenizer: Mapping[str, bytes] | None = None, **overrides: Any) -> Path:
        """Writes a tiny checkpoint of a family, by default without a tokenizer."""
        family = family_named(name)
        return write_random_checkpoint(
            self._directory / name, family, tokenizer or {}, **{**family.tiny, **overrides}
        )

    def exact(self, directory: Path, lengths: Sequence[int]) -> float:
        """Returns the largest difference to sentence-transformers, over texts of these lengths.

        Each text runs at its own length and padded to the model's maximum.
        """
        from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
        from transformers import AutoModel

        checkpoint = checkpoints.load(directory)
        pad = int(checkpoint.config.get("pad_token_id") or 0)
        model = build(checkpoint, pad)
        transformer = AutoModel.from_pretrained(
            directory, attn_implementation="eager", dtype=torch.float32
        ).eval()
        pooling = Pooling(checkpoint.encoder.hidden_size, pooling_mode=checkpoint.pooling)
        furthest = 0.0
        for length in lengths:
            ids = np.random.default_rng(length).integers(5, VOCABULARY, length).tolist()
            tokens = torch.tensor([ids])
            features = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            with torch.inference_mode():
                features["token_embeddings"] = transformer(**features).last_hidden_state
                wanted = Normalize()(pooling(features))["sentence_embedding"][0].numpy()
            for bucket in (length, checkpoint.max_tokens):
                furthest = max(furthest, float(np.abs(_run(model, ids, bucket, pad) - wanted).max()))
        return furthest

    def exported(self, directory: Path, buckets: Sequence[int]) -> Path:
        """Returns the float32 graph of a checkpoint."""
        from edge_embed_convert.graph.export import export

        checkpoint = checkpoints.load(directory)
        path = directory / "graph.tflite"
        export(build(checkpoint, int(checkpoint.config.get("pad_token_id") or 0)), buckets, path)
        return path


@pytest.fixture
def family_checks(tmp_path: Path) -> FamilyChecks:
    """`family_checks.exact(family_checks.write("mpnet"), [8])` is the distance to sentence-transformers."""
    return FamilyChecks(tmp_path)


STRICT = grammar.Thresholds(cosine_mean=2.0, cosine_min=2.0, neighbours=2.0)
"""What no file can reach."""


@pytest.fixture(scope="session")
def one_layer(write_tiny_bert, tmp_path_factory) -> Path:
    """The cheapest checkpoint to convert, for the many conversions that must fail."""
    return write_tiny_bert(
        tmp_path_factory.mktemp("one") / "one", num_hidden_layers=1, max_position_embeddings=16
    )


@pytest.fixture
def strict(monkeypatch) -> None:
    monkeypatch.setattr(grammar, "THRESHOLDS", dict.fromkeys(grammar.THRESHOLDS, STRICT))
