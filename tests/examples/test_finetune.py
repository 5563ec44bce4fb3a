"""The example of finetuning: its split leaks nothing, and its recipes can be read."""

from __future__ import annotations

import importlib.util
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from edge_embed.errors import InputError
from edge_embed_train.recipe import read_recipe

EXAMPLE = Path(__file__).parents[2] / "examples" / "finetune"


@pytest.fixture(scope="module")
def finetune() -> Any:
    spec = importlib.util.spec_from_file_location("finetune", EXAMPLE / "finetune.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read(directory: Path) -> tuple[set[str], set[str]]:
    """Returns the queries of a set and the passages that answer them."""

    def lines(name: str) -> list[dict[str, str]]:
        return [json.loads(line) for line in (directory / name).read_text().splitlines()]

    corpus = {row["_id"]: row["text"] for row in lines("corpus.jsonl")}
    pairs = (directory / "qrels.tsv").read_text().splitlines()[1:]
    return {row["text"] for row in lines("queries.jsonl")}, {corpus[line.split("\t")[1]] for line in pairs}


def test_no_query_or_passage_is_in_two_parts(finetune: Any, tmp_path: Path) -> None:
    rows = [{"query": f"q{i // 2}", "positive": f"p{i // 3}"} for i in range(90)]
    rows += [{"query": f"only {i}", "positive": f"its own {i}"} for i in range(60)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = finetune.split(tmp_path / "pairs.jsonl", tmp_path / "out")
    assert sum(counts) == 150
    assert min(counts) > 0
    train = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    parts = [({row["query"] for row in train}, {row["positive"] for row in train})]
    parts += [_read(tmp_path / "out" / name) for name in ("dev", "held-out")]
    for one, other in itertools.combinations(parts, 2):
        assert not one[0] & other[0]
        assert not one[1] & other[1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"query": "a", "positive": "b"}'] * 30, "too few queries"),
        (['{"text": "a"}'] * 30, "texts alone"),
        (['{"query": "a"', ""], "JSON"),
        ([], "no rows"),
    ],
)
def test_pairs_that_cannot_be_split(finetune: Any, tmp_path: Path, lines: list[str], message: str) -> None:
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match=message):
        finetune.split(tmp_path / "pairs.jsonl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_directory_with_another_result_is_left_alone(finetune: Any, tmp_path: Path) -> None:
    pairs, recipe, output = tmp_path / "pairs.jsonl", EXAMPLE / "minilm.toml", tmp_path / "out"
    lines = [f'{{"query": "q {i}", "positive": "p {i}"}}\n' for i in range(30)]
    pairs.write_text("".join(lines[:6]))
    with pytest.raises(InputError, match="too few queries"):
        finetune.split_once(output, pairs, recipe, None)
    pairs.write_text("".join(lines))  # more pairs into the same directory
    assert finetune.split_once(output, pairs, recipe, None) == finetune.split_once(
        output, pairs, recipe, None
    )
    others = tmp_path / "others.jsonl"
    others.write_text("".join(lines[1:]))
    another = EXAMPLE / "embeddinggemma.toml"
    for given in ((pairs, recipe, "another"), (pairs, another, None), (others, recipe, None)):
        with pytest.raises(InputError, match="holds the result of other pairs"):
            finetune.split_once(output, *given)


def test_a_passage_with_a_line_separator_is_scored(finetune: Any, tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"query": f"q {i}", "positive": f"the answer\u2028{i}"} for i in range(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    finetune.split(tmp_path / "pairs.jsonl", tmp_path / "out")
    assert 0 < finetune.reciprocal_rank(tiny_model, tmp_path / "out" / "held-out") <= 1


@pytest.mark.parametrize("name", ["minilm", "embeddinggemma"])
def test_its_recipes_can_be_read(name: str) -> None:
    assert read_recipe(EXAMPLE / f"{name}.toml").stages
