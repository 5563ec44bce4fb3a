"""The search for a recipe on tiny checkpoints: budgets kept, nothing lost by a kill, files made again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_embed import Embedder
from edge_embed.cli import main
from edge_embed.errors import BudgetError, InputError, MissingExtraError, RecipeError
from edge_embed.report_files import check_report_file, write_report
from edge_embed_convert.auto import report as auto_report
from edge_embed_convert.auto import searcher
from edge_embed_convert.auto.budget import Budget, Search
from edge_embed_convert.auto.convert import convert_auto
from edge_embed_convert.auto.parts import MOST_PARTS, parts_of
from edge_embed_convert.auto.simulate import Simulation
from edge_embed_convert.gate.probe_texts import SENTENCES
from edge_embed_convert.graph.rewrite import build
from edge_embed_convert.graph.weights import TABLE
from edge_embed_convert.pipeline import convert
from edge_embed_convert.recipes.calibrate.rounding import collect_moments
from edge_embed_convert.recipes.grammar import Recipe, Scheme
from edge_embed_convert.recipes.placement import projections
from edge_embed_convert.source.checkpoint import load


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    """Some texts that a tiny vocabulary can spell."""
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(line.replace("\n", " ") for line in SENTENCES), "utf-8")
    return path


@pytest.fixture(scope="module")
def one_layer(write_tiny_bert, tmp_path_factory) -> Path:
    return write_tiny_bert(
        tmp_path_factory.mktemp("one") / "one", num_hidden_layers=1, max_position_embeddings=16
    )


@pytest.fixture(scope="module")
def journals(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("journals")


@pytest.fixture(scope="module")
def int8_size(one_layer: Path, tmp_path_factory) -> int:
    return (
        convert(one_layer, tmp_path_factory.mktemp("int8"), recipe="int8", num_threads=1).path.stat().st_size
    )


@pytest.fixture(scope="module")
def small(one_layer: Path, texts: Path, journals: Path, int8_size: int, tmp_path_factory) -> Search:
    """The best file of nine tenths of int8's size."""
    return convert_auto(
        one_layer,
        tmp_path_factory.mktemp("small"),
        budget=Budget(max_size=int8_size * 9 // 10),
        calibration=texts,
        num_threads=1,
        journals=journals,
    )


def test_a_size_is_kept(small: Search, int8_size: int) -> None:
    path = small.conversion.path
    assert path.name == "one.auto.tflite"
    assert small.winner.size <= path.stat().st_size + 16 <= int8_size * 9 // 10
    assert abs(small.winner.size - path.stat().st_size) < searcher.SLACK
    assert small.conversion.manifest.parity.passed
    recipe = small.conversion.manifest.recipe
    assert recipe.spec == small.winner.recipe
    fitting = [t for t in small.trials if t.measured and t.size <= int8_size * 9 // 10]
    assert small.winner.score.cosine == max(t.score.cosine for t in fitting)
    with Embedder(path, num_threads=1) as model:
        assert np.isfinite(model.encode("The ferry leaves at seven.")).all()


def test_the_same_file_without_a_search(small: Search, one_layer: Path, texts: Path, tmp_path: Path) -> None:
    recipe = small.conversion.manifest.recipe
    again = convert(
        one_layer, tmp_path / "again.tflite", recipe=recipe.spec, calibration=texts, num_threads=1
    )
    assert again.manifest.graph == small.conversion.manifest.graph
    if Recipe.parse(recipe.spec).calibrated:
        assert again.manifest.tools["calibration texts"].startswith("texts.txt sha256:")


def test_a_search_goes_on_where_it_was(
    small: Search, one_layer: Path, texts: Path, journals: Path, int8_size: int, tmp_path: Path
) -> None:
    """Cut the journal, as a kill would, and search again: one trial is measured, the result is the same."""
    (journal,) = journals.iterdir()
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:9])
    again = convert_auto(
        one_layer, tmp_path, budget=small.budget, calibration=texts, num_threads=1, journals=journals
    )
    assert again.winner == small.winner
    assert again.trials == small.trials
    assert again.reused >= len(lines) - 1
    assert again.conversion.path.read_bytes() == small.conversion.path.read_bytes()


