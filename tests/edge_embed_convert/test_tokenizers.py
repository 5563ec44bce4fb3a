"""The tokenizer that goes into the file gives the checkpoint's own ids, or nothing is written."""

from __future__ import annotations

import copy
import functools
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from edge_embed._tokenizer import load_tokenizer
from edge_embed.errors import CheckpointError
from edge_embed_convert import sentencepiece_bpe
from edge_embed_convert.tokenizer_texts import HOSTILE_TEXTS
from edge_embed_convert.tokenizers import ConvertedTokenizer, convert_tokenizer

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
    learned = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    pieces = [*SPECIAL, *RUNS, *(f"<0x{b:02X}>" for b in range(256))]
    pieces += [piece for piece, _ in learned if piece not in pieces]
    pieces += [char for char in "\n\t\u2581" if char not in pieces]
    # Runs merge first, as in Gemma; then the pieces in the order in which they were learned.
    compound = [*RUNS, *(piece for piece, _ in learned if len(piece) > 1 and piece not in RUNS)]
    merges = [[p[:k], p[k:]] for p in compound for k in range(1, len(p)) if p[:k] in pieces and p[k:] in pieces]
    added = [
        {"id": i, "content": p, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": p in SPECIAL}
        for i, p in enumerate(pieces[: len(SPECIAL) + len(RUNS)])
    ]  # fmt: skip
    bos, eos = ({"id": token, "ids": [SPECIAL.index(token)], "tokens": [token]} for token in ("<bos>", "<eos>"))
    around = [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
              {"SpecialToken": {"id": "<eos>", "type_id": 0}}]  # fmt: skip
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                          "invert": False},
        "post_processor": {"type": "TemplateProcessing", "single": around, "pair": around,
                           "special_tokens": {"<bos>": bos, "<eos>": eos}},
        "decoder": None,
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": merges},
    })  # fmt: skip


def _spec() -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(_small_bpe())
    return spec


def _size() -> int:
    return len(_spec()["model"]["vocab"])


def _write(directory: Path, tokenizer: Any = None, *, config: dict[str, Any] | None = None, **files: Any) -> Path:
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
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), ("a", -3.0), ("ab", -3.5)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


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


@pytest.mark.parametrize("text", ["\x00", "a\x00\x00b", "<bos>the<eos>", "<unk>", "\u2581the", "a\u2581\u2581b", "🫠"])
def test_odd_texts_agree(converted: ConvertedTokenizer, source: Tokenizer, text: str) -> None:
    assert _agrees(converted, source, [text])


def test_the_stated_exception_is_what_is_said(converted: ConvertedTokenizer, source: Tokenizer) -> None:
    assert "U+2581" in converted.note
    spaces = load_tokenizer(converted.record, converted.data).encode
    assert spaces("\u2581\u2581 a") == source.encode("   a", add_special_tokens=False).ids


_ALPHABET = st.one_of(
    st.sampled_from("the cat sandb,  \n\t\u2581котна今天é"),
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
    record = ConvertedRecord(data)
    return Tokenizer.from_str(_small_bpe()), load_tokenizer(record, data)


def ConvertedRecord(data: bytes) -> Any:  # noqa: N802
    from edge_embed._manifest import TokenizerRecord

    return TokenizerRecord("tokenizer.model", "sentencepiece", "", False, 0, [2], [1], _size())


def _unclosed(spec: dict[str, Any]) -> None:
    spec["model"]["merges"].remove(["the"[:1], "the"[1:]] if ["t", "he"] in spec["model"]["merges"] else spec["model"]["merges"][-1])
