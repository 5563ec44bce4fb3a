"""The texts of the report on MediaPipe's WordPiece; tests/containers runs the rest."""

from __future__ import annotations

from pathlib import Path

from edge_embed_bench.published.bert_task import read_texts


def test_texts_of_pairs_and_of_records(tmp_path: Path) -> None:
    pairs, records = tmp_path / "pairs.tsv", tmp_path / "corpus.jsonl"
    pairs.write_text("sentence1\tsentence2\tscore\na\tb\t1\nc\ta\t2\n", "utf-8")
    records.write_text('{"text": "x = 1"}\n\n{"text": "Äpfel"}\n', "utf-8")
    assert read_texts(pairs) == ["a", "b", "c", "a"]
    assert read_texts(records) == ["x = 1", "Äpfel"]