@pytest.mark.parametrize("budget", [Budget(min_cosine=0.98), Budget(max_loss=0.3)], ids=str)
def test_a_quality_is_kept(
    budget: Budget, small: Search, one_layer: Path, texts: Path, journals: Path, tmp_path: Path
) -> None:
    search = convert_auto(
        one_layer, tmp_path, budget=budget, calibration=texts, num_threads=1, journals=journals
    )
    assert budget.met(search.winner.size, search.winner.score)
    assert search.winner.size <= next(t.size for t in search.trials if t.label == "int8")


@pytest.mark.parametrize("budget", [Budget(max_size=1000), Budget(min_cosine=1 - 1e-15)], ids=str)
def test_what_cannot_be_kept_writes_nothing(
    budget: Budget, small: Search, one_layer: Path, texts: Path, journals: Path, tmp_path: Path
) -> None:
    target = tmp_path / "one.auto.tflite"
    target.write_bytes(b"what was there")
    with pytest.raises(BudgetError, match="nearest") as caught:
        convert_auto(one_layer, target, budget=budget, calibration=texts, num_threads=1, journals=journals)
    assert "--recipe '" in str(caught.value)
    assert target.read_bytes() == b"what was there"
    assert [p.name for p in tmp_path.iterdir()] == ["one.auto.tflite"]


def test_reports(small: Search, tmp_path: Path) -> None:
    for suffix in auto_report.WRITERS:
        write_report(small, tmp_path / f"report{suffix}", auto_report.WRITERS)
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["winner"]["recipe"] == small.winner.recipe
    assert len(report["tried"]) == len(small.trials)
    assert set(report["loss_of_parts"]) == {"table", "0.inputs", "0.output", "0.up", "0.down"}
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    markdown = (tmp_path / "report.md").read_text("utf-8")
    assert f"`{small.winner.recipe}`" in markdown
    assert "auto *" in auto_report.to_text(small) or "better than what the search found" in markdown
    with pytest.raises(InputError, match=r"\.xls"):
        check_report_file(tmp_path / "report.xls", auto_report.WRITERS)
    with pytest.raises(InputError, match="no such directory"):
        check_report_file(tmp_path / "absent" / "report.md", auto_report.WRITERS)


def test_a_plot_without_matplotlib(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="matplotlib"):
        check_report_file(tmp_path / "report.png", auto_report.WRITERS)


def test_a_better_fixed_recipe_is_told(small: Search) -> None:
    worse = dataclasses.replace(
        small.winner, score=dataclasses.replace(small.winner.score, cosine=-1.0), size=10**9
    )
    beaten = dataclasses.replace(small, winner=dataclasses.replace(worse, label="auto"))
    assert "int8" in [trial.label for trial in beaten.beaten_by()]
    assert "No larger and no worse: " in auto_report.to_text(beaten)


# Budgets and the command line.


