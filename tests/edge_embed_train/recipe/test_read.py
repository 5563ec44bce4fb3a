"""Reading recipes, and refusing what cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_embed.errors import EdgeEmbedError
from edge_embed_train.losses import LossOptions
from edge_embed_train.recipe import HardNegatives, RotateStage, TrainStage, read_recipe

GOOD = """
name = "small"
model = "start"
teacher = "teacher"
seed = 3
dev = ["dev.tsv"]

[data.pairs]
path = "pairs.jsonl"
where = { task = ["qa"] }
licence = "CC0-1.0"
query_prompt = "query"

[[stage]]
kind = "distill"
data = ["pairs"]
steps = 10

[[stage]]
kind = "finetune"
data = ["pairs"]
learning_rate = 1
loss = { matching = 0.5, dimensions = [32, 16] }
hard_negatives = { margin = 0.9 }

[[stage]]
kind = "qat"
data = ["pairs"]
quantize = "int4"
"""


def _read(tmp_path: Path, text: str) -> object:
    (tmp_path / "start").mkdir(exist_ok=True)
    file = tmp_path / "recipe.toml"
    file.write_text(text)
    return read_recipe(file)


def test_a_recipe_is_read_with_defaults_and_paths_beside_it(tmp_path: Path) -> None:
    recipe = _read(tmp_path, GOOD)
    assert recipe.model == str(tmp_path / "start")
    assert recipe.teacher == "teacher"  # no directory beside the recipe: a hub id
    assert recipe.dev == (tmp_path / "dev.tsv",)
    assert recipe.data["pairs"].source.path == tmp_path / "pairs.jsonl"
    distill, finetune, qat = recipe.stages
    assert isinstance(distill, TrainStage)
    assert distill.loss == LossOptions(nce=0.0, spread_out=0.0, matching=1.0)
    assert finetune.loss == LossOptions(matching=0.5, dimensions=(32, 16))
    assert finetune.hard_negatives == HardNegatives(margin=0.9)
    assert finetune.learning_rate == 1.0
    assert qat.quantize == "int4"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 10", "step = 10", "did you mean steps"),
        ("seed = 3", "sed = 3", "unknown key"),
        ("matching = 0.5", "match = 0.5", "did you mean matching"),
        ("margin = 0.9", "margins = 0.9", "did you mean margin"),
        ('path = "pairs.jsonl"', "", "exactly one of"),
        ("steps = 10", 'steps = "many"', "wrong type"),
        ("steps = 10", "steps = 0", "too small"),
        ('kind = "distill"', 'kind = "distil"', "no known kind"),
        ('teacher = "teacher"', "", "needs a teacher"),
        ('model = "start"', "", "names no model"),
        ('teacher = "teacher"', 'teacher_file = "t.tflite"', "needs a teacher|no teacher"),
        ("seed = 3", 'precision = "int8"', "no such choice"),
        ("steps = 10", 'layers = "none"', "no such choice"),
        ('quantize = "int4"', "", "needs `quantize`"),
        ('quantize = "int4"', 'quantize = "int4.gptq"', "unknown recipe"),
        ('quantize = "int4"', 'quantize = "e4.octav_a8_f4_p4"', "cannot follow"),
        ('data = ["pairs"]\nsteps', 'data = ["pears"]\nsteps', "names data that the recipe lacks"),
        ("steps = 10", "patience = 2", "cannot stop early"),
        ("steps = 10", 'name = "qat"', "two stages have the same name"),
        ('kind = "finetune"', 'kind = "student"', "cannot follow another|unknown key"),
        ("learning_rate = 1", 'schedule = "sine"', "no such schedule"),
        ("learning_rate = 1", "batch_size = 1", "more than one row in a batch"),
        ("learning_rate = 1", "shares = { other = 1.0 }", "does not use"),
        ("[data.pairs]", "[data.pairs", "not valid TOML"),
        ("learning_rate = 1", "learning_rate = 0", "learning_rate is too small|out of range"),
        ("learning_rate = 1", "learning_rate = nan", "learning_rate is out of range"),
        ("learning_rate = 1", "warmup = 2.0", "warmup is out of range"),
        ("learning_rate = 1", "mixture_temperature = 0", "mixture_temperature is"),
        ("learning_rate = 1", "mini_batch_size = -1", "mini_batch_size is too small"),
        ("learning_rate = 1", "max_tokens = -1", "max_tokens is too small"),
        ("learning_rate = 1", "shares = { pairs = 0 }", "no proportions"),
        ("learning_rate = 1", 'shares = { pairs = "all" }', "no proportions"),
        ("learning_rate = 1", 'name = "a/b"', "no name of a file"),
        ("margin = 0.9", "among = 0", "among is too small"),
        ("matching = 0.5", "temperature = 0", "temperature is"),
        ("matching = 0.5", "nce = 0, spread_out = 0", "every term"),
        ("seed = 3", "seed = -1", "seed is too small"),
        ("seed = 3", "teacher_batch_size = 0", "teacher_batch_size is too small"),
        ('query_prompt = "query"', 'query_prompt = ["a"]', "query_prompt has the wrong type"),
    ],
)
def test_what_cannot_work_is_one_clear_error(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in GOOD
    with pytest.raises(EdgeEmbedError, match=message):
        _read(tmp_path, GOOD.replace(old, new, 1))


def test_what_has_no_sets_or_no_tables(tmp_path: Path) -> None:
    without = GOOD.replace('dev = ["dev.tsv"]\n', "").replace("steps = 10", "evaluate_every = 5")
    with pytest.raises(EdgeEmbedError, match="no sets to evaluate on"):
        _read(tmp_path, without)
    with pytest.raises(EdgeEmbedError, match="not a list of tables"):
        _read(tmp_path, GOOD.partition("[[stage]]")[0].replace("seed = 3", "seed = 3\nstage = 5"))


def test_stages_after_quantization_must_keep_it(tmp_path: Path) -> None:
    more = '\n[[stage]]\nkind = "finetune"\nname = "more"\ndata = ["pairs"]\n'
    with pytest.raises(EdgeEmbedError, match="would undo"):
        _read(tmp_path, GOOD + more)
    _read(tmp_path, GOOD + more + 'quantize = "int4"\n')
    with pytest.raises(EdgeEmbedError, match="as the first stage"):
        _read(tmp_path, GOOD + '\n[[stage]]\nkind = "adapt"\ndata = ["pairs"]\n')


ROTATE = '\n[[stage]]\nkind = "rotate"\ndata = ["pairs"]\n'


def test_rotate_is_the_last_stage_and_keeps_the_bits_that_were_trained(tmp_path: Path) -> None:
    for quantize in ("int4", "e4_a4_f4_p8"):
        recipe = _read(tmp_path, f'{GOOD}{ROTATE}quantize = "{quantize}"\n')
        assert recipe.stages[-1] == RotateStage("rotate", "rotate", ("pairs",), quantize=quantize)
    start, _, _ = GOOD.partition('[[stage]]\nkind = "qat"')
    _read(tmp_path, start + ROTATE)
    for text, message in [
        (GOOD + ROTATE, "than they were trained for"),
        (GOOD + ROTATE + 'quantize = "int8"\n', "than they were trained for"),
        (GOOD + ROTATE + 'quantize = "e4.octav_a4_f4_p8"\n', "cannot follow"),
        (start + ROTATE + 'quantize = "int4"\n', "than they were trained for"),
        (start + ROTATE + "texts = 0\n", "too small"),
        (start + ROTATE + "text = 5\n", "did you mean texts"),
        (
            start + ROTATE + '[[stage]]\nkind = "finetune"\nname = "more"\ndata = ["pairs"]\n',
            "not the last stage",
        ),
    ]:
        with pytest.raises(EdgeEmbedError, match=message):
            _read(tmp_path, text)
