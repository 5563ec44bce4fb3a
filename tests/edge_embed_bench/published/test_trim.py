"""The report of what trimming costs, on a tiny checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_embed.errors import InputError
from edge_embed_bench.published import trim
from edge_embed_bench.quality.data import read
from edge_embed_bench.synthetic.tokenizers import bert_tokenizer_files
from edge_embed_convert.families import family_named
from edge_embed_convert.random_checkpoint import write_random_checkpoint

PAIRS = [("abe bab", "bab abe", 5), ("the red sun", "a red sun", 4), ("abe", "the sun", 1), ("bab", "red", 0)]


def _inputs(directory: Path) -> tuple[Path, Path, Path]:
    family = family_named("bert")
    checkpoint = write_random_checkpoint(directory / "bert", family, bert_tokenizer_files(600), **family.tiny)
    texts = directory / "texts.jsonl"
    rows = [{"text": text, "lang": "en"} for pair in PAIRS[:2] for text in pair[:2]]
    texts.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    pairs = directory / "pairs.tsv"
    lines = ["sentence1\tsentence2\tscore", *(f"{a}\t{b}\t{score}" for a, b, score in PAIRS)]
    pairs.write_text("\n".join(lines) + "\n", "utf-8")
    return checkpoint, texts, pairs


def test_every_group_is_judged_beside_the_source(tmp_path: Path) -> None:
    checkpoint, texts, pairs = _inputs(tmp_path)
    words = [
        str(checkpoint),
        "--texts",
        str(texts),
        "--set",
        f"en={pairs}",
        "--output",
        str(tmp_path / "out"),
    ]
    trim.main([*words, "--group", "all=en", "--group", "few=en:60"])
    record = json.loads((tmp_path / "out.json").read_text("utf-8"))
    whole, few = record["rows"]
    assert record["groups"]["few"]["rows"] <= 60 < record["groups"]["all"]["rows_before"]
    assert whole["texts"] == few["texts"] == 8
    assert whole["source"] == few["source"]
    if whole["changed"] == 0:
        assert whole["trimmed"] == whole["source"]
    report = (tmp_path / "out.md").read_text("utf-8")
    assert "| few | pairs (en) | spearman |" in report


def test_a_set_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bitext.tsv").write_text("a\tb\nc\td\n", "utf-8")
    with pytest.raises(InputError, match="cannot be scored"):
        trim.sides(read(tmp_path / "bitext.tsv"), "", "")
