"""The embedder's options: overflow, dimensions, prompts, and the arguments it shares with others."""

import re
import tracemalloc
import warnings

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.errors import (
    InputError,
    TextTooLongError,
    TruncationWarning,
)
from edge_embed.text.windows import windows

TEXTS = ["the red planet", "water and stone", "birds fly home before night"]
LONG = " ".join(["seven small birds fly home"] * 20)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


# Overflow


def test_truncation_keeps_the_special_tokens_and_warns_once(words):
    with pytest.warns(TruncationWarning) as caught:
        rows = words.encode([LONG, "red", LONG + " red"])
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "2 of 3 texts were cut to 32 tokens; the longest has 103" in str(caught[0].message)
    ids = words.tokenize([LONG])[0]
    assert np.array_equal(rows[0], words.encode_tokens([*ids[:31], 3]))


def test_a_text_that_just_fits_is_not_cut(words):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        words.encode(" ".join(["red"] * 30))


def test_error(words):
    with pytest.raises(TextTooLongError, match="text 1 is longer") as caught:
        words.encode(["red", LONG], overflow="error")
    assert caught.value.got == "102 tokens"


def test_mean_is_weighted_by_content_and_repeats_the_prompt(words):
    content = words.tokenize([LONG])[0][1:-1]
    prompt = words.tokenize(["query: "])[0][1:-1]
    step = 30 - len(prompt)
    parts = [content[i : i + step] for i in range(0, len(content), step)]
    rows = np.stack([words.encode_tokens([2, *prompt, *part, 3]) for part in parts])
    expected = unit((rows * np.array([[len(part)] for part in parts])).sum(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vector = words.encode(LONG, prompt="query: ", overflow="mean")
    assert np.allclose(vector, expected, atol=1e-6)


def test_mean_of_a_short_text_is_the_text(words):
    assert np.array_equal(words.encode("red", overflow="mean"), words.encode("red"))


def test_a_huge_text_is_read_only_as_far_as_the_model_sees(words):
    huge = "seven small birds fly home " * 400_000  # 10.8 MB
    words.encode(huge[:9000], overflow="mean")
    tracemalloc.start()
    try:
        with pytest.warns(TruncationWarning, match=r"1 of 1 texts were cut to 32 tokens; .* at least \d+\. "):
            vector = words.encode(huge, prompt="query: ")
        with pytest.raises(TextTooLongError) as caught:
            words.encode(huge, overflow="error")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000
    assert np.array_equal(vector, words.encode_tokens([*words.tokenize(["query: " + huge[:500]])[0][:31], 3]))
    assert re.fullmatch(r"at least \d+ tokens", caught.value.got)
    assert 32 < int(caught.value.got.split()[2]) < 6_000


def test_mean_reads_a_long_text_in_parts(model):
    text = "the red planet, naïve birds and 赤い stones. " * 300
    ids = model.tokenize([text])[0]
    record = model.manifest.tokenizer
    before, after = len(record.prefix_ids), len(record.suffix_ids)
    content = ids[before : len(ids) - after]
    step = model.max_seq_length - before - after
    parts = [content[i : i + step] for i in range(0, len(content), step)]
    found = list(windows(model.tokenizer, model.manifest, "", text, "mean", chunk=500))
    assert [window.ids for window in found] == [[*record.prefix_ids, *p, *record.suffix_ids] for p in parts]
    assert [window.weight for window in found] == [len(part) for part in parts]
    assert (found[-1].tokens, found[-1].complete) == (len(ids), True)
    rows = np.stack([model.encode_tokens(window.ids) for window in found])
    mean = np.average(rows, axis=0, weights=[window.weight for window in found]).astype(np.float32)
    assert np.allclose(model.encode(text, overflow="mean", prompt=""), unit(mean), atol=1e-6)


def test_a_prompt_that_leaves_no_room(words):
    with pytest.raises(InputError, match="leaves no room"):
        words.encode("red", prompt="red " * 40, overflow="mean")


def test_the_policy_of_the_instance(tiny_model):
    with Embedder(tiny_model, overflow="error", weight_cache="memory") as model:
        with pytest.raises(TextTooLongError):
            model.encode(LONG)
        model.encode(LONG, overflow="mean")


# Dimensions


def test_truncate_dim_cuts_and_normalizes(model, path):
    full = model.encode(TEXTS)
    cut = model.encode(TEXTS, truncate_dim=4)
    assert np.allclose(cut, unit(full[:, :4]), atol=1e-6)
    assert np.allclose(model.encode(TEXTS, truncate_dim=4, normalize_embeddings=False), full[:, :4])
    assert np.array_equal(model.encode(TEXTS, truncate_dim=8), full)
    with Embedder(path, truncate_dim=4, weight_cache="memory") as small:
        assert small.get_embedding_dimension() == small.get_sentence_embedding_dimension() == 4
        assert np.array_equal(small.encode(TEXTS), cut)
        assert small.encode(TEXTS, truncate_dim=2).shape == (3, 2)


@pytest.mark.parametrize("dimension", [0, -1, 9, 10**9, 1.5, "4", True])
def test_truncate_dim_out_of_range(model, path, dimension):
    with pytest.raises(InputError, match="truncate_dim"):
        model.encode(TEXTS, truncate_dim=dimension)
    with pytest.raises(InputError, match="truncate_dim"):
        Embedder(path, truncate_dim=dimension)


def test_options_are_checked_when_they_are_set(path):
    with Embedder(path, weight_cache="memory") as model:
        for dimension in (9999, 0, -1, 2.0, True, "4"):
            with pytest.raises(InputError, match="truncate_dim"):
                model.truncate_dim = dimension
        model.truncate_dim = 4
        with pytest.raises(InputError, match="no prompt of that name"):
            model.default_prompt_name = "nonsense"
        assert model.encode(TEXTS).shape == (3, 4)
        model.truncate_dim = model.default_prompt_name = None
        assert model.encode(TEXTS).shape == (3, 8)


def test_a_model_that_does_not_normalize_is_cut_and_left(tmp_path, build_model):
    path = build_model(tmp_path / "x.tflite", normalize=False)
    with Embedder(path, weight_cache="memory") as model:
        full = model.encode(TEXTS)
        assert np.array_equal(model.encode(TEXTS, truncate_dim=4), full[:, :4])
        cut = model.encode(TEXTS, truncate_dim=4, normalize_embeddings=True)
        assert np.allclose(cut, unit(full[:, :4]), atol=1e-6)


# Prompts


def test_prompts_by_task(model):
    query, document = model.prompts["query"], model.prompts["document"]
    assert np.array_equal(model.encode_query("red"), model.encode(query + "red"))
    assert np.array_equal(model.encode_query("red"), model.encode("red", "query"))
    assert np.array_equal(model.encode_query("red", prompt=""), model.encode("red"))
    assert np.array_equal(model.encode_query("red", "document"), model.encode(document + "red"))
    assert np.array_equal(model.encode_document("red"), model.encode("red", prompt=document))


def test_document_prompts_by_other_names_and_none(tmp_path, build_model):
    for index, (prompts, used) in enumerate(
        [
            ({"corpus": "c: ", "passage": "p: "}, "p: "),
            ({"corpus": "c: "}, "c: "),
            ({"other": "o: "}, ""),
            ({}, ""),
        ]
    ):
        path = build_model(tmp_path / f"{index}.tflite", prompts=prompts)
        with Embedder(path, weight_cache="memory") as model:
            assert np.array_equal(model.encode_document("red"), model.encode(used + "red"))
            assert np.array_equal(model.encode_query("red"), model.encode("red"))


def test_the_default_prompt(tmp_path, build_model):
    path = build_model(tmp_path / "x.tflite", default_prompt_name="query")
    with Embedder(path, weight_cache="memory") as model:
        assert np.array_equal(model.encode("red"), model.encode_query("red"))
    with Embedder(path, weight_cache="memory", default_prompt_name="document") as model:
        assert model.default_prompt_name == "document"
        assert np.array_equal(model.encode("red"), model.encode_document("red"))


def test_unknown_prompts_list_the_known_ones(model, path):
    with pytest.raises(InputError, match="query, document"):
        model.encode("red", "Query")
    with pytest.raises(InputError, match="query, document"):
        Embedder(path, default_prompt_name="nothing")
    with pytest.raises(InputError, match="not a text"):
        model.encode("red", prompt=3)


def test_titles_take_their_place_in_the_prompt(model):
    def plain(text):
        return model.encode(text)

    rows = model.encode_document(["red", "water", "stone"], titles=["planet", None, " "])
    assert np.array_equal(rows[0], plain("title: planet | text: red"))
    assert np.array_equal(rows[1], plain("title: none | text: water"))
    assert np.array_equal(rows[2], plain("title: none | text: stone"))
    assert np.array_equal(model.encode_document("red", titles="planet"), rows[0])
    assert np.array_equal(model.encode_document(["red", "red"], titles="planet"), rows[[0, 0]])
    assert np.array_equal(model.encode_document("red", titles=["planet"]), rows[0])
    assert np.array_equal(
        model.encode_document("red", prompt="text: ", titles="planet"), plain("text: planet red")
    )


def test_titles_that_do_not_fit(model):
    with pytest.raises(InputError, match="2 titles for 1 texts"):
        model.encode_document("red", titles=["a", "b"])
    with pytest.raises(InputError, match="item 1 is not a text"):
        model.encode_document(["red", "red"], titles=["a", 3])


# Options


@pytest.mark.parametrize(
    "options",
    [
        {"overflow": "explode"},
        {"overflow": None},
        {"num_threads": 0},
        {"num_threads": -1},
        {"num_threads": 10**6},
        {"num_threads": 2.0},
        {"num_threads": True},
        {"weight_cache": ""},
        {"weight_cache": None},
        {"weight_cache": 5},
    ],
)
def test_options_that_cannot_be_used(path, options):
    with pytest.raises(InputError):
        Embedder(path, **options)


def test_arguments_that_cannot_be_used(model):
    for options in ({"overflow": "explode"}, {"batch_size": 0}, {"batch_size": "8"}, {"batch_size": True}):
        with pytest.raises(InputError):
            model.encode("red", **options)


def test_integers_of_numpy(path, model):
    for batch_size in (np.int64(8), np.uint8(1)):
        assert np.array_equal(model.encode("red", batch_size=batch_size), model.encode("red"))
    for batch_size in (np.int32(0), np.float32(8), np.bool_(True), None):
        with pytest.raises(InputError, match="batch_size"):
            model.encode("red", batch_size=batch_size)
    with Embedder(path, num_threads=np.int64(1), weight_cache="memory") as one:
        assert np.array_equal(one.encode("red"), model.encode("red"))
    with pytest.raises(InputError, match="1 to 256"):
        Embedder(path, num_threads=np.int64(257))


def test_the_other_arguments_of_sentence_transformers(model):
    texts = ["red", "the sea"]
    given = {
        "convert_to_numpy": True,
        "convert_to_tensor": False,
        "precision": "float32",
        "output_value": "sentence_embedding",
    }
    for encode in (model.encode, model.encode_query, model.encode_document):
        plain = encode(texts)
        for device in (None, "cpu"):
            assert np.array_equal(encode(texts, device=device, **given), plain)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("convert_to_numpy", False, "True"),
        ("convert_to_numpy", 1, "True"),
        ("convert_to_tensor", True, "False"),
        ("precision", "int8", "'float32'"),
        ("precision", np.array(["float32"] * 2), "'float32'"),
        ("device", "cuda", "None or 'cpu'"),
        ("output_value", "token_embeddings", "'sentence_embedding'"),
        ("output_value", None, "'sentence_embedding'"),
    ],
)
def test_what_else_sentence_transformers_can_do(model, name, value, expected):
    for encode in (model.encode, model.encode_query, model.encode_document):
        with pytest.raises(InputError, match=f"{name} cannot be used") as caught:
            encode("red", **{name: value})
        assert caught.value.expected == expected


