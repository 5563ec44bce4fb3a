"""`Embedder`: sentence-transformers' names and semantics, and every input that can go wrong."""

import copy
import hashlib
import os
import pickle
import subprocess
import sys
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_embed import EdgeEmbedError, Embedder
from edge_embed._litert import Engine
from edge_embed._modelfile import ModelFile, write_model_file
from edge_embed.errors import (
    InputError,
    ModelFileError,
    RuntimeFailure,
    TextTooLongError,
    TokenizerError,
    TruncationWarning,
)

TEXTS = ["the red planet", "water and stone", "birds fly home before night"]
LONG = " ".join(["seven small birds fly home"] * 20)


@pytest.fixture(scope="module", params=["tiny_model", "tiny_sentencepiece_model"])
def path(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def model(path):
    with Embedder(path, weight_cache="memory") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def words(tiny_model):
    """A model with one id per word, for counting."""
    with Embedder(tiny_model, weight_cache="memory") as loaded:
        yield loaded


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_shapes(model):
    rows = model.encode(TEXTS)
    assert (rows.shape, rows.dtype) == ((3, 8), np.float32)
    assert model.encode(TEXTS[0]).shape == (8,)
    assert model.encode([TEXTS[0]]).shape == (1, 8)
    assert np.array_equal(model.encode(TEXTS[1]), rows[1])
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)


def test_the_same_texts_in_other_containers(model):
    rows = model.encode(TEXTS)
    for same in (tuple(TEXTS), np.array(TEXTS), iter(TEXTS), (t for t in TEXTS)):
        assert np.array_equal(model.encode(same), rows)
    assert np.array_equal(model.encode(np.array(TEXTS[0])), rows[0])
    assert np.array_equal(model.encode(np.str_(TEXTS[0])), rows[0])


def test_an_empty_list(model):
    for empty in ([], (), np.array([], dtype=str)):
        assert model.encode(empty).shape == (0, 8)
    assert model.encode([], truncate_dim=4).shape == (0, 4)
    assert model.encode_document([], titles=[]).shape == (0, 8)
    assert model.similarity(model.encode([]), model.encode(TEXTS)).shape == (0, 3)


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t  ", "🙂", "\0", "a\0b\0", "ﷺ", "e\u0301" * 9, "<eos>", "[SEP]"]
)
def test_unusual_texts_have_vectors(model, text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        vector = model.encode(text)
    assert np.isfinite(vector).all()
    assert np.isclose(np.linalg.norm(vector), 1.0, atol=1e-6)


def test_a_megabyte_of_text(model):
    text = "the red planet " * 70_000
    with pytest.warns(TruncationWarning):
        vector = model.encode(text)
    assert np.isfinite(vector).all()
    with pytest.raises(TextTooLongError):
        model.encode(text, overflow="error")


@given(texts=st.lists(st.text(max_size=60), max_size=4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore::edge_embed.errors.TruncationWarning")
def test_any_texts(model, texts):
    rows = model.encode(texts)
    assert rows.shape == (len(texts), 8)
    assert np.isfinite(rows).all()


@pytest.mark.parametrize(
    "sentences", [None, 3, b"bytes", {"a": 1}, ["a", None], ["a", 3], [b"a"], [["a", "b"]], object()]
)
def test_what_is_no_text(model, sentences):
    for encode in (model.encode, model.encode_query, model.encode_document, model.tokenize):
        with pytest.raises(InputError):
            encode(sentences)


@pytest.mark.parametrize(
    "sentences",
    [{"a", "b"}, frozenset("a"), set(), {"a": 1}.keys(), {1: "a"}.values(), {"a": "b"}.items()],
)
def test_texts_without_an_order(model, sentences):
    for encode in (model.encode, model.encode_query, model.encode_document, model.tokenize):
        with pytest.raises(InputError, match="without an order") as caught:
            encode(sentences)
        assert type(sentences).__name__ in str(caught.value)


def test_a_lone_surrogate_is_named(model):
    with pytest.raises(InputError, match="text 1 holds a lone surrogate") as caught:
        model.encode(["fine", "bad \ud83d"])
    assert "position 4" in str(caught.value)
    assert model.encode(str(caught.value.got).encode("utf-8", "replace").decode()).shape == (8,)


def test_errors_are_values_errors_too(model):
    with pytest.raises(ValueError, match="not a text"):
        model.encode([3])


def test_the_smallest_bucket_that_fits(words, monkeypatch):
    used = []
    run = Engine.run
    monkeypatch.setattr(
        Engine, "run", lambda self, length, ids: used.append(length) or run(self, length, ids)
    )
    for count in (1, 6, 7, 14, 15, 30):
        words.encode(" ".join(["red"] * count))
    assert used == [8, 8, 16, 16, 32, 32]


def test_padding_does_not_change_a_vector(words):
    ids = words.tokenize(["the red planet"])[0]
    rows = [words._load().run(length, ids) for length in (8, 16, 32)]
    assert np.allclose(rows, rows[0], atol=1e-6)


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
    for index, (prompts, used) in enumerate([
        ({"corpus": "c: ", "passage": "p: "}, "p: "), ({"corpus": "c: "}, "c: "),
        ({"other": "o: "}, ""), ({}, ""),
    ]):  # fmt: skip
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
        {"overflow": "explode"}, {"overflow": None}, {"num_threads": 0}, {"num_threads": -1},
        {"num_threads": 10**6}, {"num_threads": 2.0}, {"num_threads": True},
        {"weight_cache": ""}, {"weight_cache": None}, {"weight_cache": 5},
    ],
)  # fmt: skip
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
        "convert_to_numpy": True, "convert_to_tensor": False, "precision": "float32",
        "output_value": "sentence_embedding",
    }  # fmt: skip
    for encode in (model.encode, model.encode_query, model.encode_document):
        plain = encode(texts)
        for device in (None, "cpu"):
            assert np.array_equal(encode(texts, device=device, **given), plain)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("convert_to_numpy", False, "True"), ("convert_to_numpy", 1, "True"),
        ("convert_to_tensor", True, "False"), ("precision", "int8", "'float32'"),
        ("precision", np.array(["float32"] * 2), "'float32'"), ("device", "cuda", "None or 'cpu'"),
        ("output_value", "token_embeddings", "'sentence_embedding'"),
        ("output_value", None, "'sentence_embedding'"),
    ],
)  # fmt: skip
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


