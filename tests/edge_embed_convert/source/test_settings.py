"""Settings beside the encoder: what sentence-transformers does with each is done, or refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from edge_embed import Embedder
from edge_embed.errors import CheckpointError
from edge_embed_convert.gate.probe_texts import SENTENCES
from edge_embed_convert.pipeline import convert
from edge_embed_convert.source.checkpoint import load
from edge_embed_convert.source.settings import FILES, HARMLESS, read_settings
from edge_embed_convert.source.tokenizers import convert_tokenizer

LONG = " ".join(SENTENCES[:10])


def write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value), "utf-8")


@pytest.mark.parametrize("name", FILES)
def test_settings_under_an_older_name(name: str, bert: Path) -> None:
    (bert / FILES[0]).unlink()
    write(bert / name, {"max_seq_length": 16, "do_lower_case": True})
    theirs = SentenceTransformer(str(bert), device="cpu")
    assert load(bert).max_tokens == theirs.max_seq_length == 16
    assert load(bert).lowercase
    ids = theirs.tokenize([LONG])["input_ids"][0].tolist()
    assert len(ids) == 16


def test_the_first_file_that_says_something_counts(bert: Path) -> None:
    write(bert / FILES[0], {})
    write(bert / FILES[1], {"max_seq_length": 20})
    write(bert / FILES[2], {"max_seq_length": 12})
    assert SentenceTransformer(str(bert), device="cpu").max_seq_length == 20
    assert load(bert).max_tokens == 20


@pytest.mark.parametrize(
    "entry",
    [
        {"tokenizer_args": {"model_max_length": 20}},
        {"processor_kwargs": {"model_max_length": 20}},
        {"processing_kwargs": {"text": {"max_length": 20}}},
        {"processing_kwargs": {"common": {"max_length": 20}}},
    ],
)
def test_every_limit_counts(entry: dict[str, Any], bert: Path) -> None:
    write(bert / FILES[0], entry)
    theirs = SentenceTransformer(str(bert), device="cpu")
    assert theirs.tokenize([LONG])["input_ids"].shape == (1, 20)
    assert load(bert).max_tokens == 20


def test_what_sentence_transformers_writes_itself(bert: Path, tmp_path: Path) -> None:
    SentenceTransformer(str(bert), device="cpu").save_pretrained(str(tmp_path / "saved"))
    saved = json.loads((tmp_path / "saved" / FILES[0]).read_text("utf-8"))
    assert "modality_config" in saved
    assert load(tmp_path / "saved").max_tokens == load(bert).max_tokens


def test_what_changes_no_vector_is_taken(bert: Path) -> None:
    arguments = {f"{kind}_args": dict.fromkeys(names) for kind, names in HARMLESS.items()}
    write(bert / FILES[0], {**arguments, "unpad_inputs": None, "query_length": None, "max_seq_length": None})
    assert load(bert).max_tokens == 64


@pytest.mark.parametrize(
    "entry",
    [
        {"config_args": {"hidden_act": "relu"}},
        {"config_kwargs": {"num_hidden_layers": 1}},
        {"model_args": {"num_labels": 3}},
        {"tokenizer_args": {"truncation_side": "left"}},
        {"tokenizer_args": ["a"]},
        {"processing_kwargs": {"text": {"add_special_tokens": False}}},
        {"processing_kwargs": {"text": {"max_length": "all"}}},
        {"query_length": 8},
        {"document_length": 8},
        {"transformer_task": "fill-mask"},
        {"module_output_name": "sentence_embedding"},
        {"tokenizer_name_or_path": "another"},
        {"modality_config": {"message": {"method": "forward", "method_output_name": "last_hidden_state"}}},
        {"modality_config": {"text": {"method": "encode", "method_output_name": None}}},
        {"max_seq_length": "16"},
        {"max_seq_length": 0},
        {"max_seq_length": 0.5},
        {"max_seq_length": True},
        {"max_seq_length": float("nan")},
        {"do_lower_case": "yes"},
        {"do_upper_case": True},
    ],
)
def test_what_a_file_cannot_express_is_refused(entry: dict[str, Any], bert: Path) -> None:
    write(bert / FILES[0], entry)
    with pytest.raises(CheckpointError, match=f"{FILES[0]} sets something") as caught:
        load(bert)
    assert next(iter(entry)) in str(caught.value)
    with pytest.raises(CheckpointError, match="sets something"):
        read_settings(bert)


def test_vectors_that_the_checkpoint_cuts(bert: Path, edit: Any, tmp_path: Path) -> None:
    edit(bert / "config_sentence_transformers.json", truncate_dim=12)
    checkpoint = load(bert)
    assert (checkpoint.dimension, checkpoint.normalize) == (12, False)
    made = convert(bert, tmp_path / "cut.tflite", recipe="fp32", buckets=[16, 64], num_threads=1)
    theirs = SentenceTransformer(str(bert), device="cpu").encode(SENTENCES[:6])
    with Embedder(made.path) as model:
        assert model.get_embedding_dimension() == 12
        np.testing.assert_allclose(model.encode(SENTENCES[:6]), theirs, atol=1e-6)


@pytest.mark.parametrize("value", [0, -4, 2.5, "8", True])
def test_a_length_that_is_none(value: Any, bert: Path, edit: Any, refused: Any) -> None:
    edit(bert / "config_sentence_transformers.json", truncate_dim=value)
    refused(bert, "truncate_dim", repr(value))


def test_a_length_beyond_the_vector_changes_nothing(bert: Path, edit: Any) -> None:
    whole = load(bert)
    edit(bert / "config_sentence_transformers.json", truncate_dim=10_000)
    assert load(bert).head == whole.head


@pytest.mark.parametrize("kind", ["CrossEncoder", "SparseEncoder"])
def test_another_kind_of_model(kind: str, bert: Path, edit: Any, refused: Any) -> None:
    edit(bert / "config_sentence_transformers.json", model_type=kind)
    refused(bert, "not a sentence encoder", kind)


def test_modules_run_in_the_order_of_the_list(bert: Path, refused: Any) -> None:
    modules = json.loads((bert / "modules.json").read_text("utf-8"))
    count = len(load(bert).head)
    random.Random(0).shuffle(numbers := list(range(len(modules))))
    for module, number in zip(modules, numbers, strict=True):
        module["idx"] = number
        module["path"] = f"./{module['path']}" if module["path"] else "."
    write(bert / "modules.json", modules)
    assert len(load(bert).head) == count
    for module in modules:
        del module["idx"]
    write(bert / "modules.json", modules)
    assert len(load(bert).head) == count
    write(bert / "modules.json", modules[::-1])
    refused(bert, "cannot be exported", "Transformer → Pooling")


def test_an_adapter_beside_the_weights(bert: Path, refused: Any) -> None:
    write(bert / "adapter_config.json", {"peft_type": "LORA"})
    refused(bert, "adapter", "merge")


@pytest.mark.parametrize("place", ["tokenizer_config.json", "tokenizer.json"])
def test_a_tokenizer_that_keeps_the_end(place: str, bert: Path, edit: Any, refused: Any) -> None:
    if place == "tokenizer_config.json":
        edit(bert / place, truncation_side="left")
    else:
        rule = {"direction": "Left", "max_length": 32, "strategy": "LongestFirst", "stride": 0}
        edit(bert / place, truncation=rule)
    assert SentenceTransformer(str(bert), device="cpu").tokenizer.truncation_side == "left"
    refused(bert, "keeps the end", "'left'")


def test_positions_counted_from_another_pad(bert: Path, edit: Any) -> None:
    convert_tokenizer(bert, padding_shifts=True)
    edit(bert / "config.json", pad_token_id=1)  # the tokenizer pads with 0, and 1 is its unknown token
    convert_tokenizer(bert)
    with pytest.raises(CheckpointError, match="counts its positions from") as caught:
        convert_tokenizer(bert, padding_shifts=True)
    assert "0, and pad_token_id = 1" in str(caught.value)


@pytest.mark.parametrize("asked", [1, 2])
def test_no_room_for_a_text(asked: int, bert: Path, refused: Any) -> None:
    refused(bert, "no room for a text", f"{asked} tokens, 2 of them", max_tokens=asked)


@pytest.mark.parametrize("prompt", ["q\ud800", 3])
def test_a_prompt_that_is_no_text(prompt: Any, bert: Path, edit: Any, refused: Any) -> None:
    edit(bert / "config_sentence_transformers.json", prompts={"query": prompt})
    refused(bert, "prompts", "malformed", fix=False)


def test_a_default_prompt_that_is_no_name(bert: Path, edit: Any, refused: Any) -> None:
    edit(bert / "config_sentence_transformers.json", prompts={"q": "q: "}, default_prompt_name=["q"])
    refused(bert, "names no prompt", "['q']")


def test_the_head_of_another_task_is_left_out(bert: Path, rewrite_tensors: Any) -> None:
    whole = load(bert)

    def change(tensors: dict[str, Any]) -> None:
        for name in list(tensors):
            tensors[f"bert.{name}"] = tensors.pop(name)
        tensors["classifier.weight"] = next(iter(tensors.values()))[:2].clone()

    rewrite_tensors(bert, change)
    convert(bert, bert / "a.tflite", recipe="fp32", buckets=[64], num_threads=1)
    assert load(bert).dimension == whole.dimension