def test_an_unknown_argument(model):
    for encode in (model.encode, model.encode_query, model.encode_document):
        with pytest.raises(TypeError, match="normalise_embeddings"):
            encode("red", normalise_embeddings=True)


def test_positional_arguments_in_the_order_of_sentence_transformers(model):
    assert np.array_equal(model.encode(["red"], "query", None, 16, False), model.encode_query(["red"]))


def test_token_ids_that_cannot_be_used(model):
    for ids in ([], [2] * 33, [512], [-1], [2, 10**12, 1]):
        with pytest.raises(InputError):
            model.encode_tokens(ids)
    assert model.encode_tokens(np.array([2, 5, 1])).shape == (8,)


def test_a_progress_bar_only_when_asked_for(model, capsys):
    model.encode(TEXTS)
    assert capsys.readouterr().err == ""
    model.encode(TEXTS, show_progress_bar=True)
    assert "0/3" in capsys.readouterr().err


def test_tokenize_adds_specials_and_cuts_nothing(words):
    assert words.tokenize("red")[0][0] == 2
    assert words.tokenize([LONG, "red"])[0][-1] == 3
    assert len(words.tokenize([LONG])[0]) == 102


def test_what_it_says_of_itself(model, path):
    assert repr(model) == f"Embedder({str(path)!r}, recipe='fp32', dimension=8, max_seq_length=32)"
    assert (model.device, model.max_seq_length, model.similarity_fn_name) == ("cpu", 32, "cosine")
    assert model.manifest.name == "tiny"


def test_similarity(model):
    rows = model.encode(TEXTS)
    assert np.allclose(model.similarity(rows, rows), rows @ rows.T, atol=1e-6)
    assert model.similarity(rows[0], rows).shape == (1, 3)
    assert np.allclose(model.similarity_pairwise(rows, rows), 1.0, atol=1e-6)
    with pytest.raises(InputError, match="truncate_dim"):
        model.similarity(rows, rows[:, :4])
