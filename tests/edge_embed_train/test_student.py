"""Students: the cut vocabulary, the table of principal components, and the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from edge_embed.errors import CheckpointError, InputError
from edge_embed_convert.source.checkpoint import load
from edge_embed_train.data import StoredVectors
from edge_embed_train.recipe import read_recipe
from edge_embed_train.run.folder import RunFolder
from edge_embed_train.run.inputs import Teacher
from edge_embed_train.shortened import strongest
from edge_embed_train.student import cut_vocabulary, make_student, principal_components

RECIPE = """
name = "student"
teacher = "{teacher}"
[data.texts]
path = "texts.jsonl"
[[stage]]
kind = "student"
data = ["texts"]
vocabulary = {vocabulary}
layers = 2
hidden = {hidden}
heads = 2
head_dim = 8
inner = 32
dense = [24, {dimension}]
layer_gain = 0.25
max_tokens = 32
"""


def _make(tmp_path: Path, teacher: Path, **changes: Any) -> Path:
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": "the red planet mars, the red king"}) + "\n")
    values = {"teacher": teacher, "vocabulary": 62, "hidden": 16, "dimension": 32, **changes}
    (tmp_path / "recipe.toml").write_text(RECIPE.format(**values))
    recipe = read_recipe(tmp_path / "recipe.toml")
    folder = RunFolder(tmp_path / "run", recipe)
    return make_student(recipe, recipe.stages[0], Teacher(str(teacher)), tmp_path / "student", folder)


def test_a_student_has_the_teachers_words_and_can_be_converted(tiny_bert: Path, tmp_path: Path) -> None:
    student = _make(tmp_path, tiny_bert)
    checkpoint = load(student)
    assert checkpoint.config["vocab_size"] == 62
    assert checkpoint.dimension == 32
    assert checkpoint.family.name == "embeddinggemma"
    model, teacher = (SentenceTransformer(str(p), device="cpu") for p in (student, tiny_bert))
    vocabulary = model.tokenizer.get_vocab()
    assert {"the", "red", "planet", "mars", "king", *"abcz", "##a", "[CLS]"} <= set(vocabulary)
    assert "garden" not in vocabulary
    ids = model.tokenizer("the red planet mars")["input_ids"]
    theirs = teacher.tokenizer("the red planet mars")["input_ids"]
    assert [model.tokenizer.convert_ids_to_tokens(ids)] == [teacher.tokenizer.convert_ids_to_tokens(theirs)]
    assert model.tokenizer.tokenize("garden") == ["g", "##a", "##r", "##d", "##e", "##n"]
    layer = model[0].model.layers[1]
    assert set((1 + layer.post_attention_layernorm.weight).tolist()) == {0.25}
    assert set((1 + layer.post_feedforward_layernorm.weight).tolist()) == {0.25}
    # Cosines of the centred token vectors are about the teacher's.
    names = [piece for piece in vocabulary if piece != "[PAD]"]
    ours = model[0].model.embed_tokens.weight[[vocabulary[n] for n in names]]
    components = principal_components(teacher[0].model.get_input_embeddings().weight.detach().float(), 16)
    theirs = components[[teacher.tokenizer.get_vocab()[n] for n in names]]
    torch.testing.assert_close(ours, theirs)


def test_all_principal_components_keep_every_distance() -> None:
    table = torch.randn(50, 12, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 13)
    components = principal_components(table, 12)
    ratio = torch.cdist(components, components) / torch.cdist(table, table).clamp(min=1e-9)
    ratio = ratio[~torch.eye(50, dtype=torch.bool)]
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=0)
    spread = components.var(0)
    assert bool((spread[:-1] >= spread[1:]).all())
    first = principal_components(table, 3)
    cosines = torch.cosine_similarity(first.T, components[:, :3].T)
    torch.testing.assert_close(cosines.abs(), torch.ones(3))


@pytest.mark.parametrize(
    ("change", "message"), [({"dimension": 31}, "teacher's dimension"), ({"hidden": 40}, "wider than")]
)
def test_shapes_that_do_not_fit_the_teacher_are_refused(
    change: dict[str, int], message: str, tiny_bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        _make(tmp_path, tiny_bert, **change)


KEPT = """
name = "student"
teacher = "{teacher}"
[data.texts]
path = "texts.jsonl"
[[stage]]
kind = "student"
data = ["texts"]
vocabulary = 62
keep_layers = [{layers}]
inner = {inner}
max_tokens = {tokens}
rotate = {rotate}
"""


def _keep(
    tmp_path: Path, teacher: Path, layers: str, inner: int = 64, tokens: int = 32, rotate: bool = False
) -> Path:
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": "the red planet mars, the red king"}) + "\n")
    recipe_text = KEPT.format(
        teacher=teacher, layers=layers, inner=inner, tokens=tokens, rotate=str(rotate).lower()
    )
    (tmp_path / "recipe.toml").write_text(recipe_text)
    recipe = read_recipe(tmp_path / "recipe.toml")
    folder = RunFolder(tmp_path / "run", recipe)
    return make_student(recipe, recipe.stages[0], Teacher(str(teacher)), tmp_path / "student", folder)


def test_a_student_with_all_of_the_teachers_layers_computes_as_the_teacher(
    tiny_bert: Path, tmp_path: Path
) -> None:
    model, teacher = (
        SentenceTransformer(str(p), device="cpu") for p in (_keep(tmp_path, tiny_bert, "0, 1"), tiny_bert)
    )
    assert len(model.tokenizer) == 62
    text = "the red king"  # words that were kept
    torch.testing.assert_close(model.encode(text), teacher.encode(text))


def test_a_student_keeps_some_layers_and_neurons_and_can_be_converted(
    tiny_bert: Path, tmp_path: Path
) -> None:
    place = _keep(tmp_path, tiny_bert, "1", inner=24, tokens=16)
    checkpoint = load(place)
    assert checkpoint.family.name == "bert"
    assert checkpoint.config["num_hidden_layers"] == 1
    assert checkpoint.config["intermediate_size"] == 24
    assert checkpoint.config["max_position_embeddings"] == 16
    model, teacher = (SentenceTransformer(str(p), device="cpu")[0].model for p in (place, tiny_bert))
    ours, theirs = model.encoder.layer[0], teacher.encoder.layer[1]
    torch.testing.assert_close(ours.attention.self.query.weight, theirs.attention.self.query.weight)
    neurons = strongest(theirs.intermediate.dense.weight, theirs.output.dense.weight, 24)
    assert neurons.tolist() == sorted(set(neurons.tolist()))
    torch.testing.assert_close(ours.intermediate.dense.weight, theirs.intermediate.dense.weight[neurons])
    torch.testing.assert_close(ours.output.dense.weight, theirs.output.dense.weight[:, neurons])
    assert not any(module.p for module in model.modules() if isinstance(module, torch.nn.Dropout))


def test_a_rotated_student_has_the_teachers_similarities(tiny_bert: Path, tmp_path: Path) -> None:
    place = _keep(tmp_path, tiny_bert, "0, 1", rotate=True)
    model, teacher = (SentenceTransformer(str(p), device="cpu") for p in (place, tiny_bert))
    texts = ["the red king", "the red planet", "mars"]
    ours, theirs = (torch.from_numpy(each.encode(texts)) for each in (model, teacher))
    torch.testing.assert_close(ours @ ours.T, theirs @ theirs.T)
    # Later stages compare with the teacher's vectors, turned alike.
    stored = StoredVectors(32, np.load(tmp_path / "run" / "axes.npy"))
    stored.add(0, [theirs.numpy().astype(np.float16)])
    torch.testing.assert_close(stored(torch.arange(3), 0), ours, rtol=0, atol=2e-3)
    assert load(place).dimension == 32


def test_the_strongest_neurons_have_large_weights_on_both_sides() -> None:
    inward = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 2.0], [9.0, 9.0]])
    outward = torch.tensor([[2.0, 2.0, 1.0, 0.0]])
    assert strongest(inward, outward, 2).tolist() == [1, 2]


def test_layers_that_a_teacher_lacks_are_refused(tiny_bert: Path, tiny_gemma: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks a layer"):
        _keep(tmp_path, tiny_bert, "0, 2")
    (tmp_path / "other").mkdir()
    with pytest.raises(CheckpointError, match="layers of a BERT"):
        _keep(tmp_path / "other", tiny_gemma, "0")


def test_unseen_characters_are_left_out_and_the_tokenizers_order_counts() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["[PAD]", "[unused0]", "[UNK]", "a", "é", "ж", "##b", "##ж", "early", "middle", "late", "last"]
    wordpiece = models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    plain = Tokenizer(wordpiece)
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]")
    texts = [["late late late middle é"]]

    def kept(size: int, **options: Any) -> set[str]:
        return set(cut_vocabulary(tokenizer, texts, size, **options)[1]["model"]["vocab"]) - {
            "[PAD]",
            "[UNK]",
        }

    assert kept(8) == {"a", "é", "ж", "##b", "##ж", "late"}
    assert kept(7, characters="seen") == {"a", "é", "##b", "late", "middle"}
    assert kept(7, characters="seen", prior=1.0) == {"a", "é", "##b", "early", "middle"}
    assert kept(8, characters="seen", prior=0.3) == {"a", "é", "##b", "early", "late", "middle"}


def test_another_tokenizer_is_refused() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bpe = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    with pytest.raises(CheckpointError, match="WordPiece"):
        cut_vocabulary(bpe, [], 10)
