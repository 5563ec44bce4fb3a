"""Merging checkpoints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from edge_embed.errors import CheckpointError, ConversionError, InputError
from edge_embed_convert.source.checkpoint import load
from edge_embed_train.cli import merge as command
from edge_embed_train.evaluate import read_sets, score
from edge_embed_train.merge import merge


@pytest.fixture
def parents(write_tiny: Any, tmp_path: Path) -> list[Path]:
    return [write_tiny(tmp_path / name, seed=seed) for seed, name in enumerate("abc")]


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("dev")
    pairs = ["the cat\tthe cat sleeps\t4.5", "the cat\tsnow and ice\t0.5", "red planet\tmars\t4"]
    (directory / "pairs.tsv").write_text("sentence1\tsentence2\tscore\n" + "\n".join(pairs) + "\n")
    beir = directory / "beir"
    beir.mkdir()
    documents = [("d1", "mars", "the red planet"), ("d2", "", "a train on the road")]
    lines = [json.dumps({"_id": i, "title": title, "text": text}) for i, title, text in documents]
    (beir / "corpus.jsonl").write_text("\n".join(lines))
    (beir / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "which planet is red"}))
    (beir / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\td1\t1\n")
    return [directory / "pairs.tsv", beir]


def test_the_result_is_the_plain_average_and_scores_are_reported(
    parents: list[Path], dev: list[Path], tmp_path: Path
) -> None:
    merged = merge(parents, tmp_path / "soup", dev=dev)
    for part in ("", "2_Dense", "3_Dense"):
        tensors = [load_file(parent / part / "model.safetensors") for parent in parents]
        for name, tensor in load_file(tmp_path / "soup" / part / "model.safetensors").items():
            mean = torch.stack([t[name].double() for t in tensors]).mean(0)
            torch.testing.assert_close(tensor, mean.float(), rtol=0, atol=1e-7)
    assert set(merged.scores) == {*map(str, parents), str(tmp_path / "soup")}
    fresh = score(SentenceTransformer(str(tmp_path / "soup"), device="cpu"), read_sets(dev))
    assert merged.scores[str(tmp_path / "soup")] == fresh
    assert set(fresh) == {"pairs", "beir"}
    assert load(tmp_path / "soup").dimension == 32  # what `edge_embed convert` reads


def test_the_average_of_one_model_with_itself_is_that_model(parents: list[Path], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(parents[0], tmp_path / "copy")
    merge([parents[0], tmp_path / "copy"], tmp_path / "soup")
    ours, theirs = (load_file(p / "model.safetensors") for p in (tmp_path / "soup", parents[0]))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 161}, "configurations"),
        ({"hidden_size": 64}, "configurations"),
        ({"family": "bert"}, "configurations"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(
    change: dict[str, Any], message: str, write_tiny: Any, parents: list[Path], tmp_path: Path
) -> None:
    other = write_tiny(tmp_path / "other", **change)
    with pytest.raises(CheckpointError, match=message):
        merge([parents[0], other], tmp_path / "soup")
    assert not (tmp_path / "soup").exists()


def test_stages_that_cut_texts_at_other_lengths_can_be_merged(parents: list[Path], tmp_path: Path) -> None:
    file = parents[1] / "tokenizer.json"
    spec = json.loads(file.read_text())
    spec["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    file.write_text(json.dumps(spec))
    assert merge(parents[:2], tmp_path / "soup").path == tmp_path / "soup"


def test_another_tokenizer_is_refused(parents: list[Path], tmp_path: Path) -> None:
    file = parents[1] / "tokenizer.json"
    file.write_text(file.read_text().replace('"mars"', '"jupiter"'))
    with pytest.raises(CheckpointError, match="tokenizers"):
        merge(parents, tmp_path / "soup")


def test_bad_calls_are_refused(parents: list[Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not enough"):
        merge(parents[:1], tmp_path / "soup")
    with pytest.raises(CheckpointError, match="not enough"):
        merge([parents[0], parents[0]], tmp_path / "soup")
    with pytest.raises(ConversionError, match="already"):
        merge(parents, parents[2])
    with pytest.raises(InputError, match="not a development set"):
        merge(parents, tmp_path / "soup", dev=[tmp_path / "none.tsv"])
    assert not list(tmp_path.glob(".soup*"))


def test_the_command_prints_json(parents: list[Path], tmp_path: Path, capsys: Any) -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    args = parser.parse_args([*map(str, parents[:2]), "-o", str(tmp_path / "soup"), "--json"])
    assert command.run(args) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(tmp_path / "soup")


@pytest.mark.parametrize(
    ("file", "change", "what"),
    [
        ("sentence_bert_config.json", {"max_seq_length": 8}, "longest inputs"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "settings of lower case"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "default prompts"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "dot"}, "similarity functions"),
        ("tokenizer_config.json", {"cls_token": "[MASK]"}, "special tokens"),
    ],
)
def test_settings_that_differ_are_refused(
    parents: list[Path], tmp_path: Path, file: str, change: dict[str, Any], what: str
) -> None:
    place = parents[1] / file
    place.write_text(json.dumps(json.loads(place.read_text()) | change))
    with pytest.raises(CheckpointError, match=f"different {what}"):
        merge(parents, tmp_path / "soup")
    assert not (tmp_path / "soup").exists()


def test_damaged_weights_are_refused(parents: list[Path], tmp_path: Path) -> None:
    file = parents[2] / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        merge(parents, tmp_path / "soup")
    file.write_bytes(whole)
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match="not numbers"):
        merge(parents, tmp_path / "soup")
    assert not (tmp_path / "soup").exists()


def test_an_output_within_a_parent_is_refused(parents: list[Path]) -> None:
    with pytest.raises(ConversionError, match="lies in a checkpoint"):
        merge(parents, parents[1] / "soup")
    assert not (parents[1] / "soup").exists()
