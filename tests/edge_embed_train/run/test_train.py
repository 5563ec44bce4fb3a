"""Whole runs on tiny models: stages, resuming, two processes, and what stops a run."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from edge_embed.errors import InputError, TrainingError
from edge_embed_convert.source.checkpoint import load
from edge_embed_train.cli import train as command
from edge_embed_train.qat.model import QuantizedLinear
from edge_embed_train.run import train, trainer
from edge_embed_train.run.folder import last_checkpoint

from ..words import WORDS


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, write_tiny: Any) -> Path:
    """A directory with pairs, texts, a development set, a start, and a teacher of the same dimension."""
    directory = tmp_path_factory.mktemp("train")
    draw = random.Random(0)
    pairs = []
    for _ in range(60):
        words = draw.sample(WORDS, 5)
        pairs.append(
            {"query": " ".join(words[:3]), "positive": " ".join(words[1:] + ["the"] * draw.randrange(4))}
        )
    (directory / "pairs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs))
    texts = [" ".join(draw.sample(WORDS, 6)) for _ in range(40)]
    (directory / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    lines = [f"{' '.join(draw.sample(WORDS, 3))}\t{' '.join(draw.sample(WORDS, 3))}\t{i}" for i in range(8)]
    (directory / "dev.tsv").write_text("sentence1\tsentence2\tscore\n" + "\n".join(lines) + "\n")
    write_tiny(directory / "start", seed=1)
    write_tiny(directory / "teacher", "bert", seed=2)
    write_tiny(directory / "narrow", "bert", seed=2, hidden_size=16)
    write_tiny(directory / "bert", "bert", seed=5, hidden_dropout_prob=0.1)
    return directory


HEAD = """
name = "small"
model = "{model}"
teacher = "{teacher}"
dev = ["dev.tsv"]
licence = "apache-2.0"
[data.pairs]
path = "pairs.jsonl"
licence = "CC BY 4.0"
attribution = "The test's authors"
query_prompt = "query"
positive_prompt = "document"
[data.texts]
path = "texts.jsonl"
licence = "CC0-1.0"
"""

STAGE = """
[[stage]]
kind = "{kind}"
data = {data}
steps = {steps}
batch_size = 8
learning_rate = 1e-3
"""

ROTATE = '[[stage]]\nkind = "rotate"\ndata = ["texts"]\n'


def _recipe(place: Path, name: str, *stages: str, model: str = "start", teacher: str = "teacher") -> Path:
    path = place / f"{name}.toml"
    path.write_text(HEAD.format(model=model, teacher=teacher) + "".join(stages))
    return path


def _stage(kind: str, steps: int = 6, data: str = '["pairs"]', more: str = "") -> str:
    return STAGE.format(kind=kind, steps=steps, data=data) + more + "\n"


def _weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    parts = sorted(p.parent for p in checkpoint.rglob("model.safetensors"))
    return {
        f"{p.relative_to(checkpoint)}/{k}": v
        for p in parts
        for k, v in load_file(p / "model.safetensors").items()
    }


def test_stages_follow_each_other_and_the_result_says_what_it_is(place: Path, tmp_path: Path) -> None:
    recipe = _recipe(
        place,
        "whole",
        _stage("distill", data='["pairs", "texts"]'),
        _stage("finetune", more="hard_negatives = true\nloss = { matching = 1.0, dimensions = [32, 16] }"),
        _stage("soup", steps=3, data='["pairs", "texts"]', more="members = 2\nloss = { matching = 1.0 }"),
        _stage("qat", more='quantize = "e2_a4_f4_p4"\nevaluate_every = 2\npatience = 1'),
    )
    result = train(recipe, tmp_path / "run")
    assert set(result.scores) == {"distill", "finetune", "soup-1", "soup-2", "soup", "qat"}
    assert load(result.model).trained_recipe == "e2_a4_f4_p4"
    stage = next((tmp_path / "run" / "stages").glob("*-qat")) / "model"
    tables = (load_file(p / "model.safetensors")["embed_tokens.weight"] for p in (stage, result.model))
    exact, rounded = (len(table[5].abs().unique()) for table in tables)
    assert exact > rounded == 2  # minus a number, zero, that number
    assert SentenceTransformer(str(result.model), device="cpu").encode("red planet").shape == (32,)
    card = (result.model / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "| pairs | CC BY 4.0 | The test's authors |" in card
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [r["loss"] for r in records if r["stage"] == "distill" and "loss" in r]
    assert losses[-1] < losses[0]
    assert {"nce", "spread_out", "matching"} <= set(next(r for r in records if r["stage"] == "finetune"))
    assert any("mean" in r.get("scores", {}) for r in records if r["stage"] == "qat")
    assert (tmp_path / "run" / "metrics.png").stat().st_size > 1000
    again = train(recipe, tmp_path / "run")  # a finished run does nothing more
    assert again.scores == result.scores
    recipe.write_text(recipe.read_text() + "\n# changed\n")
    with pytest.raises(InputError, match="another recipe"):
        train(recipe, tmp_path / "run")


RUN = """
import sys
from pathlib import Path
import torch
from edge_embed_train.qat.model import QuantizedLinear
from edge_embed_train.run import train
torch.set_num_threads(1)
train(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def _started(recipe: Path, output: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Starts a run in a process of its own. A fork would inherit the threads of JAX."""
    command = [sys.executable, "-c", RUN, str(recipe), str(output)]
    return subprocess.Popen(command, env={**os.environ, **environment})


def test_a_killed_run_goes_on_to_the_same_weights(place: Path, tmp_path: Path) -> None:
    recipe = _recipe(place, "killed", _stage("finetune", steps=120, more="save_every = 8"), model="bert")
    process = _started(recipe, tmp_path / "killed")
    checkpoints = tmp_path / "killed" / "stages" / "1-finetune" / "checkpoints"
    deadline = time.monotonic() + 600
    while last_checkpoint(checkpoints) is None and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert last_checkpoint(checkpoints) is not None
    assert not (tmp_path / "killed" / "model").exists()
    (checkpoints / "checkpoint-119").mkdir()  # one that a kill left incomplete
    resumed = train(recipe, tmp_path / "killed").model
    whole = train(recipe, tmp_path / "whole").model
    ours, theirs = _weights(resumed), _weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    lines = (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    steps = [step for line in lines if (step := json.loads(line).get("step"))]
    assert steps == sorted(set(steps))


def test_two_processes_equal_one(place: Path, tmp_path: Path) -> None:
    options = "loss = { matching = 1.0, relational = 1.0, dimensions = [32, 16] }\nhard_negatives = true"
    recipe = _recipe(place, "two", _stage("finetune", steps=4, more=options))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        _started(recipe, tmp_path / "two", RANK=rank, LOCAL_RANK=rank, **common) for rank in ("0", "1")
    ]
    for process in processes:
        assert process.wait(600) == 0
    one = train(recipe, tmp_path / "one").model
    start, ours, theirs = _weights(place / "start"), _weights(tmp_path / "two" / "model"), _weights(one)
    assert any(not torch.equal(start[name], theirs[name]) for name in theirs)
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=1e-5)


def test_the_command_estimates_and_leaves_nothing_behind(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    recipe = _recipe(place, "dry", _stage("distill", 7), _stage("soup", 5, more="members = 2"), ROTATE)
    parser = argparse.ArgumentParser()
    command.configure(parser)
    before = sorted(place.iterdir())
    capsys.readouterr()
    assert command.run(parser.parse_args([str(recipe), "--dry-run", "--json"])) == 0
    stages = json.loads(capsys.readouterr().out)
    assert [(s["name"], s["steps"]) for s in stages] == [("distill", 7), ("soup", 10), ("rotate", 0)]
    for stage in stages[:2]:
        assert stage["seconds"] == pytest.approx(stage["steps"] * stage["seconds_per_step"])
        assert stage["memory"] > 1e8
    assert sorted(place.iterdir()) == before
    assert not list((tmp_path / "scratch").iterdir())


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(place: Path, tmp_path: Path) -> None:
    recipe = _recipe(place, "nan", _stage("finetune", steps=60, more="save_every = 2"))
    output = tmp_path / "run"
    seen = []

    def poison(self: Any, rows: Any, column: int) -> Any:
        seen.append(1)
        value = torch.full((len(rows), 32), 0.1)
        return value * (float("nan") if len(seen) > 20 else 1.0)

    text = recipe.read_text().replace("learning_rate", "loss = { matching = 1.0 }\nlearning_rate")
    recipe.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge_embed_train.data.StoredVectors.__call__", poison)
        with pytest.raises(TrainingError, match="not a number"):
            train(recipe, output)
    kept = last_checkpoint(output / "stages" / "1-finetune" / "checkpoints")
    assert kept is not None
    assert all(bool(t.isfinite().all()) for t in _weights(kept).values())


def test_a_full_disk_at_a_checkpoint_keeps_the_one_before(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _recipe(place, "full", _stage("finetune", steps=6, more="save_every = 2"))
    save, calls = torch.save, []

    def full(value: Any, target: Any, *rest: Any, **options: Any) -> None:
        calls.append(target)
        if "checkpoint-4" in str(target):
            Path(target).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(value, target, *rest, **options)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"cannot be written[\s\S]*No space left[\s\S]*checkpoint-2"):
        train(recipe, tmp_path / "run")
    checkpoints = tmp_path / "run" / "stages" / "1-finetune" / "checkpoints"
    assert [p.name for p in checkpoints.iterdir()] == ["checkpoint-2"]
    monkeypatch.undo()
    train(recipe, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": "narrow", "more": "loss = { matching = 1.0 }"}, "another dimension"),
        ({"data": '["texts"]'}, "no positives"),
        ({"pairs": ""}, "has no rows"),
        ({"pairs": '{"query": "a", "positive": "b"}\n'}, "too small"),
        ({"model": "nowhere"}, "cannot be loaded"),
    ],
)
def test_data_and_models_that_cannot_work_are_one_clear_error(
    change: dict[str, str], message: str, place: Path, tmp_path: Path
) -> None:
    options = {key: change[key] for key in ("data", "more") if key in change}
    models = {key: change[key] for key in ("model", "teacher") if key in change}
    recipe = _recipe(place, "bad", _stage("finetune", **options), **models)  # type: ignore[arg-type]
    if "pairs" in change:
        other = tmp_path / "pairs.jsonl"
        other.write_text(change["pairs"])
        recipe.write_text(recipe.read_text().replace('"pairs.jsonl"', f'"{other}"'))
    with pytest.raises(InputError, match=message):
        train(recipe, tmp_path / "run")


def test_a_directory_of_something_else_is_left_alone(place: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not empty"):
        train(_recipe(place, "other", _stage("finetune")), tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_a_stage_without_layers_trains_the_table_alone(place: Path, tmp_path: Path) -> None:
    recipe = _recipe(place, "table", _stage("distill", more='layers = "skip"'))
    result = train(recipe, tmp_path / "run")
    before, after = _weights(place / "start"), _weights(result.model)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("embed_tokens" in name for name in moved)
    assert not any(".layers." in name or "/layers." in name for name in moved)


def test_data_that_changed_is_not_mixed_into_a_run(place: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "pairs.jsonl").write_text((place / "pairs.jsonl").read_text())
    (own / "texts.jsonl").write_text((place / "texts.jsonl").read_text())
    (own / "dev.tsv").write_text((place / "dev.tsv").read_text())
    recipe = _recipe(own, "same", _stage("finetune", 2), model=str(place / "start"))
    train(recipe, tmp_path / "run")
    state = tmp_path / "run" / "run.json"
    known = json.loads(state.read_text())
    state.write_text(json.dumps(known | {"finished": []}))
    os.utime(own / "pairs.jsonl", (1, 1))  # another time alone is no other content
    train(recipe, tmp_path / "run")
    state.write_text(json.dumps(known | {"finished": []}))
    (own / "pairs.jsonl").write_text((place / "pairs.jsonl").read_text().replace("red", "rad"))
    with pytest.raises(InputError, match="pairs has changed since"):
        train(recipe, tmp_path / "run")
    state.write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        train(recipe, tmp_path / "run")


def test_what_is_missing_is_said_before_anything_is_trained(place: Path, tmp_path: Path) -> None:
    more = _stage("finetune", 2, data='["gone"]', more='name = "more"') + '[data.gone]\npath = "gone.jsonl"\n'
    with pytest.raises(InputError, match=r"gone\.jsonl cannot be read"):
        train(_recipe(place, "gone", _stage("distill", 2), more), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_prompt_that_the_model_does_not_have(place: Path, tmp_path: Path) -> None:
    recipe = _recipe(place, "prompt", _stage("finetune", 2))
    recipe.write_text(recipe.read_text().replace('query_prompt = "query"', 'query_prompt = "qeury"'))
    with pytest.raises(InputError, match="a prompt that the model does not have"):
        train(recipe, tmp_path / "run")


def test_a_model_without_its_tokenizer_is_refused(place: Path, tmp_path: Path, write_tiny: Any) -> None:
    bare = write_tiny(tmp_path / "bare", seed=1)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bare / name).unlink()
    recipe = _recipe(place, "bare", _stage("finetune", 2), model=str(bare))
    with pytest.raises(InputError, match="has no tokenizer"):
        train(recipe, tmp_path / "run")


def test_damaged_weights_are_one_clear_error(place: Path, tmp_path: Path, write_tiny: Any) -> None:
    cut = write_tiny(tmp_path / "cut", seed=1)
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be loaded"):
        train(_recipe(place, "cut", _stage("finetune", 2), model=str(cut)), tmp_path / "run")


def test_an_estimate_measures_what_the_stage_does(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    estimates = importlib.import_module("edge_embed_train.run.estimate")  # its function has the same name
    make = estimates.make_trainer

    def look(recipe: Any, training: Any, model: Any, **options: Any) -> Any:
        rounded = sum(isinstance(module, QuantizedLinear) for module in model.modules())
        seen.append((model.max_seq_length, rounded))
        return make(recipe, training, model, **options)

    monkeypatch.setattr(estimates, "make_trainer", look)
    qat = _stage("qat", 2, more='quantize = "int4"\nmax_tokens = 8')
    estimates.estimate(_recipe(place, "measured", _stage("finetune", 2), qat))
    assert seen[0] == (32, 0)
    assert seen[1][0] == 8
    assert seen[1][1] > 0


def test_early_stopping_keeps_its_count(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "score", lambda *_, **__: {"dev": 0.5})  # never better than at first
    marked = trainer.mark_complete

    def stop(checkpoint: Path) -> None:
        marked(checkpoint)
        if checkpoint.name == "checkpoint-2":
            raise KeyboardInterrupt

    recipe = _recipe(place, "patience", _stage("finetune", 8, more="evaluate_every = 1\npatience = 2"))
    monkeypatch.setattr(trainer, "mark_complete", stop)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run")
    monkeypatch.setattr(trainer, "mark_complete", marked)
    train(recipe, tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [r["steps"] for r in records if r.get("event") == "finished"] == [3]