@pytest.mark.parametrize(
    "given",
    [{}, {"max_size": 5, "min_cosine": 0.9}, {"max_size": 0}, {"min_cosine": 1.0}, {"max_loss": -0.1}],
    ids=str,
)
def test_budgets_that_are_none(given: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Budget(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "auto"], "exactly one"),
        (["--recipe", "auto", "--max-size", "1MB", "--max-loss", "0.1"], "exactly one"),
        (["--recipe", "int8", "--max-size", "1MB"], "--recipe int8"),
        (["--recipe", "auto", "--max-size", "1MB", "--force"], "--force"),
        (["--recipe", "auto", "--max-size", "many"], "17MB"),
        (["--recipe", "auto", "--max-size", "1MB", "--report", "x.xls"], ".xls"),
        (["--recipe", "auto", "--max-size", "1MB", "--calibration", "/absent.txt"], "/absent.txt"),
        (["--recipe", "auto", "--min-cosine", "2"], "out of range"),
    ],
)
def test_cli_refuses(words: list[str], said: str, one_layer: Path, tmp_path: Path, capsys) -> None:
    assert main(["convert", str(one_layer), "-o", str(tmp_path), *words]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_cli(
    small: Search, one_layer: Path, texts: Path, journals: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("EDGE_EMBED_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "auto").symlink_to(journals)
    words = ["convert", str(one_layer), "--recipe", "auto", "--calibration", str(texts), "--threads", "1"]
    out = tmp_path / "out.tflite"
    size = f"{small.budget.max_size}B"
    assert main([*words, "-o", str(out), "--max-size", size, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bytes"] == out.stat().st_size
    assert report["recipe"] == small.winner.recipe
    assert {p.name for p in tmp_path.iterdir()} == {"cache", "out.tflite", "out.md", "out.png"}
    assert main([*words, "-o", str(out), "--max-size", "1kB"]) == 1
    assert "nearest" in capsys.readouterr().err


# What the search rests on.


def test_the_simulation_is_near_the_file(small: Search, one_layer: Path) -> None:
    by_recipe = {t.recipe: t.score for t in small.trials if t.measured}
    simulated = {t.recipe: t.score for t in small.trials if not t.measured}
    common = by_recipe.keys() & simulated.keys()
    for recipe in common:
        assert by_recipe[recipe].cosine == pytest.approx(simulated[recipe].cosine, abs=0.005)
    cosines = [t.score.cosine for t in small.trials if t.label == "front"]
    assert cosines[-1] > cosines[0]


def test_a_trial_leaves_the_model_as_it_was(bert_checkpoint: Path, ours, random_ids) -> None:
    model = ours.load(bert_checkpoint)
    ids = [random_ids(12, seed) for seed in range(4)]
    moments = collect_moments(model, ids)
    for path, module in projections(model).items():
        assert moments[path].shape == (module.in_features, module.in_features)
        assert float(moments[path].trace()) > 0
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    simulation = Simulation(model, moments, [])
    schemes = {TABLE: Scheme(4, algorithm="octav")}
    schemes |= dict.fromkeys(projections(model), Scheme(4, algorithm="gptq"))
    with simulation._holding(schemes), torch.inference_mode():
        assert not torch.equal(model.encoder.table, before["encoder.table"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in projections(model).values())


def test_parts_of_small_and_large_models(bert_checkpoint: Path, write_gemma, tmp_path: Path) -> None:
    small = parts_of(build(load(bert_checkpoint), 0))
    assert [part.name for part in small] == [
        TABLE,
        *(f"{layer}.{name}" for layer in (0, 1) for name in ("inputs", "output", "up", "down")),
    ]
    deep = write_gemma(tmp_path / "deep", num_hidden_layers=30)
    model = build(load(deep), 0)
    large = parts_of(model)
    assert len(large) <= MOST_PARTS + 4
    assert large[1].name == "0-2.attention"
    assert sorted(path for part in large[1:] for path in part.paths) == sorted(projections(model))


def test_a_projection_that_is_not_there(one_layer: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"9\.down"):
        convert(one_layer, tmp_path, recipe="e4_a8_f8_p8+9.down=4", num_threads=1)


def test_single_projections_are_stored_so(gemma_checkpoint: Path, tmp_path: Path) -> None:
    """Every kind of exception, in one file that still answers as its source."""
    spec = "e8_a8_f8.gptq_p8+0.value=4.gptq+1.down=4b32.gptq+2.gate=32+3.output=16+dense.1=4"
    file = convert(gemma_checkpoint, tmp_path, recipe=spec, buckets=[16, 72], num_threads=1)
    assert file.path.name == "tiny-gemma.layered.tflite"
    assert file.manifest.recipe.spec == spec
    assert set(file.manifest.recipe.groups) > {"attention", "0.value", "dense.1"}
    from ai_edge_litert.tools import flatbuffer_utils as utils

    model = utils.read_model(str(file.path))
    names = {code: name for name, code in vars(utils.schema_fb.TensorType).items() if isinstance(code, int)}
    graph, kinds = model.subgraphs[0], []
    for op in graph.operators:
        if model.operatorCodes[op.opcodeIndex].builtinCode == utils.BuiltinOperator.FULLY_CONNECTED:
            kinds.append(names[graph.tensors[op.inputs[1]].type])
    plain = ["INT8"] * 7  # qk_first, qk_second, value, output, gate, up, down
    wanted = [plain.copy() for _ in range(4)]
    wanted[0][2], wanted[1][6], wanted[2][4] = "INT4", "INT4", "FLOAT32"
    wanted[3][3] = "FLOAT32"  # unpacked from float16 ahead of the product
    found = [sorted(kinds[7 * layer : 7 * layer + 7]) for layer in range(4)]
    assert found == [sorted(layer) for layer in wanted], kinds
    assert kinds[28:] == ["INT8", "INT4"]


def test_an_unknown_algorithm_is_not_simulated_as_another(one_layer: Path) -> None:
    model = build(load(one_layer), 0)
    simulation = Simulation(model, {}, [])
    with pytest.raises(RecipeError, match="'hadamard'"):
        simulation.stored("encoder.layers.0.down", Scheme(4, algorithm="hadamard"))
