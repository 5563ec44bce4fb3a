"""`edge_embed convert --check`, and prompts that the user adds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_embed.cli import main
from edge_embed.errors import CheckpointError
from edge_embed_convert.check import check
from edge_embed_convert.pipeline import Conversion
from edge_embed_convert.source.checkpoint import load


def _run(*arguments: str | Path) -> int:
    return main(["convert", *map(str, arguments)])


@pytest.fixture
def bert(bert_checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bert_checkpoint, tmp_path / "bert")


def test_the_plan_is_what_a_conversion_makes(bert_checkpoint: Path, bert_file: Conversion) -> None:
    manifest = bert_file.manifest
    plan = check(bert_checkpoint, buckets=manifest.buckets)
    assert (plan.family, plan.recipe, plan.spec) == ("bert", manifest.recipe.name, manifest.recipe.spec)
    assert (plan.buckets, plan.dimension, plan.pooling) == (manifest.buckets, manifest.dimension, ["mean"])
    assert plan.parameters == _parameters(manifest.architecture.config)


def _parameters(config: dict[str, Any]) -> int:
    hidden, inner, layers = (config[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    rows = config["vocab_size"] + config["max_position_embeddings"] + config.get("type_vocab_size", 2)
    layer = 4 * (hidden * hidden + hidden) + 2 * hidden * inner + inner + hidden + 4 * hidden
    return rows * hidden + 2 * hidden + layers * layer


def test_the_plan_of_gemma_counts_its_dense_modules(gemma_checkpoint: Path) -> None:
    plan = check(gemma_checkpoint)
    assert (plan.family, plan.recipe, len(plan.prompts)) == ("embeddinggemma", "mixed", 5)
    assert check(gemma_checkpoint, recipe="fp32").file_bytes > 3.9 * plan.parameters


def test_nothing_heavy_is_imported_and_no_weight_is_read(bert: Path) -> None:
    (bert / "model.safetensors").write_bytes(b"")
    script = (
        "import sys\nfrom edge_embed.cli import main\n"
        f"code = main(['convert', '--check', '--json', {str(bert)!r}])\n"
        "heavy = {'torch', 'transformers', 'litert_torch', 'ai_edge_litert'} & set(sys.modules)\n"
        "sys.exit(code if not heavy else f'{heavy}')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["convertible"] is True


def test_what_cannot_be_converted_says_why(bert: Path, edit, capsys) -> None:
    edit(bert / "config.json", model_type="big_bird")
    assert _run(bert, "--check", "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["convertible"] is False
    assert "big_bird" in answer["reason"]
    assert _run(bert, "--check") == 1
    assert "cannot be converted" in capsys.readouterr().out


def test_the_text_of_the_check(bert: Path, capsys) -> None:
    code = _run(bert, "--check", "--prompt", "query=query: ", "--default-prompt", "query")
    out = capsys.readouterr().out
    assert code == 0
    assert all(words in out for words in ("as bert", "int8", "16, 32, 64", "query (default)", "MB"))


def test_prompts_that_the_user_adds(bert: Path) -> None:
    checkpoint = load(bert, prompts={"query": "query: ", "passage": "passage: "}, default_prompt="query")
    assert checkpoint.prompts == {"query": "query: ", "passage": "passage: "}
    assert checkpoint.default_prompt_name == "query"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompts": {"query": "x"}}, ("already has a prompt", "query='x'")),
        ({"default_prompt": "poem"}, ("names no prompt", "'poem'")),
    ],
)
def test_prompts_that_are_refused(options, words, gemma_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load(gemma_checkpoint, **options)
    assert all(word in str(caught.value) for word in words)


def test_another_default_than_the_checkpoints(gemma_checkpoint: Path, tmp_path: Path, edit) -> None:
    gemma = shutil.copytree(gemma_checkpoint, tmp_path / "gemma")
    edit(gemma / "config_sentence_transformers.json", default_prompt_name="query")
    assert load(gemma, default_prompt="query").default_prompt_name == "query"
    with pytest.raises(CheckpointError, match="already has a default prompt"):
        load(gemma, default_prompt="document")


def test_prompts_named_twice(bert: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert _run(bert, "-o", out, "--prompt", "query=a", "--prompt", "query=b") == 2
    assert "given twice" in capsys.readouterr().err
    text = '{"prompts": {"query": "a", "query": "b"}}'
    (bert / "config_sentence_transformers.json").write_text(text, "utf-8")
    assert _run(bert, "-o", out) == 2
    assert "contains a key twice" in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_a_prompt_without_a_name(bert: Path, capsys) -> None:
    assert _run(bert, "--prompt", "query: ") == 2
    assert "NAME=TEXT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "card", "needed"),
    [
        ("multilingual-e5-small", "", "passage: "),
        ("mine", "base_model: BAAI/bge-base-en-v1.5", "searching relevant passages"),
        ("nomic-embed-text-v1.5", "", "search_document: "),
        ("snowflake-arctic-embed-m-v2.0", "", "query='query: '"),
        ("bge-m3", "", None),
        ("all-MiniLM-L6-v2", "", None),
    ],
)
def test_families_that_need_prompts(name: str, card: str, needed: str | None, bert: Path) -> None:
    place = bert.rename(bert.with_name(name))
    (place / "README.md").write_text(card, "utf-8")
    notes = load(place).notes
    assert notes == () if needed is None else needed in notes[0]
    assert load(place, prompts={"query": "x "}).notes == ()


def test_code_of_the_checkpoint_is_refused(bert: Path, edit) -> None:
    edit(bert / "config.json", auto_map={"AutoModel": "modeling_mine.Mine"})
    with pytest.raises(CheckpointError, match=r"never run(?s:.)*modeling_mine"):
        load(bert)