# Life cycle


def test_close(path):
    model = Embedder(path, weight_cache="memory")
    model.close()
    model.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        model.encode("red")


def test_pickle_and_copy(model, path, monkeypatch, tmp_path):
    with Embedder(path, truncate_dim=4, overflow="mean", num_threads=1, weight_cache="memory") as small:
        monkeypatch.chdir(tmp_path)
        for same in (pickle.loads(pickle.dumps(small)), copy.deepcopy(small)):
            assert repr(same) == repr(small)
            assert np.array_equal(same.encode(LONG), small.encode(LONG))
            same.close()


def test_a_relative_path_survives_a_change_of_directory(path, monkeypatch, tmp_path):
    monkeypatch.chdir(path.parent)
    model = Embedder(path.name, weight_cache="memory")
    monkeypatch.chdir(tmp_path)
    assert model.encode("red").shape == (8,)


def test_threads_get_the_answers_of_one_thread(model):
    texts = [f"{word} {n}" for n, word in enumerate(["red", "water", "stone", LONG[:20]] * 8)]
    expected = model.encode(texts)
    answers = {}

    def work(index):
        answers[index] = [model.encode(text) for text in texts]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert all(np.array_equal(rows, expected) for rows in answers.values())


def test_instances_made_in_threads_at_once(path):
    rows = []

    def work():
        with Embedder(path) as model:
            rows.append(model.encode("red planet"))

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows) == 5
    assert all(np.array_equal(row, rows[0]) for row in rows)


# Broken models and backends


def test_a_missing_tokenizer(tmp_path, build_model, tiny_manifest):
    record = replace(tiny_manifest.tokenizer, file="tokenizer.model")
    path = build_model(tmp_path / "x.tflite", tokenizer=record, self_check=tiny_manifest.self_check)
    with pytest.raises(TokenizerError, match="tokenizer is missing"):
        Embedder(path)


def test_a_graph_without_a_signature_of_the_manifest(tmp_path, build_model, tiny_manifest):
    path = build_model(tmp_path / "x.tflite", buckets=[8, 16, 32, 64], self_check=tiny_manifest.self_check)
    with pytest.raises(ModelFileError, match="signature embed_64"):
        Embedder(path)


def test_a_graph_of_another_dimension(tmp_path, build_model, tiny_manifest):
    check = replace(tiny_manifest.self_check, embedding="AAAAAAAAgD8=")
    path = build_model(tmp_path / "x.tflite", dimension=2, matryoshka_dimensions=[2], self_check=check)
    with pytest.raises(ModelFileError, match="shape that the manifest"):
        Embedder(path)


def test_a_flatbuffer_that_litert_refuses(tmp_path, build_model, tiny_manifest, tiny_graph, capfd):
    from edge_embed._manifest import MANIFEST_NAME
    from edge_embed._modelfile import ModelFile, write_model_file

    graph = tiny_graph[:8] + b"\xff" * 4000
    record = replace(tiny_manifest, graph=replace(tiny_manifest.graph, bytes=len(graph)))
    path = tmp_path / "x.tflite"
    members = {MANIFEST_NAME: record.to_json().encode(), "tokenizer.json": b"{}"}
    write_model_file(path, graph, members)
    file = ModelFile.open(path)
    with pytest.raises(RuntimeFailure, match="LiteRT cannot load"):
        Engine(file.path, file.manifest, 1, ":memory")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("bad", [np.full(8, np.nan), np.full(8, np.inf), np.zeros(8)])
def test_a_vector_that_cannot_be_used_is_never_returned(path, monkeypatch, bad):
    with Embedder(path, weight_cache="memory", self_check=False) as model:
        monkeypatch.setattr(Engine, "_invoke", lambda *_: bad.astype(np.float32))
        with pytest.raises(RuntimeFailure, match="cannot be used"):
            model.encode("red")


