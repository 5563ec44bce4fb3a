"""The example of finetuning: its split leaks nothing, and its recipes can be read."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from edge_embed_train.recipe import read_recipe

EXAMPLE = Path(__file__).parents[2] / "examples" / "finetune"


def test_no_held_out_query_or_passage_is_trained_on(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("finetune", EXAMPLE / "finetune.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = [{"query": f"q{i // 2}", "positive": f"p{i // 3}"} for i in range(90)]
    rows += [{"query": f"only {i}", "positive": f"its own {i}"} for i in range(60)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen, held = module.split(tmp_path / "pairs.jsonl", tmp_path / "out")
    assert seen + held == 150
    assert held
    train = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    dev = tmp_path / "out" / "held-out"
    queries = {json.loads(line)["text"] for line in (dev / "queries.jsonl").read_text().splitlines()}
    assert not queries & {row["query"] for row in train}
    corpus = {r["_id"]: r["text"] for r in map(json.loads, (dev / "corpus.jsonl").read_text().splitlines())}
    answers = {corpus[line.split("\t")[1]] for line in (dev / "qrels.tsv").read_text().splitlines()[1:]}
    assert not answers & {row["positive"] for row in train}


@pytest.mark.parametrize("name", ["minilm", "embeddinggemma"])
def test_its_recipes_can_be_read(name: str) -> None:
    assert read_recipe(EXAMPLE / f"{name}.toml").stages