def test_opposite_windows_have_no_mean(words, monkeypatch):
    signs = iter([1.0, -1.0] * 50)
    monkeypatch.setattr(Engine, "run", lambda *_: np.full(8, next(signs), dtype=np.float32))
    with pytest.raises(RuntimeFailure, match="without a direction"):
        words.encode("red " * 60, overflow="mean")


# Processes

ISOLATED = """
import os, sys, warnings
warnings.simplefilter("error")
from edge_embed import Embedder
"""


def run_python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", ISOLATED + code, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_nothing_is_printed_from_load_to_exit(path):
    code = (
        "m = Embedder(sys.argv[1]); m.encode(['red', 'red ' * 12, 'red ' * 20], overflow='mean'); "
        "print(m.encode_query('x').shape)"
    )
    assert run_python(code, path) == "(8,)\n"
    assert run_python(code + "; m.close()", path) == "(8,)\n"


REFUSED = """
from edge_embed import EdgeEmbedError
for file in sys.argv[1:]:
    try:
        m = Embedder(file, weight_cache='memory')
        print(m.encode('red').shape)
    except EdgeEmbedError as error:
        print(type(error).__name__)
"""


def test_nothing_is_printed_when_a_graph_is_refused(path, tmp_path):
    """Neither alone, where nothing ever ran, nor around a graph that runs."""
    file = ModelFile.open(path)
    manifest = file.manifest
    graph = path.read_bytes()[: manifest.graph.bytes]
    # Another schema version: garbage would do, were it not that LiteRT may crash on it.
    newer, root = bytearray(graph), int.from_bytes(graph[:4], "little")
    vtable = root - int.from_bytes(graph[root : root + 4], "little", signed=True)
    newer[root + int.from_bytes(graph[vtable + 4 : vtable + 6], "little")] = 9
    longer = replace(manifest, buckets=[*manifest.buckets, 64])
    bad = [tmp_path / "newer.tflite", tmp_path / "signature.tflite"]
    for target, content, described in zip(bad, (bytes(newer), graph), (manifest, longer), strict=True):
        digest = replace(manifest.graph, sha256=hashlib.sha256(content).hexdigest())
        members = {name: file.read(name) for name in file.names}
        members["edge_embed.json"] = replace(described, graph=digest).to_json().encode()
        write_model_file(target, content, members)
    assert run_python(REFUSED, bad[0]) == "RuntimeFailure\n"
    assert run_python(REFUSED, bad[1]) == "ModelFileError\n"
    assert run_python(REFUSED, *bad, path, bad[0]) == "RuntimeFailure\nModelFileError\n(8,)\nRuntimeFailure\n"


def test_importing_loads_only_numpy():
    code = "print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = run_python(code)
    for name in (
        "ai_edge_litert",
        "tokenizers",
        "sentencepiece",
        "tqdm",
        "torch",
        "edge_embed_convert",
        "ctypes_",
    ):
        assert repr(name) not in loaded
    assert "'numpy'" in loaded


def test_only_the_tokenizer_that_a_file_needs_is_imported(tiny_model, tiny_sentencepiece_model):
    code = (
        "m = Embedder(sys.argv[1]); m.encode('red'); "
        "print(*({'tokenizers', 'sentencepiece'} & set(sys.modules)))"
    )
    assert run_python(code, tiny_model) == "tokenizers\n"
    assert run_python(code, tiny_sentencepiece_model) == "sentencepiece\n"


FORK = """
import threading
m = Embedder(sys.argv[1])
before = m.encode('the red planet').tobytes()
stop = threading.Event()
busy = threading.Thread(target=lambda: [m.encode('water') for _ in iter(stop.is_set, True)])
busy.start()
for leave in (os._exit, sys.exit):
    for _ in range(4):
        child = os.fork()
        if not child:
            same = m.encode('the red planet').tobytes() == before
            other = Embedder(sys.argv[1]).encode('the red planet').tobytes() == before
            leave(0 if same and other else 3)
        assert os.waitpid(child, 0)[1] == 0
    unused = os.fork()
    if not unused:
        del m
        leave(0)
    assert os.waitpid(unused, 0)[1] == 0
stop.set()
busy.join()
assert m.encode('the red planet').tobytes() == before
print('ok')
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_while_another_thread_runs(path):
    assert run_python("warnings.simplefilter('ignore', DeprecationWarning)\n" + FORK, path) == "ok\n"


def test_multiprocessing_with_spawn(path):
    code = (
        "import multiprocessing, operator\n"
        "m = Embedder(sys.argv[1])\n"
        "with multiprocessing.get_context('spawn').Pool(2) as pool:\n"
        "    rows = pool.map(m.encode, ['red', 'water', 'red'])\n"
        "print((rows[0] == rows[2]).all(), (rows[0] == m.encode('red')).all())\n"
    )
    assert run_python(code, path) == "True True\n"


def test_every_error_is_ours(path):
    assert issubclass(InputError, EdgeEmbedError)
    with pytest.raises(EdgeEmbedError):
        Embedder(path.with_name("missing.tflite"))
